"""What users say about dependencies: `Depends`, `Provider`, `ServiceProvider`, `tag`, `inject`, and their registry.

How dependencies are resolved is in `resolve`, how they run in `graph`.
"""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin

from . import annotations
from .call import MISSING
from .errors import ConfigurationError

if TYPE_CHECKING:
    from .container import Container

T = TypeVar("T")
Key = Any  # a type, a callable or a string


class Scope(enum.IntEnum):
    """How long an instance lives; a longer life is a higher number. Nothing may hold what lives shorter than itself."""

    CALL = 0
    BACKGROUND = 1
    CONNECTION = 2
    APP = 3

    @classmethod
    def of(cls, value: Scope | str | None) -> Scope | None:
        """A scope from its lower-case name; `request` is another name of `call`.

        Raises:
            ConfigurationError: there is no such scope.
        """
        if value is None or isinstance(value, Scope):
            return value
        try:
            return cls["CALL" if value == "request" else value.upper()]
        except KeyError:
            names = ", ".join(repr(scope.name.lower()) for scope in cls)
            raise ConfigurationError(f"There is no scope {value!r}. Use one of {names}.") from None


class Depends:
    """Marker: this parameter is the result of a dependency. Use as a default or in `Annotated[T, Depends(f)]`.

    Args:
        dependency: callable, class, generator function, or the key of a registered service (type or string); None takes
            the annotation.
        use_cache: share one result among all uses in a call.
        scope: `call` (default), `background`, `connection` or `app`.
        thread: run a sync dependency in a worker thread instead of on the event loop.
    """

    __slots__ = ("dependency", "scope", "thread", "use_cache")

    def __init__(
        self, dependency: Key = None, *, use_cache: bool = True, scope: Scope | str | None = None, thread: bool = False
    ) -> None:
        self.dependency = dependency
        self.use_cache = use_cache
        self.scope = Scope.of(scope)
        self.thread = thread

    def __repr__(self) -> str:
        return f"Depends({annotations.describe(self.dependency)})"


