"""Copies: messages that come again later, and dead letters. Runs on an asyncio loop."""

from __future__ import annotations

import math
from typing import Any

from microkit.broker import QueueSpec, Unroutable

from .declare import declare
from .link import Link
from .properties import DUE, now_ms
from .publisher import Publisher
from .topology import (
    DELAYED,
    Queue,
    Topology,
    dead_name,
    dead_topology,
    delayed_topology,
    has_own_queue,
    level_bind,
    level_route,
    level_topology,
    retry_queue,
    rounded_up,
)


class Retries:
    """Declares what delays need, and publishes by it.

    Args:
        link: the connection.
        publisher: publishes.
        by_plugin: delay by rabbitmq_delayed_message_exchange.

    Attributes:
        delays: the queues that hold delayed messages for a queue, as far as this process has used them.
    """

    def __init__(self, link: Link, publisher: Publisher, *, by_plugin: bool) -> None:
        self._link = link
        self._publisher = publisher
        self._by_plugin = by_plugin
        self._declared: set[Any] = set()
        self.delays: dict[str, set[str]] = {}

    async def store_retry(self, queue: QueueSpec, delay: float, body: bytes, properties: Any) -> None:
        """Store what comes again after `delay` seconds."""
        await self.send_later(queue.name, delay, body, properties, exclusive=queue.exclusive)

    async def store_dead(self, queue: QueueSpec, body: bytes, properties: Any) -> None:
        """Store a dead letter."""
        name = dead_name(queue)
        await self._ensured(name, dead_topology(queue), "", name, body, properties)

    async def send_later(
        self, queue: str, delay: float, body: bytes, properties: Any, *, exclusive: bool = False
    ) -> None:
        """Send to a queue that exists, after `delay` seconds."""
        milliseconds = math.ceil(delay * 1000)
        if milliseconds <= 0:
            return await self._publisher.publish("", queue, body, properties, mandatory=True)
        route = None
        if not self._by_plugin and not exclusive:
            route = None if has_own_queue(milliseconds) else level_route(queue, milliseconds)
            if route is None:
                milliseconds = rounded_up(milliseconds)
        properties.headers = {**(properties.headers or {}), DUE: now_ms() + milliseconds}
        if self._by_plugin:
            properties.headers["x-delay"] = milliseconds
            # Not mandatory: the plugin cannot route before the time has come, and returns every such message.
            return await self._ensured(
                ("plugin", queue), delayed_topology(queue), DELAYED, queue, body, properties, mandatory=False
            )
        if route is not None:
            levels = level_topology() if "levels" not in self._declared else Topology()
            topology = levels + Topology(binds=(level_bind(queue),))
            await self._ensured(("levels", queue), topology, *route, body, properties)
            self._declared.add("levels")
            return None
        waiting: Queue = retry_queue(queue, milliseconds, exclusive=exclusive)
        self.delays.setdefault(queue, set()).add(waiting.name)
        return await self._ensured(waiting.name, Topology(queues=(waiting,)), "", waiting.name, body, properties)

    async def _ensured(
        self,
        name: Any,
        topology: Topology,
        exchange: str,
        key: str,
        body: bytes,
        properties: Any,
        *,
        mandatory: bool = True,
    ) -> None:
        if name not in self._declared:
            await self.ensure(name, topology)
        try:
            await self._publisher.publish(exchange, key, body, properties, mandatory=mandatory)
        except Unroutable:  # somebody has deleted it since
            await self.ensure(name, level_topology() + topology if isinstance(name, tuple) else topology)
            await self._publisher.publish(exchange, key, body, properties, mandatory=mandatory)

    async def ensure(self, name: Any, topology: Topology) -> None:
        """Declare a topology, and remember that under a name."""
        await declare(self._link.channel, topology)
        self._declared.add(name)

    def is_declared(self, name: Any) -> bool:
        """Whether `ensure` was called with the name."""
        return name in self._declared

    def remember(self, name: Any) -> None:
        """Take it for declared."""
        self._declared.add(name)
