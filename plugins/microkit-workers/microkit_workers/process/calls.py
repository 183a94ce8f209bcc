"""Calls and outcomes as frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from microkit import Batch, Call, Message, PublicError, Reply, RpcRequest, StatusCode, Tick
from microkit.binding import arguments_of
from microkit.call import MISSING
from microkit.codecs import json_dumps, json_loads
from microkit.inprocess import RecordingDelivery
from microkit.plan import Plan
from microkit.settlement import Decision, Settlement, Verdict

from .errors import remote_failure

Frame = tuple[dict[str, Any], bytes]
_FACTS = ("source", "name", "queue", "content_type", "attempt", "message_id", "correlation_id", "reply_to")


def key_of(plan: Plan) -> str:
    """What parent and child know the same binding by."""
    return f"{plan.kind.names()} {plan.address} {plan.binding.name}"


# -- the call ----------------------------------------------------------------------------------------------------------


def pack_call(call: Any) -> Frame:
    """A call as a frame, without what it runs."""
    if isinstance(call, Batch):
        parts = [_pack_message(each) for each in call]
        head = {"messages": [{**each, "size": len(body)} for each, body in parts]}
        return {**head, "queue": call.queue, "source": call.source, "name": call.name}, b"".join(b for _, b in parts)
    if isinstance(call, Message):
        return _pack_message(call)
    if isinstance(call, Tick):
        moments = {"scheduled_at": call.scheduled_at.isoformat(), "fired_at": call.fired_at.isoformat()}
        facts = {"name": call.name, "missed": call.missed, "attempt": call.attempt, "headers": _plain(call.headers)}
        return {**moments, **facts}, b""
    args, kwargs = arguments_of(call)
    return {"name": call.name, "headers": _plain(call.headers)}, json_dumps([args, kwargs])


def _pack_message(message: Message) -> Frame:
    head: dict[str, Any] = {name: getattr(message, name) for name in _FACTS}
    head["headers"] = _plain(message.headers)
    if message._payload is MISSING:
        return head, message.body
    # It was translated, or never had a body.
    return {**head, "content_type": "application/json"}, json_dumps(message._payload)


def _plain(headers: Mapping[str, Any]) -> dict[str, Any]:
    """What of the headers has a JSON form; some brokers have more types."""
    return {name: each for name, each in headers.items() if isinstance(each, str | int | float | bool | None)}


def unpack_call(kind: str, head: dict[str, Any], body: bytes) -> Any:
    """The call of a frame.

    Args:
        kind: name of its kind.
    """
    if kind == "BATCH":
        messages: list[Message] = []
        for each in head["messages"]:
            size = each.pop("size")
            messages.append(_unpack_message(each, body[:size]))
            body = body[size:]
        return Batch(messages, queue=head["queue"], source=head["source"], name=head["name"])
    if kind == "MESSAGE":
        return _unpack_message(head, body)
    if kind == "TICK":
        due, fired = (datetime.fromisoformat(head[name]) for name in ("scheduled_at", "fired_at"))
        return Tick(head["name"], due, fired, head["missed"], attempt=head["attempt"], headers=head["headers"])
    args, kwargs = json_loads(body)
    return RpcRequest(head["name"], tuple(args), kwargs, headers=head["headers"])


def _unpack_message(head: dict[str, Any], body: bytes) -> Message:
    message = Message(body, **head)
    message.settlement = Settlement(RecordingDelivery())  # notes what the handler decides; the parent settles
    return message


# -- the outcome -------------------------------------------------------------------------------------------------------


def pack_outcome(call: Call, reply: Reply) -> Frame:
    """What became of a call, as a frame."""
    head: dict[str, Any] = {"status": int(reply.status), "decisions": [_decision(each) for each in _messages(call)]}
    if reply.error is not None:
        error = reply.error
        if isinstance(error, PublicError):
            head["public"] = {"detail": error.detail, "details": error.details, "http_status": error.http_status}
        head["error"] = [f"{each.__module__}.{each.__qualname__}" for each in type(error).__mro__[:-1]]
        return head, b""
    try:
        return head, json_dumps(reply.payload)
    except (TypeError, ValueError):
        if isinstance(call, RpcRequest):
            raise
        return head, b"null"  # nobody reads the result of a message or a tick


def _messages(call: Any) -> list[Message]:
    return list(call) if isinstance(call, Batch) else [call] if isinstance(call, Message) else []


def _decision(message: Message) -> list[Any] | None:
    decided = message.settlement.decision if message.settlement is not None else None
    return None if decided is None else [decided.verdict.value, decided.delay, decided.reason]


def unpack_outcome(call: Call, head: dict[str, Any], body: bytes) -> Any:
    """The result of a call.

    Raises:
        PublicError: the handler raised one; its class here is `PublicError` itself, with the same name.
        RemoteFailure: it raised something else.
    """
    for message, decided in zip(_messages(call), head["decisions"], strict=False):
        if decided is not None and message.settlement is not None:
            message.settlement._decide(Decision(Verdict(decided[0]), decided[1], decided[2]))
    status = StatusCode(head["status"])
    if "public" in head:
        raise _public(tuple(head["error"]), status, head["public"])
    if "error" in head:
        raise remote_failure(head["error"])
    payload = json_loads(body)
    return payload if status is StatusCode.OK else Reply(payload, status=status)


def _public(names: tuple[str, ...], status: StatusCode, facts: dict[str, Any]) -> PublicError:
    make: Callable[..., PublicError] = type(names[0].rpartition(".")[2], (PublicError,), {"class_names": names})
    return make(facts["detail"], status=status, http_status=facts["http_status"], details=facts["details"])
