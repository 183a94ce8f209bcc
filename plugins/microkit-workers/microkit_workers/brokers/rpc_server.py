"""The serving side of remote procedures over queues: what is taken, when it is acked, how it is answered."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from microkit import Message, PublicError, Reply, RpcRequest, StatusCode
from microkit._bridge import spawn_detached
from microkit.broker import Broker, OnRequest, OutgoingMessage, QueueSpec, Subscription, TargetInfo, Unroutable
from microkit.settlement import Delivery

from .rpc_wire import PREFIX, TIMEOUT, error_body, read_request, reply_body, targets_body, unknown_target

_logger = logging.getLogger("microkit.workers.rpc")


@dataclass(slots=True, eq=False)
class _Arrived:
    message: Message
    delivery: Delivery
    until: float  # on the monotonic clock: its caller waits no longer


class RequestQueue:
    """The subscription of one service to its requests.

    Args:
        broker: where the queue is.
        service: whose requests.
        targets: the procedures that there are.
        prefetch: requests that may be unanswered at a time.
        on_request: takes one on.
        max_size: bytes of a request or a reply.
    """

    def __init__(
        self,
        broker: Broker,
        service: str,
        targets: Mapping[str, TargetInfo],
        prefetch: int,
        on_request: OnRequest,
        max_size: int,
    ) -> None:
        self._broker = broker
        self._service = service
        self._targets = targets
        self._free = prefetch
        self._prefetch = prefetch
        self._on_request = on_request
        self._max_size = max_size
        self._arrived: deque[_Arrived] = deque()
        self._wake = anyio.Event()
        self._ended = anyio.Event()
        self._active = True
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Begin to take requests."""
        spawn_detached(self._run, f"requests to {self._service}")
        try:
            self._subscription = await self._broker.subscribe(
                QueueSpec(PREFIX + self._service), self._prefetch, self._on_message
            )
        except BaseException:
            self._active = False
            self._wake.set()
            raise

    async def cancel(self) -> None:
        """Take no more requests, and give back those that wait; those that run can still be answered."""
        if not self._active:
            return
        self._active = False
        self._wake.set()
        if self._subscription is not None:
            await self._subscription.cancel()
        await self._ended.wait()

    def on_lost(self, callback: Callable[[], None]) -> None:
        assert self._subscription is not None
        self._subscription.on_lost(callback)

    def _on_message(self, message: Message, delivery: Delivery) -> None:
        timeout = message.headers.pop(TIMEOUT, None)
        seconds = timeout / 1000 if isinstance(timeout, int) else 3600.0
        self._arrived.append(_Arrived(message, delivery, time.monotonic() + seconds))
        self._wake.set()

    async def _run(self) -> None:
        # Acking takes waiting, and taking a message must not wait: so one task takes them on, several at a time.
        try:
            while self._active:
                await self._wake.wait()
                self._wake = anyio.Event()
                while self._active and self._arrived and self._free:
                    async with anyio.create_task_group() as tasks:
                        while self._arrived and self._free:
                            self._free -= 1
                            tasks.start_soon(self._take, self._arrived.popleft())
            async with anyio.create_task_group() as tasks:
                for arrived in self._arrived:
                    tasks.start_soon(self._quietly, arrived.delivery.give_back)
                self._arrived.clear()
        finally:
            self._ended.set()

    async def _take(self, arrived: _Arrived) -> None:
        message = arrived.message
        try:
            target, args, kwargs = self._read(message)
            info = self._targets.get(target)
            if target and info is None:
                raise unknown_target(self._service, target)
        except PublicError as exc:
            return await self._answer(arrived, error_body(exc), acked=False)
        if info is None:
            return await self._answer(arrived, targets_body(self._targets), acked=False)
        if not info.idempotent and not await self._quietly(arrived.delivery.ack):
            return self._release()  # perhaps it comes again, so it must not run now
        if time.monotonic() >= arrived.until:
            return self._release() if not info.idempotent else await self._answer(arrived, None, acked=False)
        request = RpcRequest(f"{self._service}.{target}", args, kwargs, headers=message.headers)
        reply = partial(self._reply, arrived, not info.idempotent)
        try:
            self._on_request(request, reply)
        except Exception:
            _logger.exception("a request to %s could not be taken on", request.name)
            await reply(Reply(error=RuntimeError(), status=StatusCode.INTERNAL))
        return None

    def _read(self, message: Message) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        if len(message.body) > self._max_size:
            text = f"The request has {len(message.body)} bytes; at most {self._max_size} are allowed."
            raise PublicError(text, status=StatusCode.RESOURCE_EXHAUSTED)
        return read_request(message.body)

    async def _reply(self, arrived: _Arrived, acked: bool, reply: Reply) -> None:
        body = reply_body(reply, self._max_size)
        close: Callable[[], Awaitable[None]] | None = getattr(reply.body, "aclose", None)
        if close is not None:
            await close()
        await self._answer(arrived, body, acked=acked)

    async def _answer(self, arrived: _Arrived, body: bytes | None, *, acked: bool) -> None:
        message, left = arrived.message, arrived.until - time.monotonic()
        sent = True
        if body is not None and message.reply_to and left > 0:
            reply = OutgoingMessage(body, correlation_id=message.correlation_id, expires=left)
            sent = await self._quietly(partial(self._broker.send, message.reply_to, reply))
        if not acked:
            await self._quietly(arrived.delivery.ack if sent else arrived.delivery.give_back)
        self._release()

    def _release(self) -> None:
        self._free += 1
        self._wake.set()

    async def _quietly(self, action: Callable[[], Awaitable[None]]) -> bool:
        try:
            await action()
        except Unroutable:
            _logger.debug("a caller of %s has left before its reply", self._service)
        except Exception:
            _logger.exception("the broker failed while a request to %s was answered", self._service)
            return False
        return True
