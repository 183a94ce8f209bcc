"""Results and exceptions to replies."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from uuid import UUID

from .call import Call, Kind, Reply
from .codecs import json_dumps
from .errors import ClientDisconnect, ConnectionClosed, PublicError, StatusCode, alone
from .http.headers import encode_headers
from .http.response import (
    JSON,
    TEXT,
    JsonResponse,
    Response,
    StreamingResponse,
    checked_status,
    stream_of,
)

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
        self._by_type: dict[type | str, Render] = {Reply: self._reply, tuple: self._tuple}
        self._specs = tuple(specs)
        for spec in self._specs:
            self._by_type[spec.type] = spec.render
        self._results: dict[type, Render] = {}
        self._errors: dict[type, Render | None] = {}

    def extended(self, specs: Sequence[RendererSpec]) -> Renderers:
        """These renderers and more, which replace those of the same types."""
        return Renderers((*self._specs, *specs)) if specs else self

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
            f"a handler returned a {type(result).__name__}, which has no form as an HTTP reply; return a Response, "
            f"str, bytes, dict, list, dataclass, model, generator, None or (status, body[, headers])"
        )

    def _of(self, kind: type) -> Render | None:
        keys = (key for base in kind.__mro__[:-1] for key in (base, f"{base.__module__}.{base.__qualname__}"))
        return next((self._by_type[key] for key in keys if key in self._by_type), None)

    def _reply(self, reply: Reply) -> Reply:
        """A reply as it is; one without a body, made for every kind of call, gets its payload as the body."""
        if reply.body is not None:
            return reply
        response = self.http(b"" if reply.payload is None else reply.payload)
        response.http_status, response.error = reply.http_status, reply.error
        _replace_headers(response, reply.raw_headers)
        return response

    def _tuple(self, value: tuple[Any, ...]) -> Reply:
        if len(value) not in (2, 3) or not isinstance(value[0], int) or isinstance(value[1], tuple):
            raise TypeError(
                f"a handler returned a tuple of {', '.join(type(each).__name__ for each in value) or 'nothing'}; a "
                f"tuple is (status, body) or (status, body, headers) with a status of 200-599"
            )
        status = checked_status(value[0])
        response = _own(self.http(value[1] if value[1] is not None else b""))
        response.http_status = status
        if len(value) == 3 and value[2]:
            _replace_headers(response, encode_headers(value[2]))
        return response

    def encode(self) -> Callable[[Any], Reply | bytes] | None:
        """As `http`, but of a dict or list it gives the JSON alone; None if these are not rendered as JSON here."""
        if self._by_type.get(dict) is not _json or self._by_type.get(list) is not _json:
            return None

        def encode(result: Any) -> Reply | bytes:
            kind = type(result)
            return json_dumps(result) if kind is dict or kind is list else self.http(result)

        return encode

    def owned(self, result: Any) -> Reply:
        """As `http`, but nobody else has the reply: a handler may return one and the same object to all callers, and
        what middleware changes for one of them must not reach the others."""
        reply = self.http(result)
        if reply is result:
            reply = _own(reply)
        if type(reply.body) is not bytes and reply.streams and not getattr(reply, "untouched", False):
            reply.body = stream_of(reply.body)  # middleware reads bytes
        return reply

    def error(self, exc: BaseException) -> Reply | None:
        """The reply of a contributed renderer for an exception, if there is one."""
        kind = type(exc)
        if kind not in self._errors:
            self._errors[kind] = self._of(kind)
        render = self._errors[kind]
        return render(exc) if render is not None else None


_new = Response.__new__


def plain_reply(body: bytes, header: tuple[bytes, bytes], status: int = 200) -> Response:
    """A reply with one header field. Nothing is checked, for replies whose every part is known to be right."""
    reply = _new(Response)
    reply._http = status
    reply.body = body
    reply.raw_headers = [header]
    return reply


def json_reply(body: bytes) -> Response:
    """A reply whose body is JSON already, with status 200."""
    return plain_reply(body, JSON)


def _json(value: Any) -> Reply:
    reply = _new(Response)
    reply._http = 200
    reply.body = json_dumps(value)
    reply.raw_headers = [JSON]
    return reply


def _text(value: str) -> Reply:
    return plain_reply(value.encode(), TEXT)


def _bytes(value: bytes) -> Reply:
    return plain_reply(bytes(value), (b"content-type", b"application/octet-stream"))


def _none(value: None) -> Reply:
    return Response(b"", 204)


def _stream(value: Any) -> Reply:
    return StreamingResponse(value, media_type="text/plain; charset=utf-8")


def _own(reply: Reply) -> Reply:
    copy = object.__new__(type(reply))
    copy.__dict__.update(reply.__dict__)
    copy.raw_headers = reply.raw_headers.copy()
    return copy


def _replace_headers(reply: Reply, headers: list[tuple[bytes, bytes]]) -> None:
    replaced = {name for name, _ in headers} - {b"set-cookie"}
    reply.raw_headers = [pair for pair in reply.raw_headers if pair[0] not in replaced] + headers


_JSON_TYPES = (dict, list, int, float, bool, enum.Enum, UUID, datetime, date, time, timedelta, Decimal)
BUILT_IN = (
    RendererSpec(str, _text),
    RendererSpec(bytes, _bytes),
    RendererSpec(bytearray, _bytes),
    RendererSpec(type(None), _none),
    *(RendererSpec(each, _json) for each in _JSON_TYPES),
)


# -- errors ------------------------------------------------------------------------------------------------------------


def error_reply(call: Call, exc: BaseException, renderers: Renderers) -> Reply:
    """The reply for an exception; one that is not public is logged here, once, and told to nobody.

    One that is alone in a group counts as itself: a handler's task group wraps what its tasks raise.
    """
    told = alone(exc)
    try:
        reply = _known_error(call, told, renderers)
    except Exception as broken:
        broken.__context__ = broken.__context__ or exc
        exc, reply = broken, None
    if reply is None:
        return internal_error(call, exc)
    reply.error = told
    return reply


def _known_error(call: Call, exc: BaseException, renderers: Renderers) -> Reply | None:
    web = call.kind in Kind.HTTP | Kind.SOCKET
    if isinstance(exc, ConnectionClosed) and call.kind is Kind.SOCKET:
        return Reply(status=StatusCode.OK, close_code=exc.code)
    reply = renderers.error(exc) if web else None
    if reply is not None:
        return reply
    if isinstance(exc, PublicError):
        return public_reply(call, exc)
    if isinstance(exc, ClientDisconnect):
        return Reply(status=StatusCode.CANCELLED)  # nobody is there to read it, and nobody is to blame
    return None


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
    if _prefers_html(_accept(call)):
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


def _accept(call: Call) -> str:
    # Not by way of `call.headers`, which refuses headers over their limits, and this may be just that refusal.
    for name, value in getattr(call, "scope", {}).get("headers", ()):
        if name == b"accept":
            return value[:1000].decode("latin-1")
    return ""


def _prefers_html(accept: str) -> bool:
    """Whether an Accept header asks for HTML rather than for JSON, as browsers do (RFC 9110 section 12.5.1)."""
    if "text/html" not in accept:
        return False
    html_at = json_at = (0.0, 0)
    for position, part in enumerate(accept.split(",")):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        weight = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        rank = (float(weight) if re.fullmatch(r"[01](\.\d{0,3})?", weight) else 0.0, -position)
        if name == "text/html":
            html_at = rank
        elif name in ("application/json", "application/problem+json"):
            json_at = max(json_at, rank)
    return html_at[0] > 0 and html_at > json_at


def _problem_page(problem: dict[str, Any]) -> str:
    from html import escape

    title, detail = escape(f"{problem['status']} {problem['title']}"), escape(str(problem.get("detail", "")))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>'
        f"<p>{detail}</p><p><small>Call {escape(problem['call_id'])}</small></p></html>"
    )
