"""Signals: what the reference plugin brings into an application. A small queue with all that settlement asks of one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import anyio

from microkit import App, Kind, Message, Trigger
from microkit.annotations import Parameter
from microkit.binding import Binder, SourceContext
from microkit.dispatch import handle_message
from microkit.settlement import Settlement
from microkit.transport import Process
from microkit.triggers import payload_source


@dataclass(frozen=True)
class Signal(Trigger):
    """A signal by name; its handler gets the payload.

    Args:
        name: of the signal.
    """

    kind: ClassVar[Kind] = Kind.MESSAGE  # pyright: ignore[reportIncompatibleVariableOverride]
    name: str

    def __str__(self) -> str:
        return f"signal {self.name}"

    def sources(self, parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
        return payload_source(parameters, context)


@dataclass
class Stored:
    """One message in a `SignalQueue`."""

    name: str
    body: bytes
    attempt: int = 1


class SignalDelivery:
    """One message taken from a `SignalQueue`: implements `microkit.settlement.Delivery`."""

    def __init__(self, queue: SignalQueue, stored: Stored) -> None:
        self._queue = queue
        self.stored = stored
        self.generation = queue.generation

    @property
    def current_generation(self) -> int:
        return self._queue.generation

    async def store_retry(self, delay: float, attempt: int, reason: str) -> None:
        self._queue.put(Stored(self.stored.name, self.stored.body, attempt))

    async def store_dead(self, reason: str) -> None:
        self._queue.dead.append((self.stored.body, reason))

    async def ack(self) -> None:
        self._queue.unsettled.remove(self)

    async def give_back(self) -> None:
        self._queue.unsettled.remove(self)
        self._queue.put(self.stored)


class SignalQueue:
    """A queue in memory. What is taken comes again unless it is acked; a retry comes again at once.

    Attributes:
        dead: bodies and reasons of the dead letters.
        generation: number of the connection.
    """

    def __init__(self) -> None:
        self._waiting: deque[Stored] = deque()
        self._arrived = anyio.Event()
        self.unsettled: list[SignalDelivery] = []
        self.dead: list[tuple[bytes, str]] = []
        self.generation = 1

    def put(self, stored: Stored) -> None:
        """Add a message at the end."""
        self._waiting.append(stored)
        self._arrived.set()

    def take(self) -> SignalDelivery | None:
        """The next message, None if none waits."""
        if not self._waiting:
            return None
        delivery = SignalDelivery(self, self._waiting.popleft())
        self.unsettled.append(delivery)
        return delivery

    async def next(self) -> SignalDelivery:
        """The next message, once there is one."""
        while (delivery := self.take()) is None:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return delivery

    def reconnect(self) -> None:
        """The connection is lost and opened again: what was not acked waits again."""
        self.generation += 1
        for delivery in self.unsettled:
            self.put(delivery.stored)
        self.unsettled.clear()


def signal_message(app: App, delivery: SignalDelivery) -> Message:
    """The message of a delivery, ready to be handled by the binding of its signal."""
    stored = delivery.stored
    message = Message(stored.body, source="signal", name=stored.name, attempt=stored.attempt)
    message.app = app
    (message.plan,) = app.table.others[f"signal {stored.name}"]
    message.settlement = Settlement.of(message.plan, delivery)
    return message


class SignalServer:
    """The ingress of signals: takes them from the app's `SignalQueue`, one at a time."""

    name = "signals"

    def __init__(self) -> None:
        self._waiting: anyio.CancelScope | None = None
        self._stopping = False
        self._running = anyio.CancelScope()
        self._done = anyio.Event()

    async def start(self, app: App, process: Process) -> None:
        """Start to take signals."""
        queue: SignalQueue = await app.container.get(SignalQueue)
        process.tasks.start_soon(self._serve, app, queue)

    async def _serve(self, app: App, queue: SignalQueue) -> None:
        try:
            with self._running:
                while not self._stopping:
                    with anyio.CancelScope() as self._waiting:  # a stop interrupts the wait, not the handler
                        delivery = await queue.next()
                        self._waiting = None
                        await handle_message(signal_message(app, delivery))
        finally:
            self._done.set()

    async def stop(self, grace: float) -> None:
        """Take no more; let the running one finish for at most `grace` seconds, then give it back."""
        self._stopping = True
        if self._waiting is not None:
            self._waiting.cancel()
        with anyio.move_on_after(grace):
            await self._done.wait()
        self._running.cancel()
        await self._done.wait()
