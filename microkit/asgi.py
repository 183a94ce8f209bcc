"""ASGI 3: HTTP delivery and the lifespan protocol.

Source: https://asgi.readthedocs.io/en/latest/specs/
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio

from . import dispatch
from .call import Reply
from .errors import ClientDisconnect, MicrokitError, StreamAborted
from .http import FileResponse, Request
from .sockets import serve_socket

if TYPE_CHECKING:
    from .app import App

_logger = logging.getLogger("microkit.asgi")

_LENGTHS = tuple((b"content-length", b"%d" % n) for n in range(4096))
_new = Request.__new__


async def asgi(app: App, scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI 3: `App.__call__`. HTTP is served in this very coroutine, since each further one costs.

    Raises:
        ValueError: the scope's type is none of http, websocket and lifespan.
    """
    if scope["type"] != "http":
        await _serve_other(app, scope, receive, send)
        return
    if not app.runtime.running:
        await app.runtime.ensure_started()
    request = _new(Request)
    request.scope = scope
    request.receive = receive
    request.app = app
    plan, request.values = app.compiled.http.match(scope["method"], scope, request)
    request.plan = plan

    async def deliver(reply: Reply) -> None:
        await _deliver(request, reply, send)

    if not plan.plain or app.observers:
        await dispatch.run(request, deliver)
        return
    try:
        reply = await plan.invoke(request)
    except BaseException as exc:
        await dispatch.close_scopes(request, exc)  # cancelled after the plan left a stream's scope open
        raise
    body = reply.body
    if type(body) is not bytes or not body or request._exits:
        await dispatch.conclude(request, reply, deliver)
        return
    # The common case: nothing is open any more, so delivery is two messages.
    headers = reply.raw_headers
    if len(headers) == 1 or not any(name == b"content-length" for name, _ in headers):
        size = len(body)
        headers = [*headers, _LENGTHS[size] if size < 4096 else (b"content-length", b"%d" % size)]
    status = reply._http
    if status is None:
        status = reply.http_status
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    if request._background is not None:
        await dispatch.after_delivery(request)


async def _serve_other(app: App, scope: dict[str, Any], receive: Any, send: Any) -> None:
    kind = scope["type"]
    if kind == "lifespan":
        await serve_lifespan(app, scope, receive, send)
    elif kind == "websocket":
        await app.runtime.ensure_started()
        await serve_socket(app, scope, receive, send)
    else:
        raise ValueError(f"unknown ASGI scope type {kind!r}; this application serves http, websocket and lifespan")


async def _deliver(request: Request, reply: Reply, send: Any) -> None:
    if isinstance(reply.error, ClientDisconnect):
        return  # nobody is there to read a reply
    status = reply.http_status
    headers = list(reply.raw_headers)
    head = request.scope["method"] == "HEAD"
    body: Any = reply.body
    if body is None:
        body = b""
    if isinstance(body, bytes):
        if status >= 200 and status not in (204, 304):
            if not any(name == b"content-length" for name, _ in headers):
                headers.append((b"content-length", b"%d" % len(body)))
        else:
            headers = [pair for pair in headers if pair[0] != b"content-length"]
            body = b""
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else body})
        return
    if head or status in (204, 304):
        await dispatch.aclose(body, request.app.settings.teardown_timeout)
        await _close_or_abort(request, None)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    if isinstance(reply, FileResponse) and "http.response.pathsend" in request.scope.get("extensions", {}):
        await dispatch.aclose(body, request.app.settings.teardown_timeout)
        await _close_or_abort(request, None)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.pathsend", "path": reply.path})
        return
    await _stream(request, body, status, headers, send)


async def _stream(request: Request, body: Any, status: int, headers: list[Any], send: Any) -> None:
    """Send a body piece by piece; the end marker follows only after the call's scopes were left."""
    length = next((int(value) for name, value in headers if name == b"content-length"), None)
    failure: BaseException | None = None
    async with anyio.create_task_group() as group:
        if not _has_unread_body(request):
            group.start_soon(_watch, request, group.cancel_scope)
        last = b""
        try:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            sent = 0
            async for chunk in body:
                sent += len(chunk)
                if length is not None and sent >= length:
                    last = chunk  # it completes the reply, so it waits for the teardown
                    break
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Exception as exc:
            failure = exc
        except BaseException as exc:
            await dispatch.aclose(body, request.app.settings.teardown_timeout)
            await dispatch.close_scopes(request, exc, late=False)
            raise
        try:
            await dispatch.aclose(body, request.app.settings.teardown_timeout)
        except Exception as exc:
            failure = failure or exc
        failure = await dispatch.close_scopes(request, failure, late=False) or failure
        if failure is None:
            await send({"type": "http.response.body", "body": last, "more_body": False})
        group.cancel_scope.cancel()
    if failure is not None:
        request._failed = True
        _logger.error("the streamed reply of call %s failed", request.id, exc_info=failure)
        raise StreamAborted(f"the reply of call {request.id} was cut off") from None


async def _close_or_abort(request: Request, exc: BaseException | None) -> None:
    failure = await dispatch.close_scopes(request, exc, late=False)
    if failure is not None:
        _logger.error("a teardown of call %s failed", request.id, exc_info=failure)
        raise StreamAborted(f"the reply of call {request.id} was cut off") from None


def _has_unread_body(request: Request) -> bool:
    """Whether the client may still be sending, so that `receive` belongs to the handler's stream."""
    if request._body is not None or request._started:
        return request._body is None
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def _watch(request: Request, scope: anyio.CancelScope) -> None:
    await request.disconnected()
    scope.cancel()


# -- lifespan ----------------------------------------------------------------------------------------------------------


async def serve_lifespan(app: App, scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI lifespan: start-up and shutdown of the application, with their failures reported to the server."""
    message = await receive()
    if message["type"] != "lifespan.startup":
        return
    try:
        await app.runtime.start_detached(scope.get("state"))
    except Exception as exc:
        await send({"type": "lifespan.startup.failed", "message": startup_message(exc)})
        return
    await send({"type": "lifespan.startup.complete"})
    while (await receive())["type"] != "lifespan.shutdown":
        pass
    try:
        await app.runtime.stop()
    except Exception as exc:
        await send({"type": "lifespan.shutdown.failed", "message": startup_message(exc)})
        return
    await send({"type": "lifespan.shutdown.complete"})


def startup_message(exc: BaseException) -> str:
    """What an operator reads of a failed start-up: our own errors as they are, others with their type."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    if not isinstance(exc, MicrokitError):
        _logger.error("start-up or shutdown failed", exc_info=exc)
        return f"{type(exc).__name__}: {exc}"
    return str(exc)
