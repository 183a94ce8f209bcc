"""What is a handler: decided once, from what the user wrote in the bodies of the site's own classes.

Nothing is looked up by a name that a client sent. A function is a handler if it was written with `def` in the body of a
class that derives from `App` or `Root`, and has a public name; all else that a class or an instance has is not.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from microkit import ConfigurationError, Route
from microkit.annotations import location
from microkit.routing.controllers import marked_bindings

F = TypeVar("F", bound=Callable[..., Any])
Function = Callable[..., Any]

_logger = logging.getLogger("microkit.auto")
_MARK = "__microkit_auto__"
_ASIDE = "__microkit_auto_aside__"
FRAMEWORK: set[type] = set()
"""The classes of this package that sites derive from: their members are nobody's handlers."""

# Decorators of `App` under the plainest of names. Inside of the framework nobody calls them, so a handler may have the
# name: it is reached by its path, and the attribute stays what it is.
_SHORTCUTS = frozenset("get post put patch delete head options route websocket every".split())  # noqa: SIM905


@dataclass(frozen=True)
class Mark:
    """What `handler` says of a function.

    Attributes:
        methods: HTTP methods; None for every usual one.
        options: of its binding.
    """

    methods: tuple[str, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def handler(*methods: str, **options: Any) -> Callable[[F], F]:
    """Declare a method of a site a handler, and say more of it than its name does.

    It restricts the HTTP methods, sets options, and makes a handler of what is none by its name or origin: a function
    that was not written in the class, one with the name of a member of `App`, or a private one, which is reached only
    when a middleware calls `reroute`.

    Args:
        methods: HTTP methods that it answers; none: GET, HEAD, POST, PUT, PATCH and DELETE.
        options: as `app.on` takes them, such as `timeout=5` or `inline=True`.

    Raises:
        ConfigurationError: something is no HTTP method.
    """
    if any(not isinstance(method, str) for method in methods):
        raise ConfigurationError("`handler` is called before it decorates: write @handler() or @handler('GET').")
    mark = Mark(Route("/", methods).methods if methods else None, options)

    def decorate(func: F) -> F:
        target: Any = func
        if not inspect.isfunction(target):
            raise ConfigurationError(f"@handler() goes above a method, and {func!r} is none: it takes no `self`.")
        setattr(func, _MARK, mark)
        return func

    return decorate


def mark_of(func: Function) -> Mark | None:
    """What `handler` said of a function; None if it was not asked."""
    return func.__dict__.get(_MARK)


def set_aside(cls: type) -> None:
    """Move handlers out of the way that have the name of a member of the framework, so that both work.

    Args:
        cls: a class that was just made.

    Raises:
        ConfigurationError: such a function does not say that it is a handler, and as a method it would break something.
    """
    aside: dict[str, tuple[Function, type]] = {}
    for name, member in _framework_members(cls).items():
        home = _home(cls, name)
        value = vars(home)[name]
        if value is member or not inspect.isfunction(value) or not _is_site(home):
            continue  # what a mixin puts in the place of a member is meant to be there
        if marked_bindings(value) is not None or (name not in _SHORTCUTS and mark_of(value) is None):
            raise ConfigurationError(
                f"{home.__qualname__}.{name} at {location(value)} would replace a member of the framework. Put "
                f"@handler() above it to reach it at /{name} and leave the member what it is, or choose another name."
            )
        aside[name] = value, home
        if home is cls:
            delattr(cls, name)
        if _is_site(_home(cls, name)):  # of a base that is used where there is no such member
            setattr(cls, name, member)
    setattr(cls, _ASIDE, aside)


def _is_framework(cls: type) -> bool:
    return cls in FRAMEWORK or cls.__module__.partition(".")[0] == "microkit"


def _is_site(cls: type) -> bool:
    return not _is_framework(cls) and not FRAMEWORK.isdisjoint(cls.__mro__)


def _framework_members(cls: type) -> dict[str, Any]:
    """The public attributes of the framework's classes in the MRO."""
    bases = [base for base in reversed(cls.__mro__) if _is_framework(base)]
    return {name: value for base in bases for name, value in vars(base).items() if not name.startswith("_")}


def _home(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


def handlers_of(cls: type) -> Iterator[tuple[str, Function, Any]]:
    """Name, function and home of all handlers of a class, private ones included.

    The first class of the MRO that has a name decides, so a mixin or a later class can take a handler away.
    """
    seen: set[str] = set()
    for base in cls.__mro__:
        if _is_framework(base):
            continue
        own: dict[str, tuple[Any, type]] = {name: (value, base) for name, value in vars(base).items()}
        for name, (value, home) in {**own, **vars(base).get(_ASIDE, {})}.items():
            if name in seen:
                continue
            seen.add(name)
            if _is_handler(name, value, home):
                yield name, value, home


def _is_handler(name: str, value: Any, base: type) -> bool:
    if not inspect.isfunction(value):
        # A static or class method, a property, a cached property or a partial method of a function.
        inner = [getattr(value, attribute, None) for attribute in ("__wrapped__", "fget", "func")]
        if _is_site(base) and any(inspect.isfunction(each) and mark_of(each) is not None for each in inner):
            raise ConfigurationError(
                f"{base.__qualname__}.{name} has @handler(), but another decorator has made a {type(value).__name__} "
                f"of it; a handler is a function that takes `self`."
            )
        return False
    if not _is_site(base) or marked_bindings(value) is not None:
        return False
    if mark_of(value) is not None:
        return not name.startswith("__")
    if name.startswith("_"):
        return False
    written = value.__qualname__ == f"{base.__qualname__}.{value.__name__}" and value.__name__ != "<lambda>"
    if not written:
        _logger.warning(
            "%s.%s is no handler, since it was not written in the body of that class (%s); if it is meant to be one, "
            "put @handler() on it, or functools.wraps into its decorator",
            base.__qualname__,
            name,
            location(value),
        )
    return written
