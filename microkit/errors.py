"""Exceptions of the kernel, and the one table of statuses.

Two families: `MicrokitError` is for the people who build an application (start-up, wiring, settings); `PublicError` is
for its callers: status and text of a public error may leave the process, those of any other exception never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Self, TypeVar

T = TypeVar("T")


def alone(exc: BaseException) -> BaseException:
    """The exception that is alone in a group of exceptions, however deep; any other one as it is."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


class StatusCode(IntEnum):
    """The 17 status codes of gRPC, used for every kind of call.

    Source: https://grpc.github.io/grpc/core/md_doc_statuscodes.html
    """

    OK = 0, 200
    CANCELLED = 1, 499
    UNKNOWN = 2, 500
    INVALID_ARGUMENT = 3, 400
    DEADLINE_EXCEEDED = 4, 504
    NOT_FOUND = 5, 404
    ALREADY_EXISTS = 6, 409
    PERMISSION_DENIED = 7, 403
    RESOURCE_EXHAUSTED = 8, 429
    FAILED_PRECONDITION = 9, 400
    ABORTED = 10, 409
    OUT_OF_RANGE = 11, 400
    UNIMPLEMENTED = 12, 501
    INTERNAL = 13, 500
    UNAVAILABLE = 14, 503
    DATA_LOSS = 15, 500
    UNAUTHENTICATED = 16, 401

    http: int
    """The HTTP status of this code, as google.rpc.Code maps it."""

    def __new__(cls, code: int, http: int) -> Self:
        self = int.__new__(cls, code)
        self._value_ = code
        self.http = http
        return self

    @property
    def retryable(self) -> bool:
        """Whether a queue may deliver a message again after this outcome (with a cap on attempts)."""
        return self in _RETRYABLE


_S = StatusCode
_RETRYABLE = frozenset(
    {_S.UNAVAILABLE, _S.RESOURCE_EXHAUSTED, _S.ABORTED, _S.DEADLINE_EXCEEDED, _S.UNKNOWN, _S.INTERNAL}
)
_FROM_HTTP: dict[int, StatusCode] = {
    400: _S.INVALID_ARGUMENT,
    401: _S.UNAUTHENTICATED,
    403: _S.PERMISSION_DENIED,
    404: _S.NOT_FOUND,
    405: _S.UNIMPLEMENTED,
    408: _S.DEADLINE_EXCEEDED,
    409: _S.ABORTED,
    410: _S.NOT_FOUND,
    412: _S.FAILED_PRECONDITION,
    413: _S.RESOURCE_EXHAUSTED,
    415: _S.INVALID_ARGUMENT,
    416: _S.OUT_OF_RANGE,
    422: _S.INVALID_ARGUMENT,
    429: _S.RESOURCE_EXHAUSTED,
    499: _S.CANCELLED,
    501: _S.UNIMPLEMENTED,
    503: _S.UNAVAILABLE,
    504: _S.DEADLINE_EXCEEDED,
}


def status_from_http(status: int) -> StatusCode:
    """The `StatusCode` of an HTTP status (100-599)."""
    if status < 400:
        return StatusCode.OK
    return _FROM_HTTP.get(status) or (StatusCode.FAILED_PRECONDITION if status < 500 else StatusCode.INTERNAL)


# -- for the people who build an application ---------------------------------------------------------------------------


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint such as " Did you mean 'x'?" for a misspelt word, or nothing.

    Args:
        word: what was written.
        known: what could be meant.
    """
    import difflib

    match = difflib.get_close_matches(word, list(known), 1)
    return f" Did you mean {match[0]!r}?" if match else ""


class MicrokitError(Exception):
    """Base of everything that microkit raises at its own users: one paragraph with the culprit and the remedy."""


class ConfigurationError(MicrokitError):
    """The application cannot be built as it is declared."""


def contributed(found: Mapping[str, T], name: str, what: str, by: object = "The application") -> T:
    """What an application selects by name among the contributions of plugins.

    Args:
        found: all contributions.
        name: the selected one.
        what: what they are, for the message.
        by: who selects it.

    Raises:
        ConfigurationError: no active plugin brings it.
    """
    if name not in found:
        raise ConfigurationError(
            f"{by} asks for the {what} {name!r}, which no active plugin brings.{nearest(name, found)} There are: "
            f"{', '.join(sorted(found)) or 'none'}. Install or enable the plugin, or correct the name."
        )
    return found[name]


class PluginError(ConfigurationError):
    """A plugin is missing, broken, or breaks the rules of its hooks."""


class SettingsError(ConfigurationError):
    """A setting is unknown or has a value of the wrong type."""


class RoutingError(ConfigurationError):
    """A path pattern is malformed, or two bindings can never be told apart."""


class ResolutionError(ConfigurationError):
    """A parameter or service cannot be resolved: nothing fills it, a cycle, or a captive dependency."""


class StartupError(MicrokitError):
    """A step of start-up failed; `__cause__` is the exception of the step.

    Attributes:
        final: another attempt would fail as well, until somebody changes something.
    """

    def __init__(self, text: str = "", *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class ConnectionClosed(MicrokitError):
    """A WebSocket was closed while, or before, it was used.

    Attributes:
        code: close code (RFC 6455 section 7.4); 1006 when the peer vanished without one.
        reason: the peer's reason, at most 123 bytes of UTF-8.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(f"connection closed with code {code}")
        self.code = code
        self.reason = reason


