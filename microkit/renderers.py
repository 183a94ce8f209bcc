"""Results and exceptions to replies."""

from __future__ import annotations

import dataclasses
import enum
import html
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from uuid import UUID

from .call import Call, Kind, Reply
from .codecs import json_dumps
from .errors import ConnectionClosed, PublicError, StatusCode
from .http.headers import encode_headers
from .http.response import JSON, TEXT, JsonResponse, Response, StreamingResponse

_logger = logging.getLogger("microkit.error")

Render = Callable[[Any], Reply]


@dataclass(frozen=True)
class RendererSpec:
    """A renderer for results, or for exceptions, of one type and its subclasses (HTTP replies).

    Attributes:
        type: result type or exception type; or its full name, `pydantic.main.BaseModel`, so that a plugin need not
            import what nobody may use.
        render: value to reply; for exceptions the reply's `error` is set by the kernel.
    """

    type: type | str
    render: Render


class Renderers:
    """All renderers of one application, cached by exact type.

    Args:
        specs: contributed ones; a later one replaces an earlier one of the same type.
    """

    def __init__(self, specs: Iterable[RendererSpec] = ()) -> None:
        self._by_type: dict[type | str, Render] = {}
        for spec in specs:
            self._by_type[spec.type] = spec.render
        self._results: dict[type, Render] = {}
        self._errors: dict[type, Render | None] = {}

    def http(self, result: Any) -> Reply:
        """The HTTP reply of a handler's result.

        Raises:
            TypeError: no renderer knows its type.
        """
        kind = type(result)
        render = self._results.get(kind)
        if render is None:
            render = self._results[kind] = self._find(result)
        return render(result)

    def _find(self, result: Any) -> Render:
        render = self._of(type(result))
        if render is not None:
            return render
        if dataclasses.is_dataclass(result):
            return _json
        if hasattr(result, "__aiter__") or (inspect.isgenerator(result)):
            return _stream
        if isinstance(result, Mapping | set | frozenset):
            return _json
        raise TypeError(
            f"a handler returned a {type(result).__name__}, which has no form as an HTTP reply; return a Response, str, "
            f"bytes, dict, list, dataclass, model, generator, None or (status, body[, headers])"
        )

    def _of(self, kind: type) -> Render | None:
        keys = (key for base in kind.__mro__[:-1] for key in (base, f"{base.__module__}.{base.__qualname__}"))
        return next((self._by_type[key] for key in keys if key in self._by_type), None)

    def error(self, exc: BaseException) -> Reply | None:
        """The reply of a contributed renderer for an exception, if there is one."""
        kind = type(exc)
        if kind not in self._errors:
            self._errors[kind] = self._of(kind)
        render = self._errors[kind]
        return render(exc) if render is not None else None


_new = Response.__new__


def _plain(body: bytes, header: tuple[bytes, bytes], status: int = 200) -> Response:
    # The hot path of every small reply: what __init__ would check is known to be right.
    reply = _new(Response)
    reply._http = status
    reply.body = body
    reply.raw_headers = [header]
    return reply


def _json(value: Any) -> Reply:
    reply = _new(Response)
    reply._http = 200
    reply.body = json_dumps(value)
    reply.raw_headers = [JSON]
    return reply


def _text(value: str) -> Reply:
    return _plain(value.encode(), TEXT)


def _bytes(value: bytes) -> Reply:
    return _plain(bytes(value), (b"content-type", b"application/octet-stream"))


def _none(value: None) -> Reply:
    return Response(b"", 204)


def _stream(value: Any) -> Reply:
    return StreamingResponse(value, media_type="text/plain; charset=utf-8")


def _itself(value: Reply) -> Reply:
    return value


def http_body(body: Any) -> Response:
    """A reply with a body of any of the basic result types (no tuples).

    Raises:
        TypeError: the value has no form as a body.
    """
    return Renderers(BASIC).http(body)  # type: ignore[return-value]


