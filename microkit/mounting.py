"""ASGI applications below a path of ours."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from .call import Reply
from .endpoint import Binding, Endpoint
from .errors import ClientDisconnect, StartupError
from .http import Request, Response
from .routing.groups import Mounted
from .triggers import Route, SocketRoute
from .websocket import WebSocket

if TYPE_CHECKING:
    from .app import App


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


def _child_scope(mounted: Mounted, scope: dict[str, Any]) -> dict[str, Any]:
    base = "" if mounted.path == "/" else mounted.path
    root = scope.get("root_path") or ""
    # Parameters in the mount path make its real text differ from the pattern: take as many segments of the path.
    depth = len([part for part in base.split("/") if part])
    below = scope["path"][len(root) :] if scope["path"].startswith(root) else scope["path"]
    own = "/".join(below.split("/")[: depth + 1])
    return {**scope, "root_path": root + own, "app_root_path": scope.get("app_root_path", root)}


def _http_handler(mounted: Mounted) -> Any:
    async def handle(call: Request) -> Reply:
        send_reply, reply_stream = anyio.create_memory_object_stream[Any](0)
        scope = _child_scope(mounted, call.scope)

        async def receive() -> Any:
            return await call.receive()

        async def run() -> None:
            async with send_reply:
                try:
                    await mounted.app(scope, receive, send_reply.send)
                except (anyio.BrokenResourceError, ClientDisconnect):
                    pass  # nobody reads the reply any more
                except Exception as exc:
                    await send_reply.send(exc)

        call.__dict__["task_group"].start_soon(run)
        while True:
            try:
                event = await reply_stream.receive()
            except anyio.EndOfStream:
                raise RuntimeError(f"the application mounted at {mounted.path} ended without a reply") from None
            if isinstance(event, Exception):
                raise event
            if event["type"] == "http.response.start":
                break
        reply = Response(b"", event["status"])
        reply.raw_headers = [(bytes(name).lower(), bytes(value)) for name, value in event.get("headers", ())]
        reply.body = _pieces(reply_stream)
        return reply

    return handle


async def _pieces(stream: Any) -> AsyncIterator[bytes]:
    async with stream:
        async for event in stream:
            if isinstance(event, Exception):
                raise event
            if event["type"] == "http.response.body":
                if event.get("body"):
                    yield bytes(event["body"])
                if not event.get("more_body", False):
                    return
        raise RuntimeError("a mounted application ended in the middle of its reply")


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
            await ws._send(event)

        await mounted.app(_child_scope(mounted, ws.scope), receive, send)

    return handle


@asynccontextmanager
async def mounted_lifespan(app: App, mounted: Mounted) -> AsyncIterator[None]:
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

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await to_child.send({"type": "lifespan.startup"})
        await answer("startup")
        yield
        await to_child.send({"type": "lifespan.shutdown"})
        await answer("shutdown")
        group.cancel_scope.cancel()
