"""The wire of micro-framework (`ufw-rpc`).

Source: micro-framework 2.1.1. Its replies are JSON strings that contain JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from microkit.broker import TargetInfo
from microkit.codecs import json_loads
from microkit.errors import BadRequest, StatusCode
from microkit_amqp.topology import Bind, Exchange, Queue, Topology

from .errors import remote_error
from .formats import (
    GET_TARGET,
    LIST_TARGETS,
    Details,
    ParsedRequest,
    ReplyQueue,
    extension,
    new_uuid,
    read_arguments,
    read_object,
    write,
)

_EXCHANGE = Exchange("ufw-rpc")
_EXPIRES_MS = 12 * 3600 * 1000
_TTL_MS = 24 * 3600 * 1000
_COMMANDS = (LIST_TARGETS, GET_TARGET)


class UfwFormat:
    """A queue for each target, and one for questions about targets, on the exchange `ufw-rpc`."""

    exchange = _EXCHANGE.name

    def served(self, service: str, targets: Mapping[str, TargetInfo]) -> tuple[Topology, list[str]]:
        names = {f"rpc-{service}-{target}": f"{service}.{target}" for target in targets}
        names[f"rpc-{service}-broadcast"] = f"{service}._broadcast.*"
        queues = tuple(Queue(name) for name in names)
        binds = tuple(Bind(name, self.exchange, key) for name, key in names.items())
        return Topology((_EXCHANGE,), queues, binds), list(names)

    def parse(self, service: str, raw: Any) -> ParsedRequest:
        value = read_object(raw.body)
        if isinstance(command := value.get("command"), str):
            args, kwargs = read_arguments(value, "command_args", "command_kwargs")
            return ParsedRequest(command, args, kwargs, dict(raw.header.properties.headers or {}))
        raise BadRequest("The request has no command.")

    def result(self, value: Any) -> bytes:
        return write(write({"data": value, "exception": None}).decode())

    def error(self, name: str, message: str, status: StatusCode, details: Details = None) -> bytes:
        if name == "PublicError" and status is StatusCode.NOT_FOUND:
            name = "RPCTargetDoesNotExist"
        exception = {"exception": name, "message": message, "args": [message], "kwargs": {}, "module": None}
        return write(write({"data": None, "exception": {**exception, **extension(status, details)}}).decode())

    def reply_queue(self) -> ReplyQueue:
        name = f"ufw-reply-{new_uuid()}"
        queue = Queue(name, arguments={"x-expires": _EXPIRES_MS, "x-message-ttl": _TTL_MS})
        return ReplyQueue(name, name, Topology((_EXCHANGE,), (queue,), (Bind(name, self.exchange, name),)))

    def request(self, service: str, target: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, bytes]:
        key = f"{service}._broadcast.{target}" if target in _COMMANDS else f"{service}.{target}"
        return key, write({"command": target, "command_args": list(args), "command_kwargs": dict(kwargs)})

    def headers(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return dict(given)

    def read(self, body: bytes) -> Any:
        inner = json_loads(body)
        reply = read_object(inner.encode() if isinstance(inner, str) else body)
        error = reply.get("exception")
        if error is None:
            return reply.get("data")
        if not isinstance(error, dict):
            raise ValueError("the exception of the reply is no object")
        raise remote_error(error.get("exception"), error.get("message"), error.get("args"), error)
