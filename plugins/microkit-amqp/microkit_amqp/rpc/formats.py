"""How requests and replies look: what nameko and micro-framework have in common, and what each has of its own."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from microkit.broker import TargetInfo
from microkit.codecs import json_dumps, json_loads
from microkit.errors import BadRequest, StatusCode
from microkit_amqp.topology import Topology

Details: TypeAlias = Mapping[str, Any] | None
LIST_TARGETS = "__list_targets__"
GET_TARGET = "__get_target__"


@dataclass(frozen=True)
class ParsedRequest:
    """A request.

    Attributes:
        target: name of the procedure, without its service.
        args, kwargs: as sent.
        headers: for the procedure, and for what it calls in turn.
    """

    target: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    headers: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class ReplyQueue:
    """Where a client gets its replies.

    Attributes:
        name: of the queue.
        address: what requests carry as `reply_to`.
        topology: what to declare.
    """

    name: str
    address: str
    topology: Topology


class Format(Protocol):
    """One wire.

    Attributes:
        exchange: name of the exchange of requests and replies.
    """

    exchange: str

    def served(self, service: str, targets: Mapping[str, TargetInfo]) -> tuple[Topology, list[str]]:
        """What a server declares, and the queues that it consumes."""
        ...

    def parse(self, service: str, raw: Any) -> ParsedRequest:
        """Read a request. Raises BadRequest."""
        ...

    def result(self, value: Any) -> bytes:
        """The reply with a result. Raises TypeError: it cannot be written as JSON."""
        ...

    def error(self, name: str, message: str, status: StatusCode, details: Details = None) -> bytes:
        """The reply with an error. Raises TypeError: its details cannot be written as JSON."""
        ...

    def reply_queue(self) -> ReplyQueue:
        """A queue for the replies of one client."""
        ...

    def request(self, service: str, target: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, bytes]:
        """Routing key and body of a request."""
        ...

    def headers(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Headers of a request."""
        ...

    def read(self, body: bytes) -> Any:
        """The result in a reply. Raises RemoteError, or ValueError: it is no reply."""
        ...


def read_object(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BadRequest: the body is none.
    """
    try:
        value = json_loads(body)
    except ValueError:
        raise BadRequest("The request is no JSON.") from None
    if not isinstance(value, dict):
        raise BadRequest("The request is no JSON object.")
    return value


def read_arguments(value: Mapping[str, Any], args: str, kwargs: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments in a request.

    Args:
        value: the request.
        args, kwargs: names of its members.

    Raises:
        BadRequest: they are no list and no object.
    """
    positional, named = value.get(args) or [], value.get(kwargs) or {}
    if not isinstance(positional, list) or not isinstance(named, dict):
        raise BadRequest(f"{args} must be a list and {kwargs} an object.")
    return tuple(positional), named


def write(value: Any) -> bytes:
    """A value as JSON."""
    return json_dumps(value)


def describe(target: TargetInfo) -> dict[str, Any]:
    """A procedure as `__list_targets__` tells of it."""
    return {
        "target": target.name,
        "args": list(target.args),
        "kwargs": list(target.kwargs),
        "docstring": target.doc or None,
    }


def described(value: Any) -> TargetInfo:
    """A procedure from what `__list_targets__` told of it."""
    if not isinstance(value, dict) or not isinstance(value.get("target"), str):
        raise ValueError("no description of a procedure")
    args, kwargs = (tuple(map(str, value.get(key) or ())) for key in ("args", "kwargs"))
    return TargetInfo(value["target"], args, kwargs, str(value.get("docstring") or ""))


def extension(status: StatusCode, details: Details) -> dict[str, Any]:
    """What errors carry between services of microkit, and others pass over."""
    return {"status": status.name, **({"details": dict(details)} if details else {})}


def new_uuid() -> str:
    """A random UUID with hyphens."""
    return str(uuid.uuid4())
