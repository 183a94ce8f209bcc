"""RabbitMQ as a broker of microkit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from microkit._bridge import AsyncioLoop, open_asyncio
from microkit.broker import DeadLetter, OnMessage, OutgoingMessage, QueueSpec, QueueState, RpcWire, Subscription

from .address import parse_address
from .core import Core
from .link import unavailable
from .settings import AmqpSettings, settings_of
from .topology import Topology

if TYPE_CHECKING:
    from microkit import App

    from .consumer import Consumer
    from .rpc.wire import AmqpRpcWire


class AmqpBroker:
    """A `microkit.broker.Broker` over AMQP 0-9-1: events in nameko's format, work queues with retries and dead letters.

    On asyncio it works on the caller's own event loop; under trio behind `microkit._bridge.ThreadedAsyncioLoop`.

    Args:
        url: `amqp[s]://user:password@host:port/vhost`.
        settings: the plugin's; None takes the application's, or the defaults without one.
    """

    def __init__(self, url: str, settings: AmqpSettings | None = None) -> None:
        self._url = url
        self._given = settings
        self._settings = settings or AmqpSettings()
        self._loop: AsyncioLoop | None = None
        self._core: Core | None = None
        self._wires: dict[str, AmqpRpcWire] = {}

    def configure(self, app: App) -> None:
        """Take the settings of an application."""
        self._settings = self._given or settings_of(app)

    @property
    def consumer_timeout(self) -> float:
        """Seconds that a delivery may stay unanswered; 0: for ever."""
        return self._settings.consumer_timeout

    @property
    def cannot_list(self) -> str:
        """Why nobody knows which queues there are; empty if the management API is there to tell."""
        if self._settings.management:
            return ""
        return (
            "Over AMQP nobody can ask which queues there are. Name one (--queue), or set the URL of the management API "
            "(management of amqp, such as MICROKIT_AMQP__MANAGEMENT=http://guest:guest@localhost:15672)."
        )

    async def connect(self) -> None:
        """Open the connection, with the attempts that the settings allow.

        Raises:
            StartupError: it cannot be opened, with the reason and what to do; or the setting `delayed_exchange` is on
                and the broker does not have the plugin.
        """
        if self._core is not None:
            return
        address, publishing = (
            parse_address(self._url, self._settings.heartbeat, name) for name in ("microkit", "microkit publishing")
        )
        loop = open_asyncio()
        core = Core(address, publishing, self._settings, loop)
        try:
            await loop.run(core.open)
        except BaseException:
            await loop.close()
            raise
        self._loop, self._core = loop, core

    async def close(self) -> None:
        """Send the acks that wait, and close the connection; what is not settled is delivered again."""
        if self._core is None or self._loop is None:
            return
        loop, core = self._loop, self._core
        try:
            for wire in self._wires.values():
                await wire.close()
            self._loop = self._core = None
            await loop.run(core.close)
        finally:
            await loop.close()

    async def publish(self, source: str, event: str, message: OutgoingMessage) -> None:
        """Publish an event to `{source}.events`; return when the broker has confirmed it.

        It is repeated with the same message id if the connection is lost meanwhile. With a delay it waits in a queue,
        and reaches those that are bound when its time has come.

        Raises:
            PublicError: UNAVAILABLE, not confirmed in time; RESOURCE_EXHAUSTED, a queue is full.
        """
        loop, core = self._open()
        await loop.run(core.publish, source, event, message)

    async def send(self, queue: str, message: OutgoingMessage) -> None:
        """Send a message to one queue.

        Raises:
            Unroutable: there is none.
            PublicError: as `publish`.
        """
        loop, core = self._open()
        await loop.run(core.send, queue, message)

    async def subscribe(self, queue: QueueSpec, prefetch: int, on_message: OnMessage) -> Subscription:
        """Declare a queue and deliver its messages. It comes back by itself after the connection was lost.

        Raises:
            StartupError: the queue exists with other properties.
        """
        loop, core = self._open()
        return AmqpSubscription(loop, await loop.run(core.subscribe, queue, prefetch, on_message))

    def rpc(self, wire: str = "") -> RpcWire:
        """The wire for remote procedures.

        Args:
            wire: `nameko` or `ufw`; empty takes the setting `rpc_wire`.
        """
        from .rpc.wire import AmqpRpcWire

        name = wire or self._settings.rpc_wire
        if name not in self._wires:
            self._wires[name] = AmqpRpcWire(self._open, name)
        return self._wires[name]

    async def state(self, queue: str) -> QueueState:
        """How a queue is doing.

        Over AMQP `unsettled` and `delayed` count what this process has to do with; with the setting `management` they
        count everything but what passes the shared delay levels.
        """
        loop, core = self._open()
        return await loop.run(core.state, queue)

    def dead_letters(self, queue: str = "") -> AsyncIterator[DeadLetter]:
        """The dead letters of a queue, oldest first. They stay where they are.

        Of all queues: those that this process consumes and exclusive ones, and with the setting `management` really
        all.
        """
        return _DeadLetters(self, queue)

    async def redrive(self, queue: str, ids: frozenset[str] | None = None) -> int:
        """Put dead letters back into their queue as first attempts.

        Raises:
            Unroutable: the queue is gone.
        """
        loop, core = self._open()
        return await loop.run(core.redrive, queue, ids)

    async def declare(self, topology: Topology) -> None:
        """Declare a topology in advance.

        Raises:
            StartupError: something of that name exists with other properties.
        """
        loop, core = self._open()
        await loop.run(core.declare, topology)

    async def difference(self, topology: Topology) -> list[str]:
        """How the broker differs from a topology, one line each; nothing is created."""
        from .declare import difference

        loop, core = self._open()
        return await loop.run(difference, core.open_channel, topology)

    def _open(self) -> tuple[AsyncioLoop, Core]:
        if self._loop is None or self._core is None:
            raise unavailable("The connection to the message broker is not open.")
        return self._loop, self._core


class AmqpSubscription:
    """A running consumer.

    Args:
        loop: how it is reached.
        consumer: on the asyncio side.
    """

    def __init__(self, loop: AsyncioLoop, consumer: Consumer) -> None:
        self._loop = loop
        self._consumer = consumer

    async def cancel(self) -> None:
        """Take no more messages; those that were delivered can still be answered."""
        await self._loop.run(self._consumer.cancel)

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call back, on the event loop, each time that the connection was lost, and once it is closed."""
        self._consumer.lost.append(self._loop.homeward(callback))


class _DeadLetters(AsyncIterator[DeadLetter]):
    # No generator: one that is left early needs closing, and trio warns if nobody does it.
    def __init__(self, broker: AmqpBroker, queue: str) -> None:
        self._broker, self._queue = broker, queue
        self._left: list[DeadLetter] | None = None

    async def __anext__(self) -> DeadLetter:
        if self._left is None:
            loop, core = self._broker._open()
            found = await loop.run(core.dead_letters, self._queue)
            self._left = found[::-1]
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()
