"""Cases about time: delays and expiry."""

from __future__ import annotations

import time
from collections.abc import Awaitable

import anyio
import pytest

from microkit.broker import Broker, OutgoingMessage

from .harness import Harness, Inbox, bodies, eventually, sometimes


class DelayCases(Harness):
    """When a message comes."""

    @pytest.mark.anyio
    @pytest.mark.parametrize("sent", [True, False], ids=["sent", "published"])
    async def test_a_delayed_message_comes_after_its_delay_and_soon(self, sent: bool) -> None:
        self.need("delay")
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)

            async def attempt() -> bool:
                await anyio.sleep(0.2)  # the broker has become idle
                start, message = anyio.current_time(), OutgoingMessage(b"x", delay=0.3)
                if sent:
                    await broker.send(queue.name, message)
                else:
                    await broker.publish(queue.source, queue.event, message)
                await inbox.take_and_ack()
                return self._in_time(anyio.current_time() - start - 0.3)

            await sometimes(attempt)

    @pytest.mark.anyio
    async def test_a_short_delay_is_not_held_up_by_a_longer_one(self) -> None:
        self.need("delay")
        async with self.broker() as broker:

            async def attempt() -> bool:
                queue = self.queue()
                inbox = await Inbox().on(broker, queue)
                start, arrived = anyio.current_time(), dict[str, float]()
                for delay in (60, 0.6, 0.2, 0.4, 0):
                    await broker.send(queue.name, OutgoingMessage(str(delay).encode(), delay=delay))
                for _ in range(4):
                    (message,) = await inbox.take_and_ack()
                    arrived[message.body.decode()] = anyio.current_time() - start
                await inbox.cancel()
                assert set(arrived) == {"0", "0.2", "0.4", "0.6"}
                in_time = [self._in_time(time - float(delay)) for delay, time in arrived.items()]
                return list(arrived) == ["0", "0.2", "0.4", "0.6"] and all(in_time)

            await sometimes(attempt)

    @pytest.mark.anyio
    async def test_a_retry_waits_for_its_delay(self) -> None:
        self.need("delay")
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)

            async def attempt() -> bool:
                await broker.send(queue.name, OutgoingMessage(b"x"))
                _, delivery = await inbox.take()
                start = anyio.current_time()
                await delivery.store_retry(0.3, 2, "again")
                await inbox.ack(delivery)
                (message,) = await inbox.take_and_ack()
                assert message.attempt == 2
                return self._in_time(anyio.current_time() - start - 0.3)

            await sometimes(attempt)

    def _in_time(self, late: float) -> bool:
        """Whether a message came in time, by the seconds that it was late. None may come early."""
        assert late >= -0.02
        return late <= self.capabilities.delay_precision

    @pytest.mark.anyio
    async def test_messages_tell_when_they_were_published_or_became_due(self) -> None:
        self.need("lag", "delay")
        queue, precision = self.queue(), self.capabilities.delay_precision
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            sent = await self._span(broker.publish(queue.source, queue.event, OutgoingMessage(b"now")))
            message, delivery = await inbox.take()
            assert sent[0] - precision <= (message.published_at or 0) <= sent[1] + precision
            await anyio.sleep(0.2)
            sent = await self._span(delivery.store_retry(0.3, 2, "again"))
            await inbox.ack(delivery)
            (message,) = await inbox.take_and_ack()
            assert sent[0] - precision <= (message.published_at or 0) - 0.3 <= sent[1] + precision
            sent = await self._span(broker.send(queue.name, OutgoingMessage(b"later", delay=0.3)))
            (message,) = await inbox.take_and_ack()
            assert sent[0] - precision <= (message.published_at or 0) - 0.3 <= sent[1] + precision

    async def _span(self, sending: Awaitable[None]) -> tuple[float, float]:
        """Between which times something was sent."""
        before = time.time()
        await sending
        return before, time.time()

    @pytest.mark.anyio
    async def test_a_message_that_is_put_back_from_the_dead_letters_is_published_anew(self) -> None:
        self.need("lag", "dead letters", "redrive")
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            await broker.send(queue.name, OutgoingMessage(b"x"))
            _, delivery = await inbox.take()
            await delivery.store_dead("no")
            await inbox.ack(delivery)
            await eventually(lambda: self._is_dead(broker, queue.name))
            await anyio.sleep(0.3)
            now = time.time()
            assert await broker.redrive(queue.name) == 1
            (message,) = await inbox.take_and_ack()
            assert message.published_at is not None
            assert message.published_at > now - 0.1

    async def _is_dead(self, broker: Broker, queue: str) -> bool:
        return [each async for each in broker.dead_letters(queue)] != []

    @pytest.mark.anyio
    async def test_a_delay_goes_on_while_nobody_is_connected(self) -> None:
        self.need("delay")
        queue = self.queue()
        async with self.broker() as broker:
            await Inbox().on(broker, queue)
            start = anyio.current_time()
            await broker.send(queue.name, OutgoingMessage(b"x", delay=0.3))
            await broker.close()
            await anyio.sleep(0.1)
            await broker.connect()
            inbox = await Inbox().on(broker, queue)
            assert bodies(await inbox.take_and_ack()) == ["x"]
            assert anyio.current_time() - start >= 0.28

    @pytest.mark.anyio
    async def test_an_expired_message_is_not_delivered(self) -> None:
        self.need("expiry")
        queue = self.queue()
        async with self.broker() as broker:
            await (await Inbox().on(broker, queue)).cancel()
            await broker.send(queue.name, OutgoingMessage(b"expired", expires=0.05))
            await broker.send(queue.name, OutgoingMessage(b"fresh", expires=60))
            await broker.send(queue.name, OutgoingMessage(b"for ever"))
            await anyio.sleep(0.2)
            inbox = await Inbox().on(broker, queue)
            assert bodies(await inbox.take_and_ack(2)) == ["fresh", "for ever"]
            await inbox.quiet()
