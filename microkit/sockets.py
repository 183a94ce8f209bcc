"""Serving WebSockets: the core of their plans, and the ASGI side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio

from . import dispatch
from .call import Reply
from .errors import ConnectionClosed, PublicError, StatusCode, alone
from .websocket import WebSocket

if TYPE_CHECKING:
    from .app import App


def socket_handler(run: Callable[..., Any], awaited: bool) -> Callable[..., Any]:
    """A SOCKET handler with the scope that a disconnect cancels.

    Returns:
        A callable that takes the socket before the arguments of the handler.
    """

    async def handle(ws: WebSocket, *args: Any) -> Any:
        result = None
        with anyio.CancelScope() as ws._handler_scope:
            ws.cancel_if_abandoned()
            try:
                result = run(*args)
                if awaited:
                    result = await result
            except* ConnectionClosed:
                pass  # the usual end of a loop that reads, also in a task of the handler
        if ws._handler_scope.cancelled_caught:
            raise ConnectionClosed(ws.close_code or 1006, ws.close_reason)
        return result

    return handle


def socket_reply(ws: WebSocket, result: Any) -> Reply:
    """The reply of a handler that did not fail: what it returned before accepting, else the close code."""
    reply = result if isinstance(result, Reply) and not ws.accepted else Reply()
    reply.close_code = ws.close_code if ws.closed else (reply.close_code or 1000)
    return reply


def close_code(ws: WebSocket, reply: Reply) -> int:
    """The code that a socket is, or is to be, closed with."""
    if ws.closed and ws.close_code is not None:
        return ws.close_code
    if reply.error is None:
        return reply.close_code or 1000
    return 1008 if isinstance(reply.error, PublicError) else 1011


async def serve_socket(app: App, scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve one ASGI WebSocket."""
    first = await receive()
    if first["type"] != "websocket.connect":
        return
    ws = WebSocket(receive, send, scope)
    ws.app = app
    ws.max_message_size = app.settings.max_websocket_message
    table = app.table.sockets
    ws.plan, ws.values = table.match("WEBSOCKET", scope, ws)
    if ws.plan.options.get("check_origin", True):
        try:
            ws.check_origin()
        except PublicError as exc:  # refused before anything of the handler runs, by way of its group's middleware
            ws.plan, ws.values = table.refuse("WEBSOCKET", exc, ws)

    async def deliver(reply: Reply) -> None:
        try:
            await _finish_socket(ws, reply)
        except ConnectionClosed:
            pass  # the client was quicker

    if ws.plan.options.get("raw"):
        # A mounted application talks ASGI itself.
        await dispatch.run(ws, deliver)
        return
    ws._watched = True
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(ws.watch)
            await dispatch.run(ws, deliver)
            group.cancel_scope.cancel()
    except BaseExceptionGroup as failed:
        raise alone(failed) from None


async def _finish_socket(ws: WebSocket, reply: Reply) -> None:
    if ws.closed:
        return
    if not ws.accepted:
        await _deny(ws, reply)
        return
    code = close_code(ws, reply)
    reason = ""
    if reply.error is not None and not isinstance(reply.error, ConnectionClosed):
        reason = reply.error.detail if isinstance(reply.error, PublicError) else "internal error"
    await ws.close(code, reason.encode()[:123].decode(errors="ignore"))


async def _deny(ws: WebSocket, reply: Reply) -> None:
    """Reject a handshake, with the reply itself where the server can send one (ASGI denial response)."""
    ws.closed = True
    ws.close_code = reply.close_code
    if "websocket.http.response" not in ws.scope.get("extensions", {}):
        await ws._send(
            {
                "type": "websocket.close",
                "code": 1008 if reply.close_code in (None, 1000) else reply.close_code,
                "reason": "",
            }
        )
        return
    status = reply.http_status
    if reply.status is StatusCode.OK and status < 300:
        status = 403  # a handler that returned without accepting denies the connection
    body = reply.body if isinstance(reply.body, bytes) else b""
    headers = [pair for pair in reply.raw_headers if pair[0] != b"content-length"]
    headers.append((b"content-length", b"%d" % len(body)))
    await ws._send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await ws._send({"type": "websocket.http.response.body", "body": body, "more_body": False})
