"""The broker of a child process: what it publishes and calls goes through its parent's connection."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from microkit import PublicError, StatusCode
from microkit.broker import (
    Broker,
    DeadLetter,
    OnMessage,
    OnRequest,
    OutgoingMessage,
    QueueSpec,
    QueueState,
    RpcWire,
    Subscription,
    TargetInfo,
    Unroutable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class RelayBroker:
    """Publishes and calls by way of the parent process; consumes nothing.

    Args:
        ask: sends a question to the parent and returns its answer.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def connect(self) -> None:
        """The parent is connected."""

    async def close(self) -> None:
        """The connection is the parent's."""

    async def publish(self, source: str, event: str, message: OutgoingMessage) -> None:
        """See `Broker.publish`."""
        await self._told({"op": "publish", "source": source, "event": event, "message": _packed(message)})

    async def send(self, queue: str, message: OutgoingMessage) -> None:
        """See `Broker.send`."""
        await self._told({"op": "send", "queue": queue, "message": _packed(message)})

    async def subscribe(self, queue: QueueSpec, prefetch: int, on_message: OnMessage) -> Subscription:
        """Raises PublicError: a child process consumes nothing."""
        raise _not_here("subscribe")

    def rpc(self) -> RpcWire:
        """See `Broker.rpc`."""
        return RelayWire(self)

    async def state(self, queue: str) -> QueueState:
        """See `Broker.state`."""
        return QueueState(**await self._told({"op": "state", "queue": queue}))

    def dead_letters(self, queue: str = "") -> AsyncIterator[DeadLetter]:
        """Raises PublicError: only the parent process reads them."""
        raise _not_here("dead_letters")

    async def redrive(self, queue: str, ids: frozenset[str] | None = None) -> int:
        """See `Broker.redrive`."""
        return await self._told({"op": "redrive", "queue": queue, "ids": None if ids is None else sorted(ids)})

    async def _told(self, question: dict[str, Any]) -> Any:
        answer = await self._ask(question)
        failure = answer.get("failure")
        if failure is None:
            return answer.get("value")
        kind = Unroutable if failure["unroutable"] else PublicError
        raise kind(failure["detail"], status=StatusCode(failure["status"]))


class RelayWire:
    """Remote procedures by way of the parent process."""

    def __init__(self, broker: RelayBroker) -> None:
        self._broker = broker

    async def serve(
        self, service: str, targets: Mapping[str, TargetInfo], prefetch: int, on_request: OnRequest
    ) -> Subscription:
        """Raises PublicError: a child process serves nothing."""
        raise _not_here("serve")

    async def call(
        self,
        service: str,
        target: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float,
        headers: Mapping[str, Any] | None = None,
    ) -> Any:
        """See `RpcWire.call`."""
        question = {"op": "call", "service": service, "target": target, "timeout": timeout}
        question |= {"args": list(args), "kwargs": dict(kwargs or {}), "headers": dict(headers or {})}
        return await self._broker._told(question)

    async def targets(self, service: str, *, timeout: float) -> list[TargetInfo]:
        """See `RpcWire.targets`."""
        found = await self._broker._told({"op": "targets", "service": service, "timeout": timeout})
        return [TargetInfo(each["name"], tuple(each["args"]), tuple(each["kwargs"]), each["doc"]) for each in found]


def _not_here(what: str) -> PublicError:
    return PublicError(f"{what} is not possible in a child process.", status=StatusCode.UNIMPLEMENTED)


def _packed(message: OutgoingMessage) -> dict[str, Any]:
    packed = {each.name: getattr(message, each.name) for each in dataclasses.fields(message)}
    return {**packed, "headers": dict(message.headers), "body": base64.b64encode(message.body).decode()}


# -- in the parent -----------------------------------------------------------------------------------------------------


async def answer(question: dict[str, Any], broker: Broker, wire: RpcWire) -> dict[str, Any]:
    """Do what a child process asks for; only what may leave a process is told of a failure."""
    try:
        return {"value": await _do(question, broker, wire)}
    except PublicError as exc:
        unroutable = isinstance(exc, Unroutable)
        return {"failure": {"detail": exc.detail, "status": int(exc.status), "unroutable": unroutable}}


async def _do(question: dict[str, Any], broker: Broker, wire: RpcWire) -> Any:
    op = question["op"]
    if op == "publish":
        return await broker.publish(question["source"], question["event"], _unpacked(question["message"]))
    if op == "send":
        return await broker.send(question["queue"], _unpacked(question["message"]))
    if op == "state":
        return dataclasses.asdict(await broker.state(question["queue"]))
    if op == "redrive":
        ids = question["ids"]
        return await broker.redrive(question["queue"], None if ids is None else frozenset(ids))
    timeout: float = question["timeout"]
    if op == "targets":
        return [dataclasses.asdict(each) for each in await wire.targets(question["service"], timeout=timeout)]
    service, target, args, kwargs = (question[name] for name in ("service", "target", "args", "kwargs"))
    return await wire.call(service, target, args, kwargs, timeout=timeout, headers=question["headers"])


def _unpacked(packed: dict[str, Any]) -> OutgoingMessage:
    body = base64.b64decode(packed.pop("body"))
    return OutgoingMessage(body, **packed)
