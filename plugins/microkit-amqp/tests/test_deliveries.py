"""The suite for deliveries, and the repetitions that it does not know."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from microkit.broker import OutgoingMessage, QueueSpec
from microkit_amqp import AmqpBroker, AmqpSettings
from microkit_testkit.conformance.deliveries import DeliverySuite
from tests.rabbitmq.node import Rabbit
from tests.rabbitmq.proxy import Proxy

from .conftest import Connect, Mailbox, Taken, until

QUEUE = QueueSpec("suite-queue", "suite", "event")


class Bench:
    """A queue behind a proxy that cuts its connection."""

    def __init__(self, broker: AmqpBroker, mailbox: Mailbox, proxy: Proxy) -> None:
        self._broker, self._mailbox, self._proxy = broker, mailbox, proxy
        self._taken: list[Taken] = []
        self._marks = 0

    async def put(self, body: bytes) -> None:
        await self._broker.send(QUEUE.name, OutgoingMessage(body))

    async def take(self) -> Taken | None:
        """None, if a mark comes that is sent when nothing has come for a while: a slow machine is no empty queue."""
        mark = b""
        while True:
            try:
                taken = await self._mailbox.take(60 if mark else 0.3)
            except TimeoutError:
                assert not mark, "the mark has not come"
                self._marks += 1
                await self.put(mark := b"mark %d" % self._marks)
                continue
            if not taken.body.startswith(b"mark"):
                self._taken.append(taken)
                return taken
            await taken.ack()
            if taken.body == mark:
                if await self._mailbox.is_quiet():
                    return None
                mark = b""

    async def dead(self) -> list[bytes]:
        return [letter.message.body async for letter in self._broker.dead_letters(QUEUE.name)]

    async def reconnect(self) -> None:
        loop, core = self._broker._open()
        (consumer,) = core._consumers
        await loop.run(consumer.barrier)  # what was answered before the cut is answered
        for taken in (*self._taken, *self._mailbox.waiting):  # nothing runs here, whose end could be waited for
            taken.end()
        self._mailbox.waiting.clear()
        before, channel = consumer.generation, consumer.channel
        self._proxy.cut()
        await until(lambda: consumer.generation > before and consumer.channel is not channel)
        await until(lambda: not consumer.channel.is_closed and len(consumer._tags) == 1)


class TestDeliveries(DeliverySuite):
    @pytest.fixture(autouse=True)
    def _server(self, rabbit: Rabbit, vhost: str, proxy: Proxy) -> None:
        self._url, self._proxy = rabbit.url(vhost, proxy.port), proxy

    @asynccontextmanager
    async def bench(self) -> AsyncGenerator[Bench]:
        broker, mailbox = AmqpBroker(self._url, AmqpSettings()), Mailbox()
        await broker.connect()
        await broker.subscribe(QUEUE, 10, mailbox)
        try:
            yield Bench(broker, mailbox, self._proxy)
        finally:
            await broker.close()


@pytest.mark.anyio
@pytest.mark.feature("F002-51")
@pytest.mark.guarantee("G8")
@pytest.mark.parametrize("message_id", ["same", ""])
async def test_a_repetition_waits_until_the_first_run_has_ended(
    rabbit: Rabbit, vhost: str, proxy: Proxy, connect: Connect, mailbox: Mailbox, message_id: str, anyio_backend: Any
) -> None:
    broker = await connect(rabbit.url(vhost, proxy.port))
    await broker.subscribe(QUEUE, 10, mailbox)
    bench = Bench(broker, mailbox, proxy)
    if message_id:
        await bench.put(b"1")
    else:  # as others publish, such as nameko
        loop, core = broker._open()

        async def publish() -> None:
            channel = await core.link.channel(confirms=False)
            frame = channel.basic_publish(b"1", routing_key=QUEUE.name)
            await frame

        await loop.run(publish)
    first = await mailbox.take()
    await bench.reconnect()
    await bench.put(b"2")
    other = await mailbox.take()  # others are not held back
    assert other.body == b"2"
    assert await mailbox.is_quiet()
    await first.ack()  # stale: nothing is sent, and the run is over
    again = await mailbox.take()
    assert again.body == b"1"
    await again.ack()
    await other.ack()
    assert await mailbox.is_quiet()
