"""Remote procedures over the queues of any broker, with nothing but `send` and `subscribe`."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from microkit import Message, PublicError, StatusCode
from microkit.broker import Broker, OnRequest, OutgoingMessage, QueueSpec, Subscription, TargetInfo, Unroutable
from microkit.settlement import Delivery

from .rpc_server import RequestQueue
from .rpc_wire import PREFIX, REPLIES, TIMEOUT, read_reply, read_targets, request_body

_logger = logging.getLogger("microkit.workers.rpc")

_REPLY_PREFETCH = 256


class _Pending:
    """A call that waits for its reply."""

    __slots__ = ("body", "delivery", "lost", "wake")

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.delivery: Delivery | None = None
        self.lost = False
        self.wake = anyio.Event()


class QueueRpc:
    """The wire of remote procedures for brokers that have none of their own (`broker.rpc()` is None).

    Requests to a service wait in the queue `rpc.{service}`, replies in a private queue of this object. A request is
    acked before it runs, so it runs at most once, unless its procedure is declared idempotent: then it is acked once
    its reply was sent. Requests and replies expire with their caller's patience, and a late reply is dropped.

    Args:
        broker: connected; it stays its owner's, who closes it after this.
        max_size: bytes of a request or a reply.
    """

    def __init__(self, broker: Broker, *, max_size: int = 1024 * 1024) -> None:
        self.broker = broker
        self.max_size = max_size
        self._pending: dict[str, _Pending] = {}
        self._late: deque[Delivery] = deque()
        self._replies = ""
        self._subscription: Subscription | None = None
        self._broken = False
        self._opening = anyio.Lock()
        self._calls = 0

    async def close(self) -> None:
        """Take no more replies; calls that wait for one fail with UNAVAILABLE."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.cancel()
        self._lost()

    async def serve(
        self, service: str, targets: Mapping[str, TargetInfo], prefetch: int, on_request: OnRequest
    ) -> Subscription:
        queue = RequestQueue(self.broker, service, targets, prefetch, on_request, self.max_size)
        await queue.open()
        return queue

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
        if not target:
            raise PublicError("A call needs the name of a procedure.", status=StatusCode.NOT_FOUND)
        return await self._call(service, request_body(target, args, kwargs or {}), timeout, headers or {})

    async def targets(self, service: str, *, timeout: float) -> list[TargetInfo]:
        return read_targets(await self._call(service, request_body("", (), {}), timeout, {}))

    async def _call(self, service: str, body: bytes, timeout: float, headers: Mapping[str, Any]) -> Any:
        if not (timeout > 0 and math.isfinite(timeout)):
            raise ValueError(f"a call needs a timeout in seconds, not {timeout}")
        if len(body) > self.max_size:
            text = f"The request has {len(body)} bytes; at most {self.max_size} are allowed."
            raise PublicError(text, status=StatusCode.RESOURCE_EXHAUSTED)
        pending = _Pending()
        self._calls += 1
        correlation = f"{self._calls:x}"
        with anyio.move_on_after(timeout) as scope:
            await self._open()
            self._pending[correlation] = pending
            request = OutgoingMessage(
                body,
                headers={**headers, TIMEOUT: int(timeout * 1000)},
                correlation_id=correlation,
                reply_to=self._replies,
                expires=timeout,
            )
            try:
                try:
                    await self.broker.send(PREFIX + service, request)
                except Unroutable:
                    raise PublicError(f"There is no service {service}.", status=StatusCode.NOT_FOUND) from None
                await self._wait(pending)
            finally:
                del self._pending[correlation]
        if pending.delivery is not None:
            await self._ack(pending.delivery)
        if pending.body is not None:
            return read_reply(pending.body)
        if pending.lost:
            raise PublicError("The queue for replies was lost.", status=StatusCode.UNAVAILABLE)
        assert scope.cancelled_caught, "a call ends with a reply, a loss or its timeout"
        raise PublicError(f"{service} did not reply within {timeout:g} s.", status=StatusCode.DEADLINE_EXCEEDED)

    async def _wait(self, pending: _Pending) -> None:
        while pending.body is None and not pending.lost:
            await pending.wake.wait()
            if self._late:  # nobody else is there to answer them, and they take room from the replies that are awaited
                pending.wake = anyio.Event() if pending.body is None else pending.wake
                await self._ack(self._late.popleft())

    async def _open(self) -> None:
        async with self._opening:
            if self._broken and self._subscription is not None:
                # Its broker may have restored it, empty and under a name that servers saw vanish: a new one is plain.
                old, self._subscription = self._subscription, None
                await old.cancel()
            if self._subscription is None:
                self._broken = False
                self._replies = REPLIES + os.urandom(12).hex()
                spec = QueueSpec(self._replies, exclusive=True, options={"no_ack": True})
                subscription = await self.broker.subscribe(spec, _REPLY_PREFETCH, self._on_reply)
                subscription.on_lost(self._lost)
                self._subscription = subscription

    def _on_reply(self, message: Message, delivery: Delivery) -> None:
        pending = self._pending.get(message.correlation_id)
        if pending is not None and pending.body is None:
            pending.body, pending.delivery = message.body, delivery
        else:
            self._late.append(delivery)
            pending = next((each for each in self._pending.values() if each.body is None), None)
        if pending is not None:
            pending.wake.set()

    def _lost(self) -> None:
        self._broken = True
        for pending in self._pending.values():
            pending.lost = True
            pending.wake.set()

    async def _ack(self, delivery: Delivery) -> None:
        try:
            await delivery.ack()
        except Exception:
            _logger.debug("a reply could not be acked; its queue goes with this process", exc_info=True)
