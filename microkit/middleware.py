"""Middleware for every kind of call, and the before/after classes as one form of it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from . import annotations
from .call import Call, Kind, Message, Reply, RpcRequest, Tick
from .errors import ConfigurationError
from .http import HTTPConnection, Request, Response
from .websocket import WebSocket

CallNext = Callable[[Any], Awaitable[Reply]]
Middleware = Callable[..., Awaitable[Reply]]


@dataclass(eq=False)
class MiddlewareSpec:
    """A middleware and where it applies.

    Attributes:
        middleware: `async def f(call, call_next, ...) -> Reply`, an object with such a `__call__`, or a class whose
            instances are. Further parameters are injected; a class is made once per app, its constructor injected.
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
    def parameters(self) -> list[annotations.Parameter]:
        """The parameters of the call itself."""
        target = self.middleware
        if inspect.isclass(target):
            return annotations.parameters(getattr(target, "__call__"))[1:]  # noqa: B004
        return annotations.parameters(target)

    def wraps(self, kind: Kind) -> bool:
        """Whether it belongs into plans of that kind."""
        return kind in (self.kinds if self.kinds is not None else self._inferred())

    def _inferred(self) -> Kind:
        parameters = self.parameters
        if len(parameters) < 2 and not any(each.variadic for each in parameters):
            raise ConfigurationError(
                f"The middleware {self.name} at {annotations.location(self.middleware)} must take the call and call_next: "
                f"async def {self.name.rpartition('.')[2]}(request, call_next)."
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

    def __init__(self, inner: HttpMiddleware) -> None:
        self.inner = inner
        self.__name__ = self.__qualname__ = type(inner).__qualname__

    async def __call__(self, request: Request, call_next: CallNext) -> Reply:
        answer = await _maybe(self.inner.before_request(request))
        reply = await call_next(request) if answer is None else _from_dict(answer)
        pairs = reply.headers.items_multi()
        change = await _maybe(self.inner.after_request(request, reply.http_status, reply.body, pairs))
        return reply if change is None else _changed(reply, change)


class _BeforeAfterSocket:
    """A `WebSocketMiddleware` as an onion layer."""

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


def _from_dict(answer: dict[str, Any]) -> Response:
    from .renderers import http_body

    unknown = sorted(set(answer) - {"status_code", "body", "headers"})
    if unknown:
        raise TypeError(f"a middleware answers with status_code, body and headers, not with {', '.join(unknown)}")
    response = http_body(answer.get("body", b""))
    response.http_status = answer.get("status_code", 200)
    _set_headers(response, answer.get("headers"))
    return response


def _changed(reply: Reply, change: dict[str, Any]) -> Reply:
    if "body" in change:
        response = _from_dict({"body": change["body"], "status_code": reply.http_status})
        # The old length and type belong to the old body.
        kept = [pair for pair in reply.raw_headers if pair[0] not in (b"content-length", b"content-type", b"etag")]
        response.raw_headers += kept
        response.error = reply.error
        reply = response
    if "status_code" in change:
        reply.http_status = change["status_code"]
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
        return MiddlewareSpec(_BeforeAfter(middleware), kinds or Kind.HTTP, guard)
    if isinstance(middleware, WebSocketMiddleware):
        return MiddlewareSpec(_BeforeAfterSocket(middleware), kinds or Kind.SOCKET, guard)
    if inspect.isclass(middleware):
        if issubclass(middleware, HttpMiddleware | WebSocketMiddleware):
            return as_spec(middleware(**options), kinds=kinds, guard=guard)
        if not annotations.is_async(getattr(middleware, "__call__", None)):  # noqa: B004
            raise ConfigurationError(f"The middleware class {annotations.describe(middleware)} needs `async def __call__`.")
        return MiddlewareSpec(middleware, kinds, guard, options)
    if options:
        raise ConfigurationError(
            f"The middleware {annotations.describe(middleware)} is no class, so it takes no options: "
            f"{', '.join(options)}."
        )
    if not annotations.is_async(middleware):
        raise ConfigurationError(
            f"The middleware {annotations.describe(middleware)} at {annotations.location(middleware)} must be `async def`."
        )
    return MiddlewareSpec(middleware, kinds, guard)


class MiddlewareList(list[Any]):
    """The list behind `app.middlewares`: what is appended wraps every call; closed once the app runs."""

    def __init__(self, add: Callable[[Any], None], items: Iterable[Any] = ()) -> None:
        super().__init__()
        self._add = add
        for item in items:
            self.append(item)

    def append(self, item: Any) -> None:
        self._add(item)
        super().append(item)

    def extend(self, items: Iterable[Any]) -> None:
        for item in items:
            self.append(item)

    def __iadd__(self, items: Iterable[Any]) -> MiddlewareList:  # type: ignore[override,misc]
        self.extend(items)
        return self

    def insert(self, index: Any, item: Any) -> None:
        raise ConfigurationError("Middleware is ordered by appending; build the list in its final order instead.")

    def __setitem__(self, index: Any, item: Any) -> None:
        self.insert(index, item)