class Tagged:
    """Marker: this parameter is the lazy collection of all services with a tag, a `TaggedServices`.

    Args:
        name: the tag.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


@dataclass(eq=False)
class Provider:
    """How the service of a key is made.

    Attributes:
        key: type or string that asks for it.
        factory: class or callable whose parameters are injected; sync, async or generator.
        value: the instance itself instead of a factory.
        scope: how long it lives; None: as long as what it holds allows, at most the application.
        tags: its tags, in order.
        on_startup, on_shutdown: hooks of an app-scoped service; the second gets the instance.
        plugin: who contributed it.
    """

    key: Key
    factory: Callable[..., Any] | None = None
    value: Any = MISSING
    scope: Scope | str | None = None
    tags: tuple[str, ...] = ()
    on_startup: Callable[..., Any] | None = None
    on_shutdown: Callable[..., Any] | None = None
    plugin: str = ""

    def __post_init__(self) -> None:
        hooked = self.on_startup is not None or self.on_shutdown is not None
        self.scope = Scope.APP if hooked and self.scope is None else Scope.of(self.scope)
        if hooked and self.scope is not Scope.APP:
            raise ConfigurationError(f"Only a service of scope 'app' has start and stop hooks; {self.key!r} has not.")
        if self.factory is None and self.value is MISSING:
            if not callable(self.key):
                raise ConfigurationError(f"The provider of {self.key!r} has neither a factory nor a value.")
            self.factory = self.key
        self.tags = (*self.tags, *(tag for tag in tags_of(self.factory) if tag not in self.tags))
        if inspect.isclass(self.key):
            self.tags = (*self.tags, *(tag for tag in tags_of(self.key) if tag not in self.tags))

    def __str__(self) -> str:
        where = annotations.location(self.factory) if self.factory is not None else "a value"
        return f"{annotations.describe(self.key)} ({where})"


class ServiceProvider:
    """A group of services. Subclass it and yield from `services`."""

    def services(self) -> Iterable[Any]:
        """Yield classes, `(key, factory)` or `(key, instance)` pairs, or `Provider`s.

        A factory takes injectable parameters, or one plain parameter: the container.
        """
        return ()


_TAGS = "__microkit_tags__"
_INJECT = "__microkit_inject__"


def tag(name: str) -> Callable[[T], T]:
    """Mark a class or function with a tag; several stack. The object is returned unchanged otherwise.

    Args:
        name: the tag, such as `controller`.
    """

    def mark(obj: T) -> T:
        own = vars(obj).get(_TAGS, ()) if hasattr(obj, "__dict__") else ()
        setattr(obj, _TAGS, (name, *own))  # decorators run from the inside out: keep reading order
        return obj

    return mark


def tags_of(obj: Any) -> tuple[str, ...]:
    """The tags of a class or function, its own only (tags are not inherited)."""
    return tuple(vars(obj).get(_TAGS, ())) if hasattr(obj, "__dict__") else ()


def inject(**dependencies: Any) -> Callable[[T], T]:
    """Pass dependencies to a function or method by argument name; the payload stays positional.

    Args:
        dependencies: per argument a `Depends`, a key or callable, or an object with `__microkit_depends__()`.
    """

    def mark(func: T) -> T:
        setattr(func, _INJECT, {**getattr(func, _INJECT, {}), **{k: as_depends(v) for k, v in dependencies.items()}})
        return func

    return mark


def injected(obj: Any) -> dict[str, Depends]:
    """What `inject` said about a function."""
    return {**getattr(annotations.unwrap(obj), _INJECT, {}), **getattr(obj, _INJECT, {})}


def as_depends(value: Any) -> Depends:
    """`value` as a `Depends`: itself, or a key or callable wrapped."""
    if isinstance(value, Depends):
        return value
    convert = getattr(value, "__microkit_depends__", None)
    if convert is not None:
        return convert()
    if not callable(value) and not isinstance(value, str):
        raise ConfigurationError(
            f"{value!r} cannot be injected: give a Depends(...), a callable, or the key of a registered service."
        )
    return Depends(value)


def class_dependencies(cls: type) -> dict[str, Depends]:
    """Dependencies declared as class attributes (`producer = Depends(make_producer)`), base classes first."""
    found: dict[str, Depends] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Depends) or hasattr(type(value), "__microkit_depends__"):
                found[name] = as_depends(value)
    return found


class Registry:
    """All providers of one application, by key."""

    def __init__(self) -> None:
        self._providers: dict[Key, Provider] = {}

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._providers.values())

    def __contains__(self, key: Key) -> bool:
        return key in self._providers

    def get(self, key: Key) -> Provider | None:
        """The provider that is registered under `key` itself."""
        return self._providers.get(key)

    def add(self, provider: Provider) -> None:
        """Add or replace the provider of a key."""
        self._providers[provider.key] = provider

    def remove(self, key: Key) -> None:
        """Forget a key; no error if it is unknown."""
        self._providers.pop(key, None)

    def add_services(self, source: Any, plugin: str = "") -> None:
        """Add what a `ServiceProvider` (or any iterable of services) yields."""
        for item in source.services() if hasattr(source, "services") else source:
            self.add(as_provider(item, plugin))

    def register(
        self,
        name: str,
        factory: Callable[..., Any],
        *,
        scope: Scope | str = Scope.APP,
        on_startup: Callable[..., Any] | None = None,
        on_shutdown: Callable[..., Any] | None = None,
    ) -> None:
        """Register a named service, injected by `Depends("name")`.

        Args:
            name: its key.
            factory: makes it; parameters are injected.
            scope: `app` or `call`.
            on_startup, on_shutdown: hooks of an app-scoped service; the second gets the instance.
        """
        self.add(Provider(name, factory, scope=scope, on_startup=on_startup, on_shutdown=on_shutdown))

    def tagged(self, name: str) -> list[Provider]:
        """The providers with a tag, in order of registration."""
        return [provider for provider in self if name in provider.tags]

    def find(self, key: Key) -> Provider | None:
        """The provider of `key`: exact, else the only one whose type implements it.

        Raises:
            LookupError: several implement it and none is registered under the key itself.
        """
        try:
            if key in self._providers:
                return self._providers[key]
        except TypeError:  # unhashable annotation
            return None
        matches = [provider for provider in self if implements(provider.key, key)]
        if len(matches) > 1:
            names = ", ".join(map(str, matches))
            raise LookupError(
                f"several services implement {annotations.describe(key)}: {names}; register one of them under that key "
                f"itself, as (key, factory), or ask for the class you mean"
            )
        return matches[0] if matches else None


def as_provider(item: Any, plugin: str = "") -> Provider:
    """One item of `services()` as a `Provider`.

    Raises:
        ConfigurationError: the item is none of the documented shapes.
    """
    if isinstance(item, Provider):
        item.plugin = item.plugin or plugin
        return item
    if inspect.isclass(item):
        return Provider(item, plugin=plugin)
    if isinstance(item, tuple) and len(item) == 2:
        key, made = item
        if callable(made) and (inspect.isclass(made) or inspect.isroutine(made) or not _is_instance(made, key)):
            return Provider(key, made, plugin=plugin)
        return Provider(key, value=made, plugin=plugin)
    raise ConfigurationError(
        f"services() yielded {item!r}; yield a class, (key, factory), (key, instance) or Provider."
    )


def _is_instance(value: Any, key: Key) -> bool:
    return inspect.isclass(key) and isinstance(value, key)


def implements(candidate: Key, wanted: Key) -> bool:
    """Whether a service of key `candidate` may stand in for the type `wanted`: subclass, generic base or protocol.

    A built-in type is implemented by itself alone: a `dict` parameter does not mean a service that derives from it.
    """
    origin = get_origin(candidate) or candidate
    base = get_origin(wanted) or wanted
    if not inspect.isclass(origin) or not inspect.isclass(base) or base is Generic or base.__module__ == "builtins":
        return False
    if base is not wanted:
        return wanted in _generic_bases(candidate)
    if getattr(wanted, "_is_protocol", False) and wanted not in origin.__mro__:
        members = _protocol_members(wanted)
        declared = {name for base in origin.__mro__ for name in getattr(base, "__annotations__", ())}
        return bool(members) and all(hasattr(origin, name) or name in declared for name in members)
    return wanted in origin.__mro__


_protocol_members: Callable[[Any], Iterable[str]] = (
    getattr(typing, "get_protocol_members", None) or typing._get_protocol_attrs  # type: ignore[attr-defined]  # until 3.13
)


def _generic_bases(tp: Any) -> Iterator[Any]:
    """All parametrised bases of a class or alias, type variables replaced on the way: `Repo[User]` of `UserRepo`."""
    origin = get_origin(tp) or tp
    known = dict(zip(getattr(origin, "__parameters__", ()), get_args(tp), strict=False))
    for base in vars(origin).get("__orig_bases__", origin.__bases__):
        if get_origin(base) in (Generic, typing.Protocol):
            continue
        if get_origin(base) is not None and base.__parameters__:
            base = base[tuple(known.get(each, each) for each in base.__parameters__)]
        yield base
        yield from _generic_bases(base)


class TaggedServices:
    """The services of one tag, made one by one as they are iterated with `async for`."""

    def __init__(self, container: Container, name: str) -> None:
        self._container = container
        self._providers = container.registry.tagged(name)

    def __len__(self) -> int:
        return len(self._providers)

    @property
    def keys(self) -> list[Key]:
        """The services' keys, nothing built."""
        return [provider.key for provider in self._providers]

    async def __aiter__(self) -> AsyncIterator[Any]:
        for provider in self._providers:
            yield await self._container.get(provider.key)
