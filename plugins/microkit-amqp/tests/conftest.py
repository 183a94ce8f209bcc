"""A broker on a virtual host of the test's own, and what a subscriber gets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from microkit import Message
from microkit.settlement import Delivery
from microkit_amqp import AmqpBroker, AmqpSettings
from tests.rabbitmq.fixtures import proxy, rabbit, url, vhost

__all__ = ["Connect", "Mailbox", "Taken", "proxy", "rabbit", "until", "url", "vhost"]

Connect = Callable[..., Awaitable[AmqpBroker]]


@pytest.fixture
async def connect(url: str, anyio_backend: Any) -> AsyncGenerator[Connect]:
    """Makes connected brokers, and closes them."""
    made: list[AmqpBroker] = []

    async def make(at: str = url, **settings: Any) -> AmqpBroker:
        broker = AmqpBroker(at, AmqpSettings(**settings))
        await broker.connect()
        made.append(broker)
        return broker

    yield make
    for broker in made:
        await broker.close()


@pytest.fixture
async def broker(connect: Connect) -> AmqpBroker:
    return await connect()


class Taken:
    """A message and its delivery, as a subscriber got them."""

    def __init__(self, message: Message, delivery: Delivery) -> None:
        self.message = message
        self.delivery = delivery
        self.body = message.body
        self.attempt = message.attempt

    def end(self) -> None:
        """What the kernel tells at the end of a run."""
        self.delivery.ended()  # type: ignore[attr-defined]

    async def ack(self) -> None:
        await self.delivery.ack()
        self.end()


class Mailbox:
    """What a subscriber gets, in order."""

    def __init__(self) -> None:
        self.waiting: list[Taken] = []
        self._more = anyio.Event()

    def __call__(self, message: Message, delivery: Delivery) -> None:
        self.waiting.append(Taken(message, delivery))
        self._more.set()

    async def take(self, patience: float = 60.0) -> Taken:
        """The next one.

        Raises:
            TimeoutError: none came in time.
        """
        with anyio.fail_after(patience):
            while not self.waiting:
                self._more = anyio.Event()
                await self._more.wait()
        return self.waiting.pop(0)

    async def is_quiet(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for a while."""
        await anyio.sleep(seconds)
        return not self.waiting


@pytest.fixture
def mailbox(anyio_backend: Any) -> Mailbox:
    return Mailbox()


async def until(condition: Callable[[], Any], patience: float = 60.0) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it did not become so in time.
    """
    with anyio.fail_after(patience):
        while True:
            found = condition()
            if hasattr(found, "__await__"):
                found = await found
            if found:
                return
            await anyio.sleep(0.02)
