"""The broker's asyncio side: its connections and all that works over them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from microkit._bridge import AsyncioLoop
from microkit.broker import DeadLetter, OnMessage, OutgoingMessage, QueueSpec, QueueState, Unroutable
from microkit.errors import StartupError

from . import dead, management
from .address import Address
from .consumer import AckRule, Consumer
from .declare import OpenChannel, declare
from .inbox import Inbox
from .link import Link, probe_delayed_exchange
from .properties import wire_properties
from .publisher import Publisher
from .retries import Retries
from .settings import AmqpSettings
from .topology import SHARED_DEAD, Topology, events_exchange, relay_queue, work_topology


class Core:
    """What `AmqpBroker` does, on an asyncio loop. Its methods are described there.

    Args:
        address: of the broker.
        publishing: the same, for a connection that only publishes: while RabbitMQ is low on memory or disk, it reads
            nothing any more from connections that publish, and no ack either.
        settings: of the plugin.
        loop: how those who use it reach this side.
    """

    def __init__(self, address: Address, publishing: Address, settings: AmqpSettings, loop: AsyncioLoop) -> None:
        self.settings = settings
        self.loop = loop
        self.link = Link(address, settings)
        self._outgoing = Link(publishing, settings)
        self.publisher = Publisher(self._outgoing, settings.publish_window, settings.publish_timeout)
        self.retries = Retries(self.link, self.publisher, by_plugin=settings.delayed_exchange)
        self.rule = AckRule(settings.ack_batch, settings.ack_delay)
        self._consumers: list[Consumer] = []
        self._inboxes: dict[str, list[Inbox]] = {}
        self._abandoned: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        await self.link.open()
        if self.settings.delayed_exchange:
            try:
                await probe_delayed_exchange(self.link.address, self.settings.connect_timeout)
            except BaseException:
                await self.link.close()
                raise

    async def close(self) -> None:
        for consumer in self._consumers:
            await consumer.close()
        if self._abandoned and self.link.is_up:
            await asyncio.wait(self._abandoned, timeout=self.settings.connect_timeout)
        await self.publisher.close()
        await asyncio.gather(self._outgoing.close(), self.link.close())
        await asyncio.gather(*self._abandoned, return_exceptions=True)

    # -- sending -------------------------------------------------------------------------------------------------------

    async def publish(self, source: str, event: str, message: OutgoingMessage) -> None:
        properties = wire_properties(message)
        if message.delay > 0:
            relay = relay_queue(source, event)
            name = relay.queues[0].name
            if not self.retries.is_declared(name):
                await self.retries.ensure(name, relay)
            await self.retries.send_later(name, message.delay, message.body, properties)
            return
        exchange = events_exchange(source)
        if not self.retries.is_declared(exchange.name):
            await self.retries.ensure(exchange.name, Topology((exchange,)))
        try:
            await self.publisher.publish(exchange.name, event, message.body, properties, mandatory=False)
        except Unroutable:  # an auto-delete exchange of others, or one that was deleted
            await self.retries.ensure(exchange.name, Topology((exchange,)))
            await self.publisher.publish(exchange.name, event, message.body, properties, mandatory=False)

    async def send(self, queue: str, message: OutgoingMessage) -> None:
        if message.delay > 0 and not self.retries.is_declared(("target", queue)):
            if await dead.depth(self.link, queue) is None and queue not in self._inboxes:
                raise Unroutable(f"There is no queue {queue!r}.")
            self.retries.remember(("target", queue))
        await self.retries.send_later(queue, message.delay, message.body, wire_properties(message))

    # -- consuming -----------------------------------------------------------------------------------------------------

    async def subscribe(self, queue: QueueSpec, prefetch: int, on_message: OnMessage) -> Consumer:
        topology = work_topology(queue, self.settings.delivery_limit)

        async def prepare(open_channel: OpenChannel) -> None:
            await declare(open_channel, topology)

        inbox = Inbox(queue, self.loop, self.retries, self.publisher, on_message)
        consumer = inbox.consumer = Consumer(self.link, [queue.name], prepare, prefetch, inbox.on_raw, self.rule)
        await self.consume(consumer)
        self._inboxes.setdefault(queue.name, []).append(inbox)
        return consumer

    async def consume(self, consumer: Consumer) -> None:
        """Start a consumer, and close it with the broker.

        Raises:
            StartupError: its queue exists with other properties, is exclusive to others, or is not permitted.
        """
        from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource

        starting = asyncio.create_task(consumer.start())
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._abandoned.add(ending := consumer.abandon(starting))
            ending.add_done_callback(self._abandoned.discard)
            raise
        except ChannelLockedResource as exc:
            raise StartupError(
                f"A queue is exclusive to another connection: {exc}. Give each process a name of its own for it."
            ) from exc
        except ChannelAccessRefused as exc:
            raise StartupError(
                f"RabbitMQ refuses {self.link.address.user!r} what a consumer needs: {exc}. Give the user permission "
                f"to configure, write and read (`rabbitmqctl set_permissions`)."
            ) from exc
        self._consumers.append(consumer)

    # -- looking -------------------------------------------------------------------------------------------------------

    async def state(self, queue: str) -> QueueState:
        ready = await dead.depth(self.link, queue)
        letters = await dead.depth(self.link, f"{queue}.dead") or 0
        delays = self.retries.delays.get(queue, set())
        unsettled = sum(inbox.unsettled for inbox in self._inboxes.get(queue, []))
        if self.settings.management:
            known = await management.queues(self.settings.management, self.link.address.vhost)
            delays = {name for name in known if name.startswith(f"mk.retry.{queue}.")}
            unsettled = known[queue].unsettled if queue in known else 0
        delayed = sum([await dead.depth(self.link, name) or 0 for name in delays])
        return QueueState(ready or 0, unsettled, delayed, letters)

    async def dead_letters(self, queue: str) -> list[DeadLetter]:
        if queue:
            return [
                *await dead.read(self.link, f"{queue}.dead", queue),
                *await dead.read(self.link, SHARED_DEAD, queue),
            ]
        names: Sequence[str] = [f"{name}.dead" for name in self._inboxes]
        if self.settings.management:
            known = await management.queues(self.settings.management, self.link.address.vhost)
            names = [name for name in known if name.endswith(".dead")]
        found = [
            letter for name in dict.fromkeys((*names, SHARED_DEAD)) for letter in await dead.read(self.link, name, "")
        ]
        return sorted(found, key=lambda letter: letter.died_at)

    async def redrive(self, queue: str, ids: frozenset[str] | None) -> int:
        moved = await dead.redrive(self.link, self.publisher, f"{queue}.dead", queue, ids)
        return moved + await dead.redrive(self.link, self.publisher, SHARED_DEAD, queue, ids)

    async def declare(self, topology: Topology) -> None:
        await declare(self.link.channel, topology)

    async def open_channel(self) -> Any:
        return await self.link.channel()
