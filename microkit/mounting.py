"""ASGI applications below a path of ours."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from .call import Reply
from .endpoint import Binding, Endpoint
from .errors import ClientDisconnect, StartupError
from .http import HTTPConnection, Request, Response
from .http.paths import root_length
from .routing.groups import Mounted
from .triggers import Route, SocketRoute
from .websocket import WebSocket

if TYPE_CHECKING:
    from .app import App

_logger = logging.getLogger("microkit.mount")


def mount_bindings(mounted: Mounted) -> list[Binding]:
    """The bindings that pass everything at and below a path to the application mounted there."""
    base = "" if mounted.path == "/" else mounted.path
    name = mounted.name or f"mount {mounted.path}"
    bindings = []
    for path in (base or "/", f"{base}/{{mounted_path:path}}"):
        for trigger, handler, options in (
            (Route(path), _http_handler(mounted), {"task_group": True, "max_body_size": None}),
            (SocketRoute(path), _socket_handler(mounted), {"raw": True, "check_origin": False}),
        ):
            bindings.append(Binding(Endpoint(handler, name=name), trigger, options))
    return bindings if base else bindings[2:]


def _child_scope(call: HTTPConnection) -> dict[str, Any]:
    scope, rest = call.scope, call.path_params.get("mounted_path")
    root = (scope.get("root_path") or "").rstrip("/")
    path = scope["path"] if root_length(scope) else root + scope["path"]
    # Prefixes of groups, parameters and encoded slashes make the text differ from the pattern of the mount: ours is
    # what is left of the path when the rest is taken away.
    own = path if rest is None else path[: len(path) - len(rest) - 1]
    return {**scope, "path": path, "root_path": own, "app_root_path": scope.get("app_root_path", root)}


def _http_handler(mounted: Mounted) -> Any:
    async def handle(call: Request) -> Reply:
        events, reply_stream = anyio.create_memory_object_stream[Any](0)
        child = anyio.CancelScope()
        # What we do not pass on must not be offered; state that no server keeps is ours.
        scope = {**_child_scope(call), "extensions": {}, "state": call.scope_state}
        replay = call._body is not None
        bodyless = call.method == "HEAD"

        async def receive() -> Any:
            nonlocal replay
            if replay:  # a middleware read the body already
                replay = False
                return {"type": "http.request", "body": call._body, "more_body": False}
            return await call.receive()

        async def send(event: Any) -> None:
            nonlocal bodyless
            if event["type"] == "http.response.start":
                bodyless = bodyless or event["status"] in (204, 304)
            elif bodyless:
                return
            try:
                await events.send(event)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise ConnectionResetError("the client is gone") from None  # as the ASGI specification wants it

        async def run() -> None:
            async with events:
                with child:
                    try:
                        await mounted.app(scope, receive, send)
                    except Exception as exc:
                        await _report(events, mounted, exc)

        call.__dict__["task_group"].start_soon(run)
        try:
            start = await _start(reply_stream, mounted)
        except BaseException:
            reply_stream.close()
            child.cancel()
            raise
        reply = Response(b"", start["status"])
        reply.raw_headers = [(bytes(name).lower(), bytes(value)) for name, value in start.get("headers", ())]
        reply.body = _Pieces(reply_stream, child, complete=bodyless)
        return reply

    return handle


async def _report(events: Any, mounted: Mounted, exc: Exception) -> None:
    try:
        await events.send(exc)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        if not isinstance(exc, OSError | ClientDisconnect):  # these only say that nobody reads the reply any more
            _logger.error("the application mounted at %s failed after its reply", mounted.path, exc_info=exc)


async def _start(stream: Any, mounted: Mounted) -> Any:
    """The event that begins the reply; what comes before it is none of ours."""
    async for event in stream:
        if isinstance(event, Exception):
            raise event
        if event["type"] == "http.response.start":
            return event
    raise RuntimeError(f"the application mounted at {mounted.path} ended without a reply")


class _Pieces(AsyncIterator[bytes]):
    """The body of a mounted application's reply. An object, so that it can be closed without having been started.

    Args:
        stream: its events.
        child: cancelled when the body is given up before its end; an application that has sent everything may go on
            with tasks of its own.
        complete: there is no body to wait for.
    """

    def __init__(self, stream: Any, child: anyio.CancelScope, *, complete: bool) -> None:
        self._stream = stream
        self._child = child
        self._complete = complete

    async def __anext__(self) -> bytes:
        while not self._complete:
            try:
                event = await self._stream.receive()
            except anyio.EndOfStream:
                raise RuntimeError("a mounted application ended in the middle of its reply") from None
            if isinstance(event, Exception):
                raise event
            if event["type"] == "http.response.body":
                self._complete = not event.get("more_body", False)
                if event.get("body"):
                    return bytes(event["body"])
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Take no more of it."""
        self._stream.close()
        if not self._complete:
            self._child.cancel()


def _socket_handler(mounted: Mounted) -> Any:
    async def handle(ws: WebSocket) -> None:
        connected = False

        async def receive() -> Any:
            nonlocal connected
            if not connected:  # the handshake was read by us already
                connected = True
                return {"type": "websocket.connect"}
            event = await ws._receive()
            if event["type"] == "websocket.disconnect":
                ws.closed, ws.close_code = True, event.get("code", 1005)
            return event

        async def send(event: Any) -> None:
            if event["type"] == "websocket.accept":
                ws.accepted = True
            elif event["type"] in ("websocket.close", "websocket.http.response.start"):
                ws.closed, ws.close_code = True, event.get("code", 1000)
            await ws._send_event(event)

        await mounted.app({**_child_scope(ws), "state": ws.scope_state}, receive, send)

    return handle


@asynccontextmanager
async def mounted_lifespan(app: App, mounted: Mounted) -> AsyncGenerator[None]:
    """Run the lifespan of a mounted application, in a task of its own; one without a lifespan is left alone."""
    to_child, child_receives = anyio.create_memory_object_stream[Any](math.inf)
    child_sends, from_child = anyio.create_memory_object_stream[Any](math.inf)
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": app.runtime.state}

    async def run() -> None:
        async with child_sends:
            try:
                await mounted.app(scope, child_receives.receive, child_sends.send)
            except Exception as exc:
                # Raising at start means "no lifespan here" (ASGI lifespan specification).
                await child_sends.send({"type": "unsupported", "exc": exc})

    async def answer(kind: str) -> None:
        try:
            event = await from_child.receive()
        except anyio.EndOfStream:
            return
        if event["type"] == f"lifespan.{kind}.failed":
            raise StartupError(f"The application mounted at {mounted.path} failed: {event.get('message', '')}")

    with to_child, child_receives, child_sends, from_child:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await to_child.send({"type": "lifespan.startup"})
            await answer("startup")
            yield
            await to_child.send({"type": "lifespan.shutdown"})
            await answer("shutdown")
            group.cancel_scope.cancel()
