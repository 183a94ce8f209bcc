"""nameko's wire, as nameko 2.14 and 3.0 speak it.

Source: messages of nameko 2.14.1 and 3.0.0rc11, captured in both directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from microkit.broker import TargetInfo
from microkit.errors import StatusCode
from microkit_amqp.topology import Bind, Exchange, Queue, Topology

from .errors import remote_error
from .formats import Details, ParsedRequest, ReplyQueue, extension, new_uuid, read_arguments, read_object, write

STACK = "nameko.call_id_stack"
_KEPT = 10  # calls that nameko remembers of a stack
_EXCHANGE = Exchange("nameko-rpc")
_REPLIES_EXPIRE_MS = 300_000
_NAMES = {
    StatusCode.NOT_FOUND: "MethodNotFound",
    StatusCode.INVALID_ARGUMENT: "IncorrectSignature",
}


class NamekoFormat:
    """Requests to `{service}.{method}` on the exchange `nameko-rpc`; queues without arguments, as nameko's own."""

    exchange = _EXCHANGE.name

    def served(self, service: str, targets: Mapping[str, TargetInfo]) -> tuple[Topology, list[str]]:
        queue = f"rpc-{service}"
        # `*` is one word, and nameko's methods are; names with dots get a binding each.
        keys = ["*", *(name for name in targets if "." in name)]
        binds = tuple(Bind(queue, self.exchange, f"{service}.{key}") for key in keys)
        return Topology((_EXCHANGE,), (Queue(queue),), binds), [queue]

    def parse(self, service: str, raw: Any) -> ParsedRequest:
        target = (raw.delivery.routing_key or "").removeprefix(f"{service}.")
        args, kwargs = read_arguments(read_object(raw.body), "args", "kwargs")
        headers = dict(raw.header.properties.headers or {})
        stack = headers.get(STACK)
        stack = stack if isinstance(stack, list) else []
        headers[STACK] = [*stack, f"{service}.{target}.{new_uuid()}"][-_KEPT:]
        return ParsedRequest(target, args, kwargs, headers)

    def result(self, value: Any) -> bytes:
        return write({"result": value, "error": None})

    def error(self, name: str, message: str, status: StatusCode, details: Details = None) -> bytes:
        # nameko's clients know its own errors by their path, and all others by name and text.
        known = _NAMES.get(status) if name in ("PublicError", "ValidationError", "BadRequest") else None
        path = f"nameko.exceptions.{known}" if known else name
        error = {"exc_type": known or name, "exc_path": path, "exc_args": [message], "value": message}
        return write({"result": None, "error": {**error, **extension(status, details)}})

    def reply_queue(self) -> ReplyQueue:
        address = new_uuid()
        queue = Queue(f"rpc.reply-microkit-{address}", arguments={"x-expires": _REPLIES_EXPIRE_MS})
        topology = Topology((_EXCHANGE,), (queue,), (Bind(queue.name, self.exchange, address),))
        return ReplyQueue(queue.name, address, topology)

    def request(self, service: str, target: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, bytes]:
        return f"{service}.{target}", write({"args": list(args), "kwargs": dict(kwargs)})

    def headers(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {STACK: [f"standalone_rpc_client.{new_uuid()}.{new_uuid()}"], **given}

    def read(self, body: bytes) -> Any:
        reply = read_object(body)
        error = reply.get("error")
        if error is None:
            return reply.get("result")
        if not isinstance(error, dict):
            raise ValueError("the error of the reply is no object")
        raise remote_error(error.get("exc_type"), error.get("value"), error.get("exc_args"), error)
