"""Serving WebSockets: the core of their plans, and the ASGI side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from . import dispatch
from .call import Reply
from .errors import ConnectionClosed, PublicError, StatusCode
from .graph import Exit, leave_scope
from .websocket import WebSocket

if TYPE_CHECKING:
    from .app import App
    from .plan import Invoke, Plan


def socket_core(plan: Plan) -> Invoke:
    """The core of a SOCKET plan: origin check, call scope, handler under a scope that a disconnect cancels."""
    run, awaited = plan._execute()
    failed, steps = plan._failed, plan.inner
    template, slots = steps.template, [steps.slots[node] for node in plan.nodes]
    has_outer, grace = not plan.outer.idle, plan.app.settings.teardown_timeout
    checks_origin = plan.options.get("check_origin", True)

    async def core(ws: WebSocket) -> Reply:
        exits: list[Exit] = []
        ws._exits = exits
        if ws._late_exits is None:
            ws._late_exits = []
        if has_outer:
            frame = ws._frame
        else:
            frame = ws._frame = template[:]
            frame[0] = ws
        error: BaseException | None = None
        reply = Reply()
        with anyio.CancelScope() as ws._handler_scope:
            try:
                if checks_origin:
                    ws.check_origin()
                await steps.run(frame, exits, ws._late_exits)
                result = run(*[frame[i] for i in slots])
                if awaited:
                    result = await result
                if isinstance(result, Reply) and not ws.accepted:
                    reply = result
            except Exception as exc:
                error = exc
                reply = failed(ws, exc)
            except BaseException as exc:
                # The client left, or the server stops: teardowns see it, then the cancellation goes on.
                await leave_scope(exits, exc, grace)
                raise
            failure = await leave_scope(exits, error, grace) if exits else None
            if failure is not None:
                reply = failed(ws, failure) if isinstance(failure, Exception) else reply
        reply.close_code = _close_code(ws, reply)
        return reply

    return core


def _close_code(ws: WebSocket, reply: Reply) -> int:
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
    ws.plan, ws.values = app.table.sockets.match("WEBSOCKET", scope, ws)

    async def deliver(reply: Reply) -> None:
        await _finish_socket(ws, reply)

    if ws.plan.options.get("raw"):
        # A mounted application talks ASGI itself.
        await dispatch.run(ws, deliver)
        return
    async with anyio.create_task_group() as group:
        group.start_soon(ws.pump)
        await dispatch.run(ws, deliver)
        group.cancel_scope.cancel()


async def _finish_socket(ws: WebSocket, reply: Reply) -> None:
    if ws.closed:
        return
    if not ws.accepted:
        await _deny(ws, reply)
        return
    code = reply.close_code or 1000
    reason = ""
    if reply.error is not None and not isinstance(reply.error, ConnectionClosed):
        reason = reply.error.detail if isinstance(reply.error, PublicError) else "internal error"
    await ws.close(code, reason.encode()[:123].decode(errors="ignore"))


async def _deny(ws: WebSocket, reply: Reply) -> None:
    """Reject a handshake, with the reply itself where the server can send one (ASGI denial response)."""
    ws.closed = True
    ws.close_code = reply.close_code
    if "websocket.http.response" not in ws.scope.get("extensions", {}):
        await ws._send({"type": "websocket.close", "code": 1008 if reply.close_code in (None, 1000) else reply.close_code, "reason": ""})
        return
    status = reply.http_status
    if reply.status is StatusCode.OK and status < 300:
        status = 403  # a handler that returned without accepting denies the connection
    body = reply.body if isinstance(reply.body, bytes) else b""
    headers = [pair for pair in reply.raw_headers if pair[0] != b"content-length"]
    headers.append((b"content-length", b"%d" % len(body)))
    await ws._send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await ws._send({"type": "websocket.http.response.body", "body": body, "more_body": False})
