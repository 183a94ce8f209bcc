"""What the brokers of one name share in memory: queues, bindings, delays, dead letters."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from weakref import WeakSet

import anyio
import anyio.lowlevel

from microkit._bridge import spawn_detached
from microkit.broker import OutgoingMessage, QueueSpec, Unroutable
from microkit.errors import StartupError

from .options import MemoryOptions
from .queues import Entry, Letter, Queue
from .stored import Stored


class Hub:
    """Queues in memory. All brokers that are connected at a time run in one event loop.

    Args:
        name: of the hub; empty for an application's own.
        options: bounds of its queues.
    """

    def __init__(self, name: str, options: MemoryOptions) -> None:
        self.name = name
        self.options = options
        self.queues: dict[str, Queue] = {}
        self.bindings: dict[tuple[str, str], dict[str, Queue]] = {}
        self.dead: dict[str, deque[Letter]] = {}
        self._connected: WeakSet[object] = WeakSet()
        self._loop: object = None
        self._timers: list[tuple[float, int, Queue, Entry]] = []
        self._order = itertools.count()
        self._rearm = anyio.Event()
        self._changed: dict[Queue, None] = {}
        self._run = 0

    # -- connections ---------------------------------------------------------------------------------------------------

    def enter(self, broker: object) -> None:
        """A broker connects.

        Raises:
            StartupError: others are connected from another event loop.
        """
        loop = anyio.lowlevel.current_token().native_token
        if self._connected and loop is not self._loop:
            raise StartupError(
                f"The broker memory://{self.name} is in use by another event loop of this process, and queues in "
                f"memory belong to one. Use another name, or sqlite://."
            )
        if not self._connected:
            self._loop = loop
            spawn_detached(self._deliver, f"memory://{self.name}")
        self._connected.add(broker)

    def leave(self, broker: object) -> None:
        """A broker closes; the last one stops deliveries and delays, but the messages stay."""
        self._connected.discard(broker)
        if not self._connected:
            self._run += 1
            self._rearm.set()

    # -- topology ------------------------------------------------------------------------------------------------------

    def declare(self, spec: QueueSpec) -> Queue:
        """The queue of a specification, made if there is none.

        Raises:
            StartupError: there is one with other properties.
        """
        queue = self.queues.get(spec.name)
        if queue is None:
            dead = self.dead.setdefault(spec.name, deque())
            queue = Queue(self, spec, dead)
            self.queues[spec.name] = queue
        else:
            check_same(spec, queue.exclusive, queue.single_active)
        if spec.event or spec.source:
            self.bindings.setdefault((spec.source, spec.event), {})[spec.name] = queue
        return queue

    def forget(self, queue: Queue) -> None:
        """Remove a queue with its bindings; dead letters stay."""
        self.queues.pop(queue.name, None)
        for event, bound in list(self.bindings.items()):
            if bound.pop(queue.name, None) and not bound:
                del self.bindings[event]
        if not queue.dead:
            self.dead.pop(queue.name, None)

    # -- messages ------------------------------------------------------------------------------------------------------

    def publish(self, source: str, event: str, message: OutgoingMessage) -> None:
        """Put a message into every queue that is bound, or into none if one of them is full."""
        queues = list(self.bindings.get((source, event), {}).values())
        for queue in queues:
            queue.check_room()
        for queue in queues:
            self.put(queue, Entry(Stored.of(message, source, event)), message.delay)

    def put(self, queue: Queue, entry: Entry, delay: float = 0.0) -> None:
        """Put a message into a queue, after a delay in seconds."""
        entry.stored.due = time.time() + max(0.0, delay)
        if delay <= 0:
            queue.append(entry)
            return
        queue.delayed += 1
        timer = (time.monotonic() + delay, next(self._order), queue, entry)
        heapq.heappush(self._timers, timer)
        if self._timers[0] is timer:
            self._rearm.set()

    def redrive(self, name: str, ids: frozenset[str] | None) -> int:
        """Put dead letters back into their queue."""
        dead = self.dead.get(name, deque[Letter]())
        chosen = [letter for letter in dead if ids is None or letter.public.id in ids]
        if not chosen:
            return 0
        queue = self.queues.get(name)
        if queue is None:
            raise Unroutable(f"There is no queue {name} to put dead letters back into.")
        queue.check_room(len(chosen))
        for letter in chosen:
            dead.remove(letter)
        for letter in chosen:
            self.put(queue, Entry(letter.stored.fresh()))
        return len(chosen)

    def wake(self, queue: Queue) -> None:
        """There may be something to deliver from a queue."""
        self._changed[queue] = None
        self._rearm.set()

    async def _deliver(self) -> None:
        # In a task of its own: what a consumer starts must not inherit the context of whoever published.
        run = self._run
        while run == self._run:
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                _, _, queue, entry = heapq.heappop(self._timers)
                queue.delayed -= 1
                queue.append(entry)
            self._rearm = anyio.Event()
            changed, self._changed = self._changed, {}
            for queue in changed:
                queue.pump()
            if self._timers:
                with anyio.move_on_after(self._timers[0][0] - time.monotonic()):
                    await self._rearm.wait()
            else:
                await self._rearm.wait()


def check_same(spec: QueueSpec, exclusive: bool, single_active: bool) -> None:
    """Compare what somebody wants of a queue with what it is.

    Raises:
        StartupError: they differ, or it is the exclusive queue of another subscription.
    """
    if exclusive:
        raise StartupError(
            f"The queue {spec.name} belongs to another subscription alone (exclusive). Give each subscription a name "
            f"of its own."
        )
    for name, wanted, found in (
        ("exclusive", spec.exclusive, exclusive),
        ("single_active", spec.single_active, single_active),
    ):
        if wanted != found:
            raise StartupError(
                f"The queue {spec.name} exists with {name}={found}, and {name}={wanted} is asked for. Make both the "
                f"same, or give the queue another name."
            )