class ClientDisconnect(MicrokitError):
    """The client went away before its request was complete."""


class StreamAborted(MicrokitError):
    """A streamed reply failed after its start; the server must cut the connection. Already logged."""


# -- for callers -------------------------------------------------------------------------------------------------------


class PublicError(Exception):
    """An error whose status and text are meant for the caller, on every transport.

    Args:
        detail: text for the caller.
        status: code of the outcome; subclasses have a default.
        http_status: HTTP status where HTTP has a finer one than `status` maps to.
        headers: extra HTTP headers (RPC: metadata).
        details: JSON-able extra members of the reply (RFC 9457 extension members).
    """

    status: StatusCode = StatusCode.UNKNOWN
    http_status: int | None = None
    title: str | None = None

    def __init__(
        self,
        detail: str = "",
        *,
        status: StatusCode | None = None,
        http_status: int | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        if status is not None:
            self.status = status
            self.http_status = None
        if http_status is not None:
            self.http_status = http_status
        self.headers: list[tuple[str, str]] = list(headers.items() if isinstance(headers, Mapping) else headers or ())
        self.details: dict[str, Any] = dict(details or {})

    @property
    def status_code(self) -> int:
        """The HTTP status of this error."""
        return self.http_status or self.status.http


class HTTPException(PublicError):
    """A public error chosen by its HTTP status.

    Args:
        status_code: HTTP status, 400 to 599.
        detail: text for the caller.
        headers: extra response headers.

    Raises:
        ValueError: the status is no error status.
    """

    def __init__(
        self,
        status_code: int,
        detail: str = "",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        *,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        if not 400 <= status_code <= 599:
            raise ValueError(f"HTTPException takes an error status (400-599), not {status_code}")
        super().__init__(
            detail, status=status_from_http(status_code), http_status=status_code, headers=headers, details=details
        )


class _FixedStatus(HTTPException):
    """An `HTTPException` whose class fixes the status."""

    code = 500

    def __init__(
        self,
        detail: str = "",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        *,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(self.code, detail, headers, details=details)


class BadRequest(_FixedStatus):
    """400: the request cannot be parsed."""

    code = 400


class Unauthorized(_FixedStatus):
    """401: no valid identity."""

    code = 401


class Forbidden(_FixedStatus):
    """403: this identity may not do that."""

    code = 403


class NotFound(_FixedStatus):
    """404: nothing is there."""

    code = 404


class MethodNotAllowed(_FixedStatus):
    """405: the path exists, but not with this method."""

    code = 405


class RequestTimeout(_FixedStatus):
    """408: the client took too long to send its request."""

    code = 408


class Conflict(_FixedStatus):
    """409: the state of the resource forbids it."""

    code = 409


class PayloadTooLarge(_FixedStatus):
    """413: the body or a part of it is over its bound."""

    code = 413


class UnsupportedMediaType(_FixedStatus):
    """415: the content type is not accepted here."""

    code = 415


class ValidationError(PublicError):
    """Input does not fit its declared type: INVALID_ARGUMENT, HTTP 422.

    Args:
        errors: one mapping per problem with `loc` (list of str and int, such as `["query", "page"]`), `msg` and `type`;
            nothing internal and no input value.
    """

    status = StatusCode.INVALID_ARGUMENT
    http_status = 422

    def __init__(self, errors: Sequence[Mapping[str, Any]], detail: str = "The input is not valid.") -> None:
        super().__init__(detail, details={"errors": [dict(error) for error in errors]})

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The problems, one mapping each."""
        return self.details["errors"]


def overdue(seconds: float) -> PublicError:
    """The error of a call that took longer than its declared deadline of so many seconds."""
    return PublicError(f"The call took longer than {seconds:g} seconds.", status=StatusCode.DEADLINE_EXCEEDED)
