"""Decorators that need no app: marks on functions and methods, bound when something that holds them is included."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from microkit.endpoint import Binding, Endpoint, caller_locals
from microkit.triggers import Route, SocketRoute, Trigger

if TYPE_CHECKING:
    from .groups import Router

F = TypeVar("F", bound=Callable[..., Any])
_MARKS = "__microkit_bindings__"
_MARKED = "__microkit_marked__"


def on(trigger: Trigger, **options: Any) -> Callable[[F], F]:
    """Mark a function or method with a trigger; several stack. It is returned unchanged.

    Args:
        trigger: what starts it.
        options: as `app.on` takes them.
    """
    return _mark(trigger, options, caller_locals())


def _mark(trigger: Trigger, options: dict[str, Any], localns: dict[str, Any] | None) -> Callable[[F], F]:
    body = sys._getframe(2).f_locals

    def mark(func: F) -> F:
        func.__dict__.setdefault(_MARKS, []).append((trigger, options, localns))
        if "__qualname__" in body and func not in body.setdefault(_MARKED, []):
            body[_MARKED].append(func)  # in the body of a class: a later method of the same name must not hide it
        return func

    return mark


def route(path: str, methods: str | Iterable[str] | None = None, **options: Any) -> Callable[[F], F]:
    """Mark with a route.

    Args:
        path: pattern.
        methods: one or several methods; None answers every method.
    """
    return _mark(Route(path, methods), options, caller_locals())


def _verb(method: str, path: str, **options: Any) -> Callable[[F], F]:
    """Mark with a route of one method."""
    return _mark(Route(path, method), options, caller_locals())


get, post, put, patch, delete, head, options, trace, connect = (
    partial(_verb, method)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT")
)


def websocket(path: str, **options: Any) -> Callable[[F], F]:
    """Mark with a WebSocket route."""
    return _mark(SocketRoute(path), options, caller_locals())


def marked_bindings(obj: Any, group: Router | None = None) -> list[Binding] | None:
    """The bindings of a marked function, of a class with marked methods, or of an instance of one; None if unmarked.

    A class is an injected owner: an instance is made per call, or is the registered service. Two methods of one class
    may share a name.
    """
    if inspect.isroutine(obj):
        return [_bind(obj, mark, None) for mark in getattr(obj, _MARKS, ())] or None
    if inspect.isclass(obj):
        return [_bind(func, mark, obj) for func in _functions(obj) for mark in func.__dict__[_MARKS]] or None
    return [
        _bind(func.__get__(obj), mark, None) for func in _functions(type(obj)) for mark in func.__dict__[_MARKS]
    ] or None


def _functions(cls: type) -> Iterator[Any]:
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    for name in names:
        func = inspect.getattr_static(cls, name)
        home = next(base for base in cls.__mro__ if name in vars(base))
        for hidden in vars(home).get(_MARKED, ()):
            if hidden.__name__ == name and hidden.__dict__[_MARKS] is not getattr(func, _MARKS, None):
                yield hidden
        if inspect.isfunction(func) and _MARKS in func.__dict__:
            yield func


def _bind(func: Any, mark: tuple[Trigger, dict[str, Any], Any], owner: Any) -> Binding:
    trigger, options, localns = mark
    return Binding(Endpoint(func, owner=owner, localns=localns), trigger, dict(options))
