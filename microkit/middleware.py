"""Middleware for every kind of call, and the before/after classes as one form of it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, overload

from . import annotations
from .annotations import Parameter
from .call import Call, Kind, Reply, RpcRequest, Tick
from .codecs import is_json
from .errors import ConfigurationError
from .http import HTTPConnection, Request, Response
from .http.response import checked_status
from .messages import Message
from .websocket import WebSocket

CallNext = Callable[[Any], Awaitable[Reply]]
Middleware = Callable[..., Awaitable[Reply]]


@dataclass(eq=False)
class MiddlewareSpec:
    """A middleware and where it applies.

    Attributes:
        middleware: `async def f(call, call_next, ...) -> Reply`, an object with such a `__call__`, or a class whose
            instances are. Further parameters are injected; a class is made once per app, its constructor injected.
            It may await `call_next` again, after the first time ended: each run has scopes of its own. Two at a time
            would leave each other's scopes.
        kinds: kinds that it wraps; None: by the annotation of its first parameter.
        guard: start-up fails if a plan of its group lacks it.
        options: keyword arguments for the constructor of a class.
        automatic: contributed to every app that has the plugin installed.
        plugin: who contributed it.
    """

    middleware: Any
    kinds: Kind | None = None
    guard: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    automatic: bool = False
    plugin: str = ""

    @property
    def name(self) -> str:
        """For `explain` and errors."""
        target = self.middleware
        return annotations.describe(target)

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters of the call itself."""
        target = self.middleware
        if inspect.isclass(target):
            return annotations.parameters(target.__call__)[1:]
        return annotations.parameters(target)

    def wraps(self, kind: Kind) -> bool:
        """Whether it belongs into plans of that kind."""
        return kind in (self.kinds if self.kinds is not None else self._inferred())

    def _inferred(self) -> Kind:
        if isinstance(self.middleware, _BeforeAfter | _BeforeAfterSocket):
            return self.middleware.kinds
        parameters = self.parameters
        if len(parameters) < 2 and not any(each.variadic for each in parameters):
            raise ConfigurationError(
                f"The middleware {self.name} at {annotations.location(self.middleware)} must take the call and "
                f"call_next: async def {self.name.rpartition('.')[2]}(request, call_next)."
            )
        first = parameters[0]
        if first.annotation in _KINDS:
            return _KINDS[first.annotation]
        if first.annotation is annotations.Empty:
            return _NAMES.get(first.name, Kind.all())
        if inspect.isclass(first.annotation) and issubclass(first.annotation, Call):
            return first.annotation.kind
        return Kind.all()


_KINDS: dict[Any, Kind] = {
    Call: Kind.all(),
    Request: Kind.HTTP | Kind.SOCKET,
    HTTPConnection: Kind.HTTP | Kind.SOCKET,
    WebSocket: Kind.SOCKET,
    RpcRequest: Kind.RPC,
    Message: Kind.MESSAGE | Kind.BATCH,
    Tick: Kind.TICK,
}
_NAMES = {
    "request": Kind.HTTP | Kind.SOCKET,
    "ws": Kind.SOCKET,
    "websocket": Kind.SOCKET,
    "message": Kind.MESSAGE | Kind.BATCH,
    "tick": Kind.TICK,
}


# -- before/after classes ----------------------------------------------------------------------------------------------


class HttpMiddleware:
    """Middleware in two halves; override either. Both may be sync or async."""

    async def before_request(self, request: Request) -> dict[str, Any] | None:
        """Runs before the handler.

        Returns:
            None to go on, or a dict with `status_code`, `body` and `headers` (each optional) to answer at once.
        """
        return None

    async def after_request(
        self, request: Request, status_code: int, response_body: Any, extra_headers: list[tuple[str, str]]
    ) -> dict[str, Any] | None:
        """Runs after the handler, in reverse order, also for errors and short-circuits.

        Args:
            status_code: HTTP status of the reply.
            response_body: bytes, or the async iterator of a stream.
            extra_headers: a copy of the reply's headers.

        Returns:
            None, or a dict with `status_code`, `body` or `headers` to replace them.
        """
        return None


class WebSocketMiddleware:
    """WebSocket middleware in two halves; override either. Both may be sync or async."""

    async def before_websocket(self, request: WebSocket) -> dict[str, Any] | None:
        """Runs before the handler; a dict with `code` and `reason` (each optional) rejects the connection."""
        return None

    async def after_websocket(self, request: WebSocket) -> None:
        """Runs after the handler, also when it failed."""


