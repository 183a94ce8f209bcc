"""The broker `memory://`: the semantics of RabbitMQ within one process, and no promise across its end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any, ClassVar, Self
from weakref import WeakSet

import anyio.lowlevel

from microkit.broker import DeadLetter, OnMessage, OutgoingMessage, QueueSpec, QueueState, RpcWire, Unroutable
from microkit.errors import PublicError, StartupError, StatusCode

from .hub import Hub
from .options import MemoryOptions, parse
from .queues import Consumer, Entry
from .stale import StaleDelivery
from .stored import Stored


class Hubs:
    """The hubs of one application: its own, and those that it shares with others of its process by name.

    A named hub lives as long as a broker that uses it; the application's own as long as the application.
    """

    shared: ClassVar[WeakSet[Hub]] = WeakSet()

    def __init__(self) -> None:
        self._own: Hub | None = None

    def get(self, name: str, options: MemoryOptions) -> Hub:
        """The hub of a name; the application's own for an empty one."""
        hub = next((each for each in self.shared if each.name == name), None) if name else self._own
        if hub is None:
            hub = Hub(name, options)
            if name:
                self.shared.add(hub)
            else:
                self._own = hub
        elif hub.options != options:
            raise StartupError(
                f"The broker memory://{name} is already in use with other options. Give both URLs the same ones, or "
                f"different names."
            )
        return hub


class MemoryBroker:
    """A connection to a hub in the memory of this process.

    Brokers of one process that name the same hub (`memory://orders`) share its queues; a plain `memory://` belongs to
    its application. Nothing survives the process: for work that must, there is `sqlite://`.

    Args:
        hub: what holds the queues.
    """

    def __init__(self, hub: Hub | None = None) -> None:
        self.hub = hub or Hub("", MemoryOptions())
        self.generation = 0
        self._connected = False
        self._consumers: list[Consumer] = []

    @classmethod
    def from_url(cls, url: str, hubs: Hubs | None = None) -> Self:
        """The broker of a URL: `memory://`, `memory://name`, with `MemoryOptions` as its query.

        Raises:
            StartupError: the URL cannot be right.
        """
        host, path, options = parse(url, MemoryOptions)
        return cls((hubs or Hubs()).get((host + path).strip("/"), options))

    async def connect(self) -> None:
        if not self._connected:
            self.hub.enter(self)
            self.generation += 1
            self._connected = True

    async def close(self) -> None:
        if not self._connected:
            return
        self._connected = False
        self.generation += 1
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            consumer.active = False
            held, consumer.held = list(consumer.held), {}
            queue = consumer.queue
            if consumer in queue.leaving:
                queue.leaving.remove(consumer)
            elif consumer in queue.consumers:
                queue.remove(consumer)
            for entry in held:
                queue.put_back(entry)
        self.hub.leave(self)
        for callback in [each for consumer in consumers for each in consumer.lost]:
            callback()

    def _check(self) -> None:
        if not self._connected:
            raise PublicError("The message broker is not connected.", status=StatusCode.UNAVAILABLE)

    async def publish(self, source: str, event: str, message: OutgoingMessage) -> None:
        await anyio.lowlevel.checkpoint()  # consumers get their turn, however fast somebody publishes
        self._check()
        self.hub.options.check_size(message)
        self.hub.publish(source, event, message)

    async def send(self, queue: str, message: OutgoingMessage) -> None:
        await anyio.lowlevel.checkpoint()
        self._check()
        self.hub.options.check_size(message)
        target = self.hub.queues.get(queue)
        if target is None:
            raise Unroutable(f"There is no queue {queue}.")
        target.check_room()
        self.hub.put(target, Entry(Stored.of(message)), message.delay)

    async def subscribe(self, queue: QueueSpec, prefetch: int, on_message: OnMessage) -> Consumer:
        self._check()
        target = self.hub.declare(queue)
        consumer = Consumer(self, target, on_message, prefetch, bool(queue.options.get("no_ack")))
        self._consumers = [each for each in self._consumers if each.active or each.held] + [consumer]
        target.add(consumer)
        return consumer

    def delivery(self, consumer: Consumer, entry: Entry) -> MemoryDelivery:
        """One delivery, which belongs to the connection as it is now."""
        return MemoryDelivery(consumer, entry)

    def rpc(self) -> RpcWire | None:
        return None

    async def state(self, queue: str) -> QueueState:
        found = self.hub.queues.get(queue)
        return QueueState(dead=len(self.hub.dead.get(queue, ()))) if found is None else found.state()

    def dead_letters(self, queue: str = "") -> AsyncIterator[DeadLetter]:
        dead = self.hub.dead
        letters = [each.public for name, found in dead.items() if queue in ("", name) for each in found]
        return _iterate(sorted(letters, key=lambda letter: letter.died_at))

    async def redrive(self, queue: str, ids: frozenset[str] | None = None) -> int:
        self._check()
        return self.hub.redrive(queue, ids)


class MemoryDelivery:
    """One message on its way."""

    __slots__ = ("consumer", "delivered_at", "entry", "generation", "settled")
    acks_at_once = True

    def __init__(self, consumer: Consumer, entry: Entry) -> None:
        self.consumer = consumer
        self.entry = entry
        self.generation = consumer.broker.generation
        self.delivered_at = time.time()
        self.settled = consumer.no_ack

    @property
    def current_generation(self) -> int:
        return self.consumer.broker.generation

    def _check(self) -> None:
        if self.generation != self.current_generation:
            raise StaleDelivery("the broker was closed after it delivered this message")

    async def store_retry(self, delay: float, attempt: int, reason: str) -> None:
        self._check()
        queue, stored = self.consumer.queue, self.entry.stored
        if not queue.gone:
            self.consumer.broker.hub.put(queue, Entry(stored.retry(attempt, reason, self.delivered_at)), delay)

    async def store_dead(self, reason: str) -> None:
        self._check()
        self.consumer.queue.bury(self.entry.stored, reason)

    async def ack(self) -> None:
        self._settle(lambda: None)

    async def give_back(self) -> None:
        self._settle(partial(self.consumer.queue.put_back, self.entry))

    def _settle(self, then: Any) -> None:
        if self.settled:
            return
        self._check()
        self.settled = True
        queue = self.consumer.queue
        queue.freed(self.consumer, self.entry)
        self.consumer.broker.hub.wake(queue)
        then()


async def _iterate(letters: Iterable[DeadLetter]) -> AsyncIterator[DeadLetter]:
    for letter in letters:
        yield letter
