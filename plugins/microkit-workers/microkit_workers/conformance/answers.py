"""Cases about answers: retries, dead letters, returns, lost connections."""

from __future__ import annotations

import time

import anyio
import pytest

from microkit import StartupError
from microkit.broker import ATTEMPT, FIRST_SEEN, LAST_RETRY, REASON, REDELIVERED, DeadLetter, OutgoingMessage

from .harness import Harness, Inbox, bodies, eventually, text


class AnswerCases(Harness):
    """What becomes of a message by its answer."""

    @pytest.mark.anyio
    async def test_what_is_acked_never_comes_again(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            await broker.publish(queue.source, queue.event, text("x"))
            await inbox.take_and_ack()
            await self.reconnect(broker)
            await (await Inbox().on(broker, queue)).quiet()

    @pytest.mark.anyio
    async def test_a_retry_is_a_copy_that_says_which_attempt_it_is_and_why(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            before = int(time.time() * 1000) - 1000
            await broker.publish(queue.source, queue.event, OutgoingMessage(b"x", headers={"own": "kept"}))
            message, delivery = await inbox.take()
            await delivery.store_retry(0.0, 2, "first reason")
            await inbox.ack(delivery)
            second, delivery = await inbox.take()
            assert (second.body, second.attempt, second.message_id) == (b"x", 2, message.message_id)
            assert (second.source, second.name) == (queue.source, queue.event)
            assert (second.headers["own"], second.headers[REASON]) == ("kept", "first reason")
            assert second.headers[ATTEMPT] == 2
            seen, last = second.headers[FIRST_SEEN], second.headers[LAST_RETRY]
            assert isinstance(seen, int)
            assert before <= seen <= last <= int(time.time() * 1000) + 1000
            await anyio.sleep(0.02)
            await delivery.store_retry(0.0, 3, "second reason")
            await inbox.ack(delivery)
            (third,) = await inbox.take_and_ack()
            assert (third.attempt, third.headers[FIRST_SEEN], third.headers[REASON]) == (3, seen, "second reason")
            assert third.headers[LAST_RETRY] > last
            await inbox.quiet()

    @pytest.mark.anyio
    async def test_a_copy_without_an_ack_makes_a_duplicate_and_loses_nothing(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            await broker.publish(queue.source, queue.event, text("x"))
            _, delivery = await inbox.take()
            await delivery.store_retry(0.0, 2, "again")
            await self.reconnect(broker)
            inbox = await Inbox().on(broker, queue)
            assert sorted(message.attempt for message in await inbox.take_and_ack(2)) == [1, 2]

    # -- dead letters --------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_dead_letters_are_kept_with_their_reasons_and_listed(self) -> None:
        self.need("dead letters")
        queue, other = self.queue(), self.queue()
        async with self.broker() as broker:
            for each in (queue, other):
                inbox = await Inbox().on(broker, each)
                for number in range(3):
                    sent = OutgoingMessage(str(number).encode(), headers={"n": number}, message_id=f"id {number}")
                    await broker.publish(each.source, each.event, sent)
                    _, delivery = await inbox.take()
                    await delivery.store_dead(f"reason {number}")
                    await inbox.ack(delivery)
                await inbox.quiet(0.1)
            await self.reconnect(broker)
            letters = [letter async for letter in broker.dead_letters(queue.name)]
            assert [letter.reason for letter in letters] == ["reason 0", "reason 1", "reason 2"]
            assert {(letter.queue, letter.attempts) for letter in letters} == {(queue.name, 1)}
            assert [letter.message.body for letter in letters] == [b"0", b"1", b"2"]
            assert [letter.message.message_id for letter in letters] == ["id 0", "id 1", "id 2"]
            assert [dict(letter.message.headers) for letter in letters] == [{"n": 0}, {"n": 1}, {"n": 2}]
            assert all(abs(letter.died_at - time.time()) < 60 for letter in letters)
            every = [letter async for letter in broker.dead_letters()]
            assert {queue.name, other.name} <= {letter.queue for letter in every}

    @pytest.mark.anyio
    async def test_dead_letters_are_redriven_as_first_attempts(self) -> None:
        self.need("dead letters", "redrive")
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            for number in range(3):
                await broker.publish(queue.source, queue.event, text(number))
                _, delivery = await inbox.take()
                await delivery.store_retry(0.0, 2, "again")
                await inbox.ack(delivery)
                _, delivery = await inbox.take()
                await delivery.store_dead("hopeless")
                await inbox.ack(delivery)
            letters = [letter async for letter in broker.dead_letters(queue.name)]
            assert [letter.attempts for letter in letters] == [2, 2, 2]
            assert await broker.redrive(queue.name, frozenset({letters[1].id})) == 1
            (message,) = await inbox.take_and_ack()
            assert (message.body, message.attempt) == (b"1", 1)
            assert (message.source, message.name) == (queue.source, queue.event)
            assert REASON not in message.headers
            assert await broker.redrive(queue.name) == 2
            assert sorted(bodies(await inbox.take_and_ack(2))) == ["0", "2"]
            assert await broker.redrive(queue.name) == 0
            assert [letter async for letter in broker.dead_letters(queue.name)] == []

    # -- returns -------------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_what_is_given_back_comes_again_at_once(self) -> None:
        self.need("return")
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox(1).on(broker, queue)
            for number in range(3):
                await broker.publish(queue.source, queue.event, text(number))
            first, delivery = await inbox.take()
            assert REDELIVERED not in first.headers
            await delivery.give_back()
            again, delivery = await inbox.take()
            if "front" not in self.capabilities.missing:
                assert again.body == b"0"
            if "redelivered" not in self.capabilities.missing:
                assert again.headers[REDELIVERED] == 1
            assert again.attempt == 1
            await delivery.ack()
            await inbox.take_and_ack(2)
            assert sorted(inbox.bodies) == [b"0", b"0", b"1", b"2"]

    @pytest.mark.anyio
    async def test_what_is_given_back_keeps_its_order(self) -> None:
        self.need("return", "front")
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox(3).on(broker, queue)
            for number in range(5):
                await broker.publish(queue.source, queue.event, text(number))
            taken = [await inbox.take() for _ in range(3)]
            await inbox.cancel()
            for _, delivery in taken:
                await delivery.give_back()
            inbox = await Inbox(1).on(broker, queue)
            assert bodies(await inbox.take_and_ack(5)) == ["0", "1", "2", "3", "4"]

    @pytest.mark.anyio
    async def test_a_message_that_comes_back_too_often_becomes_a_dead_letter(self) -> None:
        self.need("return", "delivery limit", "dead letters")
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox(1).on(broker, queue)
            await broker.publish(queue.source, queue.event, text("poison"))
            await broker.publish(queue.source, queue.event, text("good"))
            for _ in range(self.capabilities.delivery_limit + 1):
                message, delivery = await inbox.take()
                assert message.body == b"poison"
                await delivery.give_back()
            assert bodies(await inbox.take_and_ack()) == ["good"]
            letters: list[DeadLetter] = []

            async def died() -> bool:  # by the broker itself, in its own time
                letters[:] = [letter async for letter in broker.dead_letters(queue.name)]
                return bool(letters)

            await eventually(died)
            (letter,) = letters
            assert letter.message.body == b"poison"
            assert "delivery limit" in letter.reason.replace("_", " ")

    # -- lost connections ----------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_what_is_unsettled_when_the_connection_is_lost_comes_again(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            for number in range(3):
                await broker.publish(queue.source, queue.event, text(number))
            await inbox.take_and_ack()
            await inbox.take()
            await self.reconnect(broker)
            again = await Inbox().on(broker, queue)
            assert bodies(await again.take_and_ack(2)) == ["1", "2"]
            await again.quiet()

    @pytest.mark.anyio
    async def test_what_is_unsettled_goes_to_another_connection(self) -> None:
        queue = self.queue()
        async with self.brokers() as (one, two):
            first = await Inbox().on(one, queue)
            await one.publish(queue.source, queue.event, text("x"))
            await first.take()
            second = await Inbox().on(two, queue)
            await one.close()
            assert bodies(await second.take_and_ack()) == ["x"]
            await one.connect()

    @pytest.mark.anyio
    async def test_a_stale_answer_is_dropped(self) -> None:
        queue = self.queue()
        async with self.broker() as broker:
            inbox = await Inbox().on(broker, queue)
            await broker.publish(queue.source, queue.event, text("x"))
            _, stale = await inbox.take()
            assert stale.generation == stale.current_generation
            await self.reconnect(broker)
            assert stale.generation != stale.current_generation
            try:
                await stale.ack()
            except Exception:
                pass
            inbox = await Inbox().on(broker, queue)
            (message, delivery) = await inbox.take()
            assert message.body == b"x"
            assert delivery.generation == delivery.current_generation
            await delivery.ack()
            await inbox.quiet()

    @pytest.mark.anyio
    async def test_a_broker_that_cannot_connect_says_so(self) -> None:
        broker = self.unreachable()
        if broker is None:
            pytest.skip("this broker can always be reached")
        with anyio.fail_after(60), pytest.raises(StartupError):
            await broker.connect()