def _tuple(value: tuple[Any, ...]) -> Reply:
    if len(value) not in (2, 3) or type(value[0]) is not int or not 200 <= value[0] <= 599:
        raise TypeError(
            f"a handler returned a tuple of {', '.join(type(each).__name__ for each in value) or 'nothing'}; a tuple is "
            f"(status, body) or (status, body, headers) with a status of 200-599"
        )
    response = http_body(value[1] if value[1] is not None else b"")
    response.http_status = value[0]
    if len(value) == 3 and value[2]:
        extra = encode_headers(value[2])
        replaced = {name for name, _ in extra} - {b"set-cookie"}
        response.raw_headers = [pair for pair in response.raw_headers if pair[0] not in replaced] + extra
    return response


_JSON_TYPES = (dict, list, int, float, bool, enum.Enum, UUID, datetime, date, time, timedelta, Decimal)
BASIC = (
    RendererSpec(Reply, _itself),
    RendererSpec(str, _text),
    RendererSpec(bytes, _bytes),
    RendererSpec(bytearray, _bytes),
    RendererSpec(type(None), _none),
    *(RendererSpec(each, _json) for each in _JSON_TYPES),
)
BUILT_IN = (*BASIC, RendererSpec(tuple, _tuple))


# -- errors ------------------------------------------------------------------------------------------------------------


def error_reply(call: Call, exc: BaseException, renderers: Renderers) -> Reply:
    """The reply for an exception; one that is not public is logged here, once, and told to nobody."""
    reply: Reply | None = None
    try:
        reply = renderers.error(exc) if call.kind in Kind.HTTP | Kind.SOCKET else None
    except Exception as broken:
        exc = broken
    if reply is None:
        if isinstance(exc, ConnectionClosed) and call.kind is Kind.SOCKET:
            reply = Reply(status=StatusCode.OK, close_code=exc.code)
        elif isinstance(exc, PublicError):
            reply = public_reply(call, exc)
        else:
            reply = internal_error(call, exc)
    reply.error = exc
    return reply


def internal_error(call: Call, exc: BaseException) -> Reply:
    """Log an exception with the call's id, and reply INTERNAL without a word of it."""
    _logger.error("call %s (%s) failed", call.id, _escaped(_address(call)), exc_info=exc)
    hidden = PublicError("An internal error occurred.", status=StatusCode.INTERNAL)
    reply = public_reply(call, hidden)
    reply.error = exc
    return reply


def _address(call: Call) -> str:
    plan = call.__dict__.get("plan")
    return plan.address if plan is not None else call.kind.names()


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def public_reply(call: Call, exc: PublicError) -> Reply:
    """The reply for a public error: RFC 9457 problem details for HTTP (HTML where that is preferred)."""
    if call.kind not in Kind.HTTP | Kind.SOCKET:
        reply = Reply(status=exc.status, http_status=None, error=exc, headers=exc.headers)
        reply.payload = None
        return reply
    status = exc.status_code
    problem: dict[str, Any] = {"type": "about:blank", "title": exc.title or _phrase(status), "status": status}
    if exc.detail:
        problem["detail"] = exc.detail
    problem["call_id"] = call.id
    problem |= {name: value for name, value in exc.details.items() if name not in problem}
    accept = getattr(call, "headers", {}).get("accept", "")
    if _prefers_html(accept):
        reply = Response(_problem_page(problem), status, exc.headers, "text/html; charset=utf-8")
    else:
        reply = JsonResponse(problem, status, exc.headers)
        reply.headers["content-type"] = "application/problem+json"
    reply.error = exc
    return reply


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _prefers_html(accept: str) -> bool:
    """Whether an Accept header asks for HTML before JSON, as browsers do."""
    position = accept.find("text/html")
    json_at = accept.find("json")
    return position >= 0 and (json_at < 0 or position < json_at)


def _problem_page(problem: dict[str, Any]) -> str:
    title = html.escape(f"{problem['status']} {problem['title']}")
    detail = html.escape(str(problem.get("detail", "")))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>'
        f"<p>{detail}</p><p><small>Call {html.escape(problem['call_id'])}</small></p></html>"
    )
