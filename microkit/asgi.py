"""ASGI 3: HTTP delivery and the lifespan protocol.

Source: https://asgi.readthedocs.io/en/latest/specs/
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio

from . import dispatch
from .call import Reply
from .errors import ClientDisconnect, MicrokitError, StreamAborted, alone
from .http import FileResponse, Request
from .http.headers import RawHeaders
from .http.response import JSON, StreamingResponse, encode_body, encode_piece
from .observe import observed
from .renderers import internal_error, json_reply
from .sockets import serve_socket

if TYPE_CHECKING:
    from .app import App

_logger = logging.getLogger("microkit.asgi")

_LENGTHS = tuple((b"content-length", b"%d" % n) for n in range(4096))
_BODYLESS = (204, 304)
_ONLY_JSON = (JSON,)
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

    if not plan.plain:
        await dispatch.run(request, _deliverer(request, send))
        return
    finished = observed(request) if app.observers else None
    try:
        if plan.shielded and app.runtime.innermost_scope() is not None:
            reply, sent = await _invoke_shielded(request, send)
        else:
            sent = False
            try:
                reply = await plan.answer(request)
            except BaseException as exc:
                await dispatch.close_scopes(request, exc)  # cancelled after the plan left a stream's scope open
                raise
        if type(reply) is bytes:
            body, status, headers = reply, 200, _ONLY_JSON
        else:
            body, status, headers = reply.body, reply._http, reply.raw_headers
            if status is None:
                status = reply.http_status
            if sent or type(body) is not bytes or not body or request._exits or status in _BODYLESS:
                body = None
                if not sent:
                    reply = await dispatch.conclude(request, reply, _deliverer(request, send))
            elif len(headers) != 1 or headers[0] is not JSON:
                headers = [pair for pair in headers if pair[0] != b"content-length"]
        if body is not None:
            # The common case: nothing is open any more, so delivery is two messages.
            size = len(body)
            headers = [*headers, _LENGTHS[size] if size < 4096 else (b"content-length", b"%d" % size)]
            try:
                await send({"type": "http.response.start", "status": status, "headers": headers})
                await send({"type": "http.response.body", "body": body})
            except OSError:
                _left(request)
            if request._background is not None:
                await dispatch.after_delivery(request)
    except BaseException as exc:
        if finished is not None:
            finished(dispatch.ended_by(exc))
        raise
    if finished is not None:
        finished(json_reply(reply) if isinstance(reply, bytes) else reply)


async def _invoke_shielded(request: Request, send: Any) -> tuple[Reply, bool]:
    """Run a plan whose teardowns may suspend; a stream is sent to its end here, inside of the scope that shields them.

    Returns:
        The reply, and whether it was sent.
    """
    runtime = request.app.runtime
    with runtime.new_scope() as request._shield:
        request._around = runtime.innermost_scope()
        try:
            reply = await request.plan.invoke(request)
        except BaseException as exc:
            await dispatch.close_scopes(request, exc)
            raise
        if request._exits:
            return await dispatch.conclude(request, reply, _deliverer(request, send)), True
        return reply, False
    return dispatch.cut_reply(request), request._delivered  # what was begun to be sent is not begun anew


def _deliverer(request: Request, send: Any) -> dispatch.Deliver:
    async def deliver(reply: Reply) -> None:
        await _deliver(request, reply, send)

    return deliver


def _left(request: Request) -> None:
    # ASGI servers raise OSError from `send` when the client is gone. That is no error of the application.
    _logger.debug("the client of call %s left before its reply", request.id)


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
    if not reply.streams:
        try:
            reply.body = encode_body(reply.body)
        except TypeError as exc:  # a middleware set it
            reply = internal_error(request, exc)
    elif _bodyless(request, reply) or _sent_by_server(request, reply):
        # The stream is not needed; what it stood on is left before anything is sent, so that a failure can be told.
        request._delivered = False
        failure = await dispatch.finish_stream(request, await dispatch.discard(request, _source(reply)))
        request._delivered = True
        if failure is not None:
            reply = internal_error(request, failure)
    try:
        if reply.streams and not _bodyless(request, reply) and not _sent_by_server(request, reply):
            await _stream(request, reply, send)
        else:
            await _send_whole(request, reply, send)
    except ClientDisconnect:
        _left(request)


def _source(reply: Reply) -> Any:
    return reply.source if isinstance(reply, StreamingResponse) else reply.body


def _bodyless(request: Request, reply: Reply) -> bool:
    return reply.http_status in _BODYLESS or request.scope["method"] == "HEAD"


def _sent_by_server(request: Request, reply: Reply) -> bool:
    extensions = request.scope.get("extensions") or {}
    return "http.response.pathsend" in extensions and isinstance(reply, FileResponse) and reply.untouched


async def _send_whole(request: Request, reply: Reply, send: Any) -> None:
    body: Any = reply.body
    status, headers = reply.http_status, list(reply.raw_headers)
    if status in _BODYLESS:
        headers = [pair for pair in headers if pair[0] != b"content-length"]
    elif isinstance(body, bytes) and (body or request.scope["method"] != "HEAD" or not _declares_length(headers)):
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        headers.append((b"content-length", b"%d" % len(body)))
    await _send(send, {"type": "http.response.start", "status": status, "headers": headers})
    if isinstance(reply, FileResponse) and not _bodyless(request, reply):
        await _send(send, {"type": "http.response.pathsend", "path": reply.path})
    else:
        await _send(send, {"type": "http.response.body", "body": b"" if _bodyless(request, reply) else body})


def _declares_length(headers: RawHeaders) -> bool:
    return any(name == b"content-length" for name, _ in headers)


async def _stream(request: Request, reply: Reply, send: Any) -> None:
    """Send a body piece by piece; the end marker follows only after the call's scopes were left.

    Raises:
        StreamAborted: the stream or a teardown failed, so the server must not end the reply as if it were complete.
    """
    length = next((int(value) for name, value in reply.raw_headers if name == b"content-length"), None)
    last, size = b"", 0
    failure: Exception | None = ClientDisconnect(dispatch.LEFT)

    def event_of(piece: Any) -> dict[str, Any] | None:
        nonlocal last, size
        if type(piece) is not bytes:
            piece = encode_piece(piece)
        if length is not None:
            size += len(piece)
            if size > length:
                raise RuntimeError(f"the stream is longer than the {length} bytes of its Content-Length")
            if size == length and piece:
                last = piece  # it completes the reply, so it waits for the teardown
                return None
        return {"type": "http.response.body", "body": piece, "more_body": True} if piece else None

    await _send(send, {"type": "http.response.start", "status": reply.http_status, "headers": list(reply.raw_headers)})
    async with anyio.create_task_group() as group:
        if request.fully_read:
            group.start_soon(_watch, request, group.cancel_scope)
        failure = await dispatch.drain(request, _source(reply), send, event_of)
        group.cancel_scope.cancel()
    if failure is None and length is not None and size < length:
        failure = RuntimeError(f"the stream ended after {size} of the {length} bytes of its Content-Length")
    error_before = request._error
    failure = await dispatch.finish_stream(request, failure)
    if isinstance(failure, ClientDisconnect):
        request._error = error_before  # the handler did its part, so its background tasks run
        raise failure
    if failure is not None:
        _logger.error("the streamed reply of call %s failed", request.id, exc_info=failure)
        raise StreamAborted(f"the reply of call {request.id} was cut off") from None
    await _send(send, {"type": "http.response.body", "body": last, "more_body": False})


async def _send(send: Any, event: dict[str, Any]) -> None:
    """Send an event.

    Raises:
        ClientDisconnect: the client is gone, which ASGI servers tell by an OSError.
    """
    try:
        await send(event)
    except OSError as exc:
        raise ClientDisconnect(dispatch.LEFT) from exc


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
    try:
        await send({"type": "lifespan.startup.complete"})
        while (await receive())["type"] != "lifespan.shutdown":
            pass
    except BaseException:  # the server gave up without a word
        with anyio.CancelScope(shield=True):
            await app.runtime.stop()
        raise
    try:
        await app.runtime.stop()
    except Exception as exc:
        await send({"type": "lifespan.shutdown.failed", "message": startup_message(exc)})
        return
    await send({"type": "lifespan.shutdown.complete"})


def startup_message(exc: BaseException) -> str:
    """What an operator reads of a failed start-up: our own errors as they are, others with their type."""
    exc = alone(exc)
    if not isinstance(exc, MicrokitError):
        _logger.error("start-up or shutdown failed", exc_info=exc)
        return f"{type(exc).__name__}: {exc}"
    return str(exc)
