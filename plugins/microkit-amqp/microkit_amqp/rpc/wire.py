"""Remote procedures over a broker's connection, in the format that is asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from microkit._bridge import AsyncioLoop
from microkit.broker import OnRequest, Subscription, TargetInfo, Unroutable
from microkit.call import Reply, RpcRequest
from microkit.errors import PublicError, StatusCode
from microkit_amqp.consumer import Consumer
from microkit_amqp.core import Core
from microkit_amqp.declare import OpenChannel, declare
from microkit_amqp.link import broken, unavailable
from microkit_amqp.properties import PERSISTENT, new_id
from microkit_amqp.topology import Topology

from .errors import UNKNOWN_SERVICE, RemoteError
from .formats import LIST_TARGETS, Format, ReplyQueue, described
from .nameko import NamekoFormat
from .requests import Job, Requests
from .ufw import UfwFormat

_logger = logging.getLogger("microkit.amqp")
_FORMATS: dict[str, Callable[[], Format]] = {"nameko": NamekoFormat, "ufw": UfwFormat}


def served_topology(wire: str, service: str, targets: Mapping[str, TargetInfo]) -> Topology:
    """What a service needs on the broker.

    Args:
        wire: `nameko` or `ufw`.
        service: its name.
        targets: its procedures.
    """
    return _FORMATS[wire]().served(service, targets)[0]


class AmqpRpcWire:
    """A `microkit.broker.RpcWire`.

    Args:
        opened: gives the loop and the core of an open broker.
        name: `nameko` or `ufw`.
    """

    def __init__(self, opened: Callable[[], tuple[AsyncioLoop, Core]], name: str) -> None:
        self.name = name
        self._opened = opened
        self._format = _FORMATS[name]()
        self._replies: Replies | None = None

    async def serve(
        self, service: str, targets: Mapping[str, TargetInfo], prefetch: int, on_request: OnRequest
    ) -> Subscription:
        """Take requests to a service. See `microkit.broker.RpcWire`.

        Raises:
            StartupError: a queue exists with other properties.
        """
        loop, core = self._opened()

        def on_job(job: Job, request: RpcRequest) -> None:
            on_request(request, reply_to(job))

        def reply_to(job: Job) -> Callable[[Reply], Awaitable[None]]:
            async def send(reply: Reply) -> None:
                await loop.run(requests.answer, job, reply)

            return send

        requests = Requests(core, self._format, service, targets, prefetch, loop.homeward(on_job))
        await loop.run(self._serve, core, requests, service, targets, prefetch)
        return _Served(loop, requests)

    async def _serve(
        self, core: Core, requests: Requests, service: str, targets: Mapping[str, TargetInfo], prefetch: int
    ) -> None:
        topology, queues = self._format.served(service, targets)

        async def prepare(open_channel: OpenChannel) -> None:
            await declare(open_channel, topology)

        requests.consumer = Consumer(core.link, queues, prepare, prefetch, requests.on_raw, core.rule)
        await core.consume(requests.consumer)

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
        """Call a procedure. See `microkit.broker.RpcWire`.

        Args:
            service, target, args, kwargs: what to call.
            timeout: seconds.
            headers: sent along; those of the running call continue its call-id stack.

        Raises:
            RemoteError: the procedure failed, or there is no such procedure (NOT_FOUND).
            PublicError: NOT_FOUND, there is no such service; DEADLINE_EXCEEDED; UNAVAILABLE.
        """
        loop, core = self._opened()
        if self._replies is None:
            self._replies = Replies(core, self._format)
        key, body = self._format.request(service, target, args, kwargs or {})
        return await loop.run(self._replies.call, key, body, self._format.headers(headers or {}), timeout)

    async def targets(self, service: str, *, timeout: float) -> list[TargetInfo]:
        """The procedures of a service.

        Raises:
            PublicError: as `call`; UNIMPLEMENTED, the service does not tell, such as nameko's own.
        """
        try:
            found = await self.call(service, LIST_TARGETS, timeout=timeout)
        except RemoteError as exc:
            if exc.status is StatusCode.NOT_FOUND and exc.type != UNKNOWN_SERVICE:
                text = f"The service {service!r} does not tell its procedures."
                raise PublicError(text, status=StatusCode.UNIMPLEMENTED) from exc
            raise
        try:
            return [described(each) for each in found]
        except (TypeError, ValueError) as exc:
            text = f"The service {service!r} tells its procedures in an unknown form."
            raise PublicError(text, status=StatusCode.INTERNAL) from exc

    async def close(self) -> None:
        """Take no more replies. The broker is still open."""
        replies, self._replies = self._replies, None
        if replies is not None:
            loop, _ = self._opened()
            await loop.run(replies.close)


class _Served:
    """A service that is being served."""

    def __init__(self, loop: AsyncioLoop, requests: Requests) -> None:
        self._loop = loop
        self._requests = requests

    async def cancel(self) -> None:
        await self._loop.run(self._requests.cancel)

    def on_lost(self, callback: Callable[[], None]) -> None:
        self._requests.consumer.lost.append(self._loop.homeward(callback))


class Replies:
    """The caller's side: one queue for all replies. Runs on an asyncio loop.

    Args:
        core: the broker.
        format: the wire.
    """

    def __init__(self, core: Core, format: Format) -> None:
        self._core = core
        self._format = format
        self._queue: ReplyQueue = format.reply_queue()
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._opening = asyncio.Lock()
        self._consumer: Consumer | None = None

    async def call(self, key: str, body: bytes, headers: Mapping[str, Any], timeout: float) -> Any:
        """Send a request and wait for its reply."""
        identity = new_id()
        future = asyncio.get_running_loop().create_future()
        self._waiting[identity] = future
        try:
            async with asyncio.timeout(timeout):
                if self._consumer is None:
                    await self._open()
                properties = self._properties(identity, headers, timeout)
                await self._core.publisher.publish(self._format.exchange, key, body, properties, mandatory=True)
                reply = await future
        except TimeoutError as exc:
            text = f"{key} has not answered within {timeout:g} seconds."
            raise PublicError(text, status=StatusCode.DEADLINE_EXCEEDED) from exc
        except Unroutable:
            service = key.partition(".")[0]
            text = f"There is no service {service!r}, or it has no such procedure."
            raise RemoteError(UNKNOWN_SERVICE, text, (service,), status=StatusCode.NOT_FOUND, public=True) from None
        finally:
            del self._waiting[identity]
        try:
            return self._format.read(reply)
        except (ValueError, PublicError) as exc:
            if isinstance(exc, RemoteError):
                raise
            raise PublicError(f"{key} answered what is no reply.", status=StatusCode.INTERNAL) from exc

    def _properties(self, identity: str, headers: Mapping[str, Any], timeout: float) -> Any:
        from pamqp.commands import Basic

        return Basic.Properties(
            content_type="application/json",
            content_encoding="utf-8",
            headers=dict(headers),
            delivery_mode=PERSISTENT,
            priority=0,
            correlation_id=identity,
            reply_to=self._queue.address,
            message_id=identity,
            expiration=str(max(1, int(timeout * 1000))),  # nobody waits for the reply any more then
        )

    async def _open(self) -> None:
        async with self._opening:
            if self._consumer is not None:
                return

            async def prepare(open_channel: OpenChannel) -> None:
                await declare(open_channel, self._queue.topology)

            core = self._core
            consumer = Consumer(core.link, [self._queue.name], prepare, 0, self._on_raw, core.rule, no_ack=True)
            await core.consume(consumer)
            self._consumer = consumer

    def _on_raw(self, raw: Any) -> None:
        future = self._waiting.get(raw.header.properties.correlation_id or "")
        if future is None or future.done():
            _logger.debug("a reply came too late, or twice")
        else:
            future.set_result(raw.body)

    async def close(self) -> None:
        """Tell those who wait that nothing comes any more, and delete the queue."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(unavailable("The connection to the message broker was closed during the call."))
        if self._consumer is not None:
            await self._consumer.cancel()
            try:
                if self._core.link.is_up:
                    channel = await self._core.link.channel()
                    await channel.queue_delete(self._queue.name)
                    await channel.close()
            except Exception as exc:
                if not broken(exc):
                    raise
