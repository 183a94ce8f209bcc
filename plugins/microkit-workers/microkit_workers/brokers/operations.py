"""What the event loop and the thread of `sqlite://` hand each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

from microkit.broker import OnMessage, QueueSpec

from .store import Store
from .stored import Stored


class Operation:
    """One piece of work for the thread, done in a transaction that others may share.

    Args:
        run: the work; it may run again if its transaction was rolled back.
        settles: it answers a message, so it is tried again until the file can be written.
        then: called by the thread with its result once the work is committed.

    Attributes:
        result, error: what came of it.
        abandoned: nobody waits any more, and it may be left out if it has not begun.
    """

    __slots__ = ("abandoned", "done", "error", "result", "run", "settles", "then")

    def __init__(
        self, run: Callable[[Store], Any], *, settles: bool = False, then: Callable[[Any], None] | None = None
    ) -> None:
        self.run = run
        self.settles = settles
        self.then = then
        self.done = anyio.Event()
        self.result: Any = None
        self.error: Exception | None = None
        self.abandoned = False


@dataclass(slots=True, eq=False)
class Consumer:
    """One subscription.

    Attributes:
        number: tells it from others of its session.
        active: it takes messages; of the event loop.
        lost: called back on the event loop when the session was lost.
        free, held, alone, leads: of the thread: how many more messages it may get, how many it has, which suspicious
            one it has to itself, and whether it is its queue's single active consumer.
    """

    number: int
    spec: QueueSpec
    prefetch: int
    on_message: OnMessage
    no_ack: bool
    active: bool = True
    lost: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    free: int = 0
    held: int = 0
    alone: int = 0
    leads: bool = False

    @property
    def room(self) -> int:
        """How many messages it may get now."""
        return 0 if self.alone else self.free

    def settled(self, id: int) -> None:
        """It has answered a message."""
        self.free += 1
        self.held -= 1
        if self.alone == id:
            self.alone = 0


@dataclass(slots=True, eq=False)
class Group:
    """The consumers of one queue in this process; of the thread.

    Attributes:
        dirty: there may be messages that nobody has looked for.
        due: when the next delayed message may be delivered, in seconds since the epoch.
        leaving: cancelled consumers with messages that are still to be answered.
    """

    queue: str
    consumers: deque[Consumer] = field(default_factory=deque[Consumer])
    leaving: list[Consumer] = field(default_factory=list[Consumer])
    dirty: bool = True
    due: float | None = None

    @property
    def held(self) -> int:
        """How many messages its consumers have."""
        return sum(each.held for each in (*self.consumers, *self.leaving))

    def candidates(self) -> list[Consumer]:
        """Who may get messages now, in turns."""
        self.leaving = [each for each in self.leaving if each.held]
        if self.consumers and self.consumers[0].spec.single_active:
            return [each for each in [self.consumers[0]] if each.room and not self.leaving]
        return [each for each in self.consumers if each.room]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that a consumer is to get.

    Attributes:
        id: its number in the file.
        session, generation: under which it was claimed.
    """

    consumer: Consumer
    id: int
    session: int
    generation: int
    stored: Stored