class _BeforeAfter:
    """An `HttpMiddleware` as an onion layer."""

    kinds = Kind.HTTP

    def __init__(self, inner: HttpMiddleware) -> None:
        self.inner = inner
        self.__name__ = self.__qualname__ = type(inner).__qualname__

    async def __call__(self, request: Request, call_next: CallNext) -> Reply:
        answer = await _maybe(self.inner.before_request(request))
        reply = await call_next(request) if answer is None else _changed(Response(), _checked(answer), request)
        pairs = reply.headers.items_multi()
        change = await _maybe(self.inner.after_request(request, reply.http_status, reply.body, pairs))
        return reply if change is None else _changed(reply, _checked(change), request)


class _BeforeAfterSocket:
    """A `WebSocketMiddleware` as an onion layer."""

    kinds = Kind.SOCKET

    def __init__(self, inner: WebSocketMiddleware) -> None:
        self.inner = inner
        self.__name__ = self.__qualname__ = type(inner).__qualname__

    async def __call__(self, ws: WebSocket, call_next: CallNext) -> Reply:
        answer = await _maybe(self.inner.before_websocket(ws))
        try:
            if answer is None:
                return await call_next(ws)
            await ws.close(answer.get("code", 1008), answer.get("reason"))
            return Reply(http_status=403, close_code=answer.get("code", 1008))
        finally:
            await _maybe(self.inner.after_websocket(ws))


async def _maybe(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(answer) - {"status_code", "body", "headers"})
    if unknown:
        raise TypeError(f"a middleware answers with status_code, body and headers, not with {', '.join(unknown)}")
    return answer


def _changed(reply: Reply, change: dict[str, Any], request: Request) -> Reply:
    if "body" in change:
        body = b"" if change["body"] is None else change["body"]
        response = request.app.renderers.owned(body)
        # Length and tag belong to the old body; its type stays, unless the new body decides that by itself.
        dropped = {b"content-length", b"etag"}
        old_type = reply.headers.get("content-type", "")
        if old_type and (isinstance(body, str | bytes) or response.streams or is_json(old_type)):
            response.headers.pop("content-type", None)
        else:
            dropped.add(b"content-type")
        response.raw_headers += [pair for pair in reply.raw_headers if pair[0] not in dropped]
        response.http_status, response.error, response.close_code = reply.http_status, reply.error, reply.close_code
        reply = response
    if "status_code" in change:
        reply.http_status = checked_status(change["status_code"])
    _set_headers(reply, change.get("headers"))
    return reply


def _set_headers(reply: Reply, headers: Any) -> None:
    view = reply.headers
    for name, value in headers.items() if hasattr(headers, "items") else headers or ():
        if name.lower() == "set-cookie":
            view.add(name, value)
        else:
            view[name] = value


def as_spec(middleware: Any, *, kinds: Kind | None = None, guard: bool = False, **options: Any) -> MiddlewareSpec:
    """Anything that `add_middleware` takes, as a `MiddlewareSpec`.

    Raises:
        ConfigurationError: it cannot be called as a middleware, or options are given for something that is no class.
    """
    if isinstance(middleware, MiddlewareSpec):
        return middleware
    if isinstance(middleware, HttpMiddleware):
        return MiddlewareSpec(_BeforeAfter(middleware), kinds, guard)
    if isinstance(middleware, WebSocketMiddleware):
        return MiddlewareSpec(_BeforeAfterSocket(middleware), kinds, guard)
    if inspect.isclass(middleware):
        if issubclass(middleware, HttpMiddleware | WebSocketMiddleware):
            return as_spec(middleware(**options), kinds=kinds, guard=guard)
        if not annotations.is_async(getattr(middleware, "__call__", None)):  # noqa: B004
            raise ConfigurationError(
                f"The middleware class {annotations.describe(middleware)} needs `async def __call__`."
            )
        return MiddlewareSpec(middleware, kinds, guard, options)
    if options:
        raise ConfigurationError(
            f"The middleware {annotations.describe(middleware)} is no class, so it takes no options: "
            f"{', '.join(options)}."
        )
    if not callable(middleware):
        raise ConfigurationError(f"A middleware must be `async def f(request, call_next)`, not {middleware!r}.")
    if not annotations.is_async(middleware):
        raise ConfigurationError(
            f"The middleware {annotations.describe(middleware)} at {annotations.location(middleware)} must be "
            f"`async def`."
        )
    return MiddlewareSpec(middleware, kinds, guard)


class MiddlewareList(Sequence[Any]):
    """What `app.middlewares` is: what is appended wraps every call, in this order; closed once the app runs."""

    def __init__(self, add: Callable[[Any], None]) -> None:
        self._add = add
        self._items: list[Any] = []

    def append(self, item: Any) -> None:
        """Add one, inside of those that are there.

        Raises:
            ConfigurationError: it is no middleware, or the application runs.
        """
        self._add(item)
        self._items.append(item)

    def extend(self, items: Iterable[Any]) -> None:
        """Add several, in order."""
        for item in items:
            self.append(item)

    def __iadd__(self, items: Iterable[Any]) -> Self:
        self.extend(items)
        return self

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)
