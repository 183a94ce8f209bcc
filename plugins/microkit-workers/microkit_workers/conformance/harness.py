"""What the cases stand on: a broker, a second connection to it, and consumers that collect what they get."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self, get_args

import anyio
import pytest

from microkit import Message
from microkit.broker import Broker, OutgoingMessage, QueueSpec, Subscription
from microkit.settlement import Delivery

Feature = Literal[
    "dead letters", "delay", "delivery limit", "exclusive", "expiry", "front", "lag", "redelivered", "redrive",
    "return", "rpc", "single active", "state", "unroutable",
]  # fmt: skip


@dataclass(frozen=True)
class Capabilities:
    """What a broker cannot do, and how exact it is.

    Attributes:
        missing: features that it lacks, each with the reason, which the report of the tests shows. `front`: a message
            that is given back comes before those behind it; `lag`: messages tell when they were published or became
            due; `return`: messages are given back one by one.
        delay_precision: seconds that a delayed message may be late while the machine does not stand still.
        delivery_limit: how often a message may come back unanswered.
    """

    missing: Mapping[Feature, str] = field(default_factory=dict[Feature, str])
    delay_precision: float = 0.15
    delivery_limit: int = 20

    def __post_init__(self) -> None:
        unknown = set(self.missing) - set(get_args(Feature))
        if unknown or not all(self.missing.values()):
            raise ValueError(f"unknown features {sorted(unknown)}" if unknown else "a missing feature needs a reason")


class Inbox:
    """A consumer that collects what it gets.

    Args:
        prefetch: messages that it may have unsettled.

    Attributes:
        most: the most messages that it had unsettled at a time.
        bodies: of all that came, in their order.
    """

    def __init__(self, prefetch: int = 10) -> None:
        self.prefetch = prefetch
        self.most = 0
        self.bodies: list[bytes] = []
        self.subscription: Subscription | None = None
        self._unsettled = 0
        self._arrived: deque[tuple[Message, Delivery]] = deque()
        self._wake = anyio.Event()

    def __call__(self, message: Message, delivery: Delivery) -> None:
        self._unsettled += 1
        self.most = max(self.most, self._unsettled)
        self.bodies.append(message.body)
        self._arrived.append((message, delivery))
        self._wake.set()

    async def take(self, timeout: float = 60.0) -> tuple[Message, Delivery]:
        """The next message. Raises TimeoutError if none comes in time."""
        with anyio.move_on_after(timeout):
            while not self._arrived:
                self._wake = anyio.Event()
                await self._wake.wait()
        if not self._arrived:
            raise TimeoutError
        return self._arrived.popleft()

    def left(self) -> list[tuple[Message, Delivery]]:
        """What came and was not taken; it is not kept."""
        left = list(self._arrived)
        self._arrived.clear()
        return left

    async def take_and_ack(self, count: int = 1, timeout: float = 60.0) -> list[Message]:
        """The next messages, acked one by one."""
        taken: list[Message] = []
        for _ in range(count):
            message, delivery = await self.take(timeout)
            await self.ack(delivery)
            taken.append(message)
        return taken

    async def ack(self, delivery: Delivery) -> None:
        """Ack a message."""
        self._unsettled -= 1
        await delivery.ack()

    async def ack_as_they_come(self) -> None:
        """Ack everything until it is cancelled."""
        while True:
            await self.ack((await self.take(3600))[1])

    async def quiet(self, seconds: float = 0.3) -> None:
        """Assert that nothing comes for a while."""
        with pytest.raises(TimeoutError):
            await self.take(seconds)

    async def on(self, broker: Broker, queue: QueueSpec) -> Self:
        """Consume a queue."""
        self.subscription = await broker.subscribe(queue, self.prefetch, self)
        return self

    async def cancel(self) -> None:
        """Consume no more."""
        assert self.subscription is not None
        await self.subscription.cancel()


class Harness:
    """Base of the cases."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    _names: ClassVar[itertools.count[int]] = itertools.count()

    def broker(self) -> AbstractAsyncContextManager[Broker]:
        """A connected broker."""
        raise NotImplementedError

    def another(self, broker: Broker) -> AbstractAsyncContextManager[Broker]:
        """A second connection to the queues of a broker."""
        raise NotImplementedError

    def unreachable(self) -> Broker | None:
        """A broker that cannot connect, such as one without a server; None if there is no such thing."""
        return None

    async def reconnect(self, broker: Broker) -> None:
        """Lose the connection of a broker, and open it again; its subscriptions are gone."""
        await broker.close()
        await broker.connect()

    @asynccontextmanager
    async def brokers(self) -> AsyncGenerator[tuple[Broker, Broker], None]:
        """Two connections to the same queues."""
        async with self.broker() as first, self.another(first) as second:
            yield first, second

    def need(self, *features: Feature) -> None:
        """Skip a case that the broker cannot pass."""
        for feature in features:
            if (reason := self.capabilities.missing.get(feature)) is not None:
                pytest.skip(f"no {feature}: {reason}")

    def fresh(self, what: str = "queue") -> str:
        """A name that no other case uses."""
        return f"suite.{what}.{os.getpid()}.{os.urandom(4).hex()}.{next(self._names)}"

    def queue(self, *, exclusive: bool = False, single_active: bool = False) -> QueueSpec:
        """A queue that is bound to an event of its own."""
        return QueueSpec(self.fresh(), self.fresh("source"), "happened", exclusive, single_active)


def text(value: object) -> OutgoingMessage:
    """A message with a short body."""
    return OutgoingMessage(str(value).encode(), "text/plain")


def bodies(messages: list[Message]) -> list[str]:
    """The bodies of messages, as `text` made them."""
    return [message.body.decode() for message in messages]


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], timeout: float = 60.0, interval: float = 0.01
) -> None:
    """Look every `interval` seconds whether a condition holds. Raises TimeoutError after `timeout` seconds."""
    with anyio.fail_after(timeout):
        while True:
            holds = condition()
            if holds is True or (not isinstance(holds, bool) and await holds):
                return
            await anyio.sleep(interval)


async def sometimes(attempt: Callable[[], Awaitable[bool]], tries: int = 20) -> None:
    """Assert that something that takes its time is in time at least once.

    A machine that stands still for a while makes anything late now and then; a broker that is late is so each time.
    """
    for _ in range(tries):
        if await attempt():
            return
    raise AssertionError(f"too late, {tries} times in a row")
