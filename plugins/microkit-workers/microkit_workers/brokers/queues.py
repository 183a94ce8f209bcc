"""Queues in memory: what waits, who consumes, and who gets the next message."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from microkit import PublicError, StatusCode
from microkit.broker import DeadLetter, OnMessage, QueueSpec, QueueState

from .stored import Stored

if TYPE_CHECKING:
    from .hub import Hub
    from .memory import MemoryBroker, MemoryDelivery

_logger = logging.getLogger("microkit.workers.brokers")


@dataclass(slots=True, eq=False)
class Entry:
    """A message's place in a queue; `number` is its position, kept when it comes back unanswered."""

    stored: Stored
    number: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Letter:
    """A dead letter, and what a redrive puts back."""

    public: DeadLetter
    stored: Stored


@dataclass(slots=True, eq=False)
class Consumer:
    """One subscription.

    Attributes:
        free: how many more messages it may get.
        held: what it got and has not answered yet.
        lost: called back when its connection is lost.
    """

    broker: MemoryBroker
    queue: Queue
    on_message: OnMessage
    free: int
    no_ack: bool
    active: bool = True
    held: dict[Entry, MemoryDelivery] = field(default_factory=dict["Entry", "MemoryDelivery"])
    lost: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    async def cancel(self) -> None:
        if self.active:
            self.active = False
            self.queue.remove(self)

    def on_lost(self, callback: Callable[[], None]) -> None:
        self.lost.append(callback)


class Queue:
    """One queue.

    Args:
        hub: whose queue it is.
        spec: how it is to be.
        dead: where its dead letters go.
    """

    def __init__(self, hub: Hub, spec: QueueSpec, dead: deque[Letter]) -> None:
        self.hub = hub
        self.name = spec.name
        self.options = hub.options
        self.single_active = spec.single_active
        self.exclusive = spec.exclusive
        self.dead = dead
        self.gone = False
        self.delayed = 0
        self.ready: deque[Entry] = deque()
        self.consumers: deque[Consumer] = deque()
        self.leaving: list[Consumer] = []  # cancelled, with messages that are still to be answered
        self._numbers = 0
        self._letters = 0

    def __len__(self) -> int:
        return len(self.ready) + self.delayed + self.unsettled

    @property
    def unsettled(self) -> int:
        """How many messages are delivered and not answered."""
        return sum(len(each.held) for each in self.consumers) + sum(len(each.held) for each in self.leaving)

    def state(self) -> QueueState:
        return QueueState(sum(map(_wanted, self.ready)), self.unsettled, self.delayed, len(self.dead))

    def check_room(self, count: int = 1) -> None:
        """Raises RESOURCE_EXHAUSTED if that many messages have no place."""
        if len(self) + count > self.options.max_length:
            raise PublicError(
                f"The queue {self.name} is full: it holds {self.options.max_length} messages.",
                status=StatusCode.RESOURCE_EXHAUSTED,
            )

    # -- what goes in --------------------------------------------------------------------------------------------------

    def append(self, entry: Entry) -> None:
        """Put a message at the end."""
        if self.gone:
            return
        self._numbers += 1
        entry.number = self._numbers
        self.ready.append(entry)
        self.hub.wake(self)

    def put_back(self, entry: Entry) -> None:
        """Put a message back to where it was, as returned once more."""
        if self.gone:
            return
        self.hub.wake(self)
        entry.stored.returns += 1
        if entry.stored.returns > self.options.delivery_limit:
            self.bury(entry.stored, "delivery limit")
            return
        place = 0
        for place, other in enumerate(self.ready):  # noqa: B007 -- only what came back before it is ahead of it
            if other.number > entry.number:
                break
        else:
            place = len(self.ready)
        self.ready.insert(place, entry)

    def bury(self, stored: Stored, reason: str) -> None:
        """Put a copy among the dead letters; over the bound, the oldest makes room."""
        if self.options.max_dead and len(self.dead) >= self.options.max_dead:
            dropped = self.dead.popleft()
            _logger.warning("queue %s has too many dead letters; %s is dropped", self.name, dropped.stored.message_id)
        self._letters += 1
        number = f"{self.name}:{self._letters}"
        public = DeadLetter(number, self.name, reason, stored.attempt, time.time(), stored.published())
        self.dead.append(Letter(public, stored))

    # -- who gets it ---------------------------------------------------------------------------------------------------

    def add(self, consumer: Consumer) -> None:
        self.consumers.append(consumer)
        self.hub.wake(self)

    def remove(self, consumer: Consumer) -> None:
        """Give a consumer no more messages; what it holds can still be answered."""
        self.consumers.remove(consumer)
        if self.exclusive:
            self.gone = True
            self.ready.clear()
            self.hub.forget(self)
        elif consumer.held:
            self.leaving.append(consumer)
        self.hub.wake(self)

    def freed(self, consumer: Consumer, entry: Entry) -> None:
        """A consumer has answered a message."""
        del consumer.held[entry]
        consumer.free += 1
        if not consumer.held and not consumer.active and consumer in self.leaving:
            self.leaving.remove(consumer)

    def _next(self) -> Consumer | None:
        if self.single_active:
            # The successor waits for what its predecessor still works at: there is one at any time, not almost.
            first = self.consumers[0] if self.consumers else None
            return first if first is not None and first.free and not self.leaving else None
        for _ in range(len(self.consumers)):
            consumer = self.consumers[0]
            self.consumers.rotate(-1)
            if consumer.free:
                return consumer
        return None

    def pump(self) -> None:
        """Deliver what waits to whoever has room, in turns."""
        while self.ready and (consumer := self._next()) is not None:
            entry = self.ready.popleft()
            if _wanted(entry):
                self._deliver(consumer, entry)

    def _deliver(self, consumer: Consumer, entry: Entry) -> None:
        delivery = consumer.broker.delivery(consumer, entry)
        if not consumer.no_ack:
            consumer.free -= 1
            consumer.held[entry] = delivery
        try:
            consumer.on_message(entry.stored.delivered(self.name), delivery)
        except Exception:
            _logger.exception("a consumer of queue %s could not take a message; it comes again", self.name)
            if not consumer.no_ack:
                self.freed(consumer, entry)
                delivery.settled = True
            self.put_back(entry)


def _wanted(entry: Entry) -> bool:
    expires = entry.stored.expires
    return expires is None or expires > time.time()
