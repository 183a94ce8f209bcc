"""How remote procedures look in the messages of a queue: JSON, and nothing of the other side but data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from microkit import PublicError, Reply, StatusCode
from microkit.broker import TargetInfo
from microkit.codecs import json_dumps, json_loads
from microkit.errors import BadRequest

_logger = logging.getLogger("microkit.workers.rpc")

PREFIX = "rpc."
"""Of the queue that takes the requests to a service."""

REPLIES = "rpc.reply."
"""Of the queue that takes the replies to one process."""

TIMEOUT = "x-microkit-timeout"
"""Header of a request: milliseconds that its caller waits."""


def request_body(target: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """A request; an empty target asks for the list of procedures."""
    return json_dumps({"target": target, "args": list(args), "kwargs": dict(kwargs)})


def read_request(body: bytes) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Target and arguments of a request.

    Raises:
        BadRequest: it is none.
    """
    value = _object(body)
    target, args, kwargs = value.get("target"), value.get("args", []), value.get("kwargs", {})
    if not isinstance(target, str) or not isinstance(args, list) or not isinstance(kwargs, dict):
        raise BadRequest("The request needs a target, a list of args and an object of kwargs.")
    return target, tuple(args), kwargs


def reply_body(reply: Reply, limit: int) -> bytes:
    """A reply; of an error that is not public, only the status crosses.

    Args:
        reply: what the procedure gave.
        limit: bytes that it may have.
    """
    if reply.error is None and reply.status is StatusCode.OK:
        if reply.streams:
            return error_body(PublicError("Streams do not cross queues.", status=StatusCode.UNIMPLEMENTED))
        try:
            body = json_dumps({"result": reply.payload})
        except (TypeError, ValueError):
            _logger.exception("the result of a remote procedure has no JSON form")
            return error_body(PublicError("An internal error occurred.", status=StatusCode.INTERNAL))
        if len(body) > limit:
            text = f"The result has {len(body)} bytes; at most {limit} are allowed."
            return error_body(PublicError(text, status=StatusCode.RESOURCE_EXHAUSTED))
        return body
    if isinstance(reply.error, PublicError):
        return error_body(reply.error)
    text = "An internal error occurred." if reply.status is StatusCode.INTERNAL else ""
    return error_body(PublicError(text, status=reply.status))


def error_body(error: PublicError) -> bytes:
    """The reply that carries a public error."""
    value = {"status": int(error.status), "detail": error.detail, "details": error.details}
    try:
        return json_dumps({"error": value})
    except (TypeError, ValueError):  # details that have no JSON form
        return json_dumps({"error": {**value, "details": {}}})


def read_reply(body: bytes) -> Any:
    """The result that a reply carries.

    Raises:
        PublicError: the error that it carries, or INTERNAL if it is malformed.
    """
    try:
        value = _object(body)
        if "result" in value:
            return value["result"]
        error = value["error"]
        status, detail, details = StatusCode(error["status"]), error["detail"], error["details"]
        failure = PublicError(str(detail), status=status, details=details)
    except (BadRequest, ValueError, KeyError, TypeError):
        raise PublicError("The reply is malformed.", status=StatusCode.INTERNAL) from None
    raise failure


def targets_body(targets: Mapping[str, TargetInfo]) -> bytes:
    """The reply to a request for the list of procedures."""
    return json_dumps({"result": [asdict(info) for info in targets.values()]})


def read_targets(value: Any) -> list[TargetInfo]:
    """The procedures of a service, by the result that lists them.

    Raises:
        PublicError: INTERNAL, it is malformed.
    """
    try:
        return [
            TargetInfo(
                str(each["name"]), tuple(each["args"]), tuple(each["kwargs"]), each["doc"], bool(each["idempotent"])
            )
            for each in value
        ]
    except (KeyError, TypeError):
        raise PublicError("The list of procedures is malformed.", status=StatusCode.INTERNAL) from None


def unknown_target(service: str, target: str) -> PublicError:
    """The error of a call to a procedure that the service has not."""
    return PublicError(f"The service {service} has no procedure {target!r}.", status=StatusCode.NOT_FOUND)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json_loads(body)
    except ValueError:
        raise BadRequest("The body is no JSON.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body is no JSON object.")
    return value
