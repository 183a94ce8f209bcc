"""Errors of the other side: typed by name, never by importing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from microkit.errors import PublicError, StatusCode

_S = StatusCode
UNKNOWN_SERVICE = "UnknownService"
_BY_NAME = {
    UNKNOWN_SERVICE: _S.NOT_FOUND,
    "MethodNotFound": _S.NOT_FOUND,
    "RPCTargetDoesNotExist": _S.NOT_FOUND,
    "IncorrectSignature": _S.INVALID_ARGUMENT,
    "MalformedRequest": _S.INVALID_ARGUMENT,
    "RPCMalformedMessage": _S.INVALID_ARGUMENT,
    "UnserializableValueError": _S.INTERNAL,
}


class RemoteError(PublicError):
    """A procedure answered with an error.

    Its text for the caller's own callers, `detail`, is what the other side has declared as public (only microkit does);
    `str()` of it is for logs and has everything.

    Attributes:
        type: name of the exception's class on the other side.
        message: its text.
        remote_args: its arguments, as far as they were sent.
    """

    def __init__(
        self,
        type: str,
        message: str,
        remote_args: Sequence[Any] = (),
        *,
        status: StatusCode,
        public: bool = False,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message if public else "The remote procedure failed.", status=status, details=details)
        self.type = type
        self.message = message
        self.remote_args = tuple(remote_args)

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


def remote_error(type: object, message: object, args: object, error: Mapping[str, Any]) -> RemoteError:
    """The error that a reply tells of.

    Args:
        type, message, args: as they were sent; nothing of them is trusted to have a form.
        error: all of what was sent; where the other side is microkit, with the name of a `StatusCode` and details.
    """
    name = str(type or "Error")
    status, details = error.get("status"), error.get("details")
    code = StatusCode.__members__.get(status) if isinstance(status, str) else None
    return RemoteError(
        name,
        str(message if message is not None else ""),
        args if isinstance(args, list) else (),
        status=code or _BY_NAME.get(name, StatusCode.UNKNOWN),
        public=code is not None,
        details=details if code is not None and isinstance(details, dict) else None,
    )


def public_parts(error: BaseException | None, status: StatusCode) -> tuple[str, str]:
    """Name and text of an error that may leave the process: the text only of public ones.

    Args:
        error: of the reply.
        status: of the reply.
    """
    if isinstance(error, PublicError):
        return type(error).__name__, error.detail
    name = type(error).__name__ if error is not None else status.name
    return name, "An internal error occurred." if status is StatusCode.INTERNAL else status.name
