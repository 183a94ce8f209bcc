"""The rules for brokers: what the answers to a delivery do. Subclass `DeliverySuite` to hold yours to them."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import pytest

from microkit import App, Event, Message, StatusCode
from microkit.settlement import Decision, Delivery, Settlement, State, Verdict

from .suite import ConformanceSuite


class Taken(Protocol):
    """One message that a bench took from its queue."""

    body: bytes
    attempt: int
    delivery: Delivery


class DeliveryBench(Protocol):
    """One empty queue of a broker, as the suite drives it."""

    @abstractmethod
    async def put(self, body: bytes) -> None:
        """Publish a message into the queue."""

    @abstractmethod
    async def take(self) -> Taken | None:
        """The next message, or None if there is none; a broker with delays waits until those have passed."""

    @abstractmethod
    async def dead(self) -> list[bytes]:
        """The bodies of the dead letters."""

    @abstractmethod
    async def reconnect(self) -> None:
        """Lose the connection and open a new one."""


class DeliverySuite(ConformanceSuite):
    """What a broker does with the answers of the kernel. Override `bench`."""

    def bench(self) -> AbstractAsyncContextManager[DeliveryBench]:
        """A bench on an empty queue."""
        raise NotImplementedError

    @pytest.mark.anyio
    async def test_what_is_acked_never_comes_again(self) -> None:
        async with self.bench() as bench:
            await bench.put(b"1")
            taken = await _take(bench)
            assert (taken.body, taken.attempt) == (b"1", 1)
            await taken.delivery.ack()
            await bench.reconnect()
            assert await bench.take() is None

    @pytest.mark.anyio
    async def test_what_is_given_back_comes_again(self) -> None:
        async with self.bench() as bench:
            await bench.put(b"1")
            await (await _take(bench)).delivery.give_back()
            assert (await _take(bench)).body == b"1"

    @pytest.mark.anyio
    async def test_what_is_not_answered_comes_again_after_the_connection_was_lost(self) -> None:
        async with self.bench() as bench:
            await bench.put(b"1")
            lost = await _take(bench)
            await bench.reconnect()
            assert lost.delivery.generation != lost.delivery.current_generation
            again = await _take(bench)
            assert again.delivery.generation == again.delivery.current_generation
            assert again.body == b"1"

    @pytest.mark.anyio
    async def test_a_retry_is_one_copy_with_the_next_attempt(self) -> None:
        async with self.bench() as bench:
            await bench.put(b"1")
            taken = await _take(bench)
            await taken.delivery.store_retry(0.0, 2, "again")
            await taken.delivery.ack()
            again = await _take(bench)
            assert (again.body, again.attempt) == (b"1", 2)
            await again.delivery.ack()
            assert await bench.take() is None

    @pytest.mark.anyio
    async def test_a_crash_between_copy_and_ack_gives_a_duplicate_and_loses_nothing(self) -> None:
        async with self.bench() as bench:
            await bench.put(b"1")
            await (await _take(bench)).delivery.store_retry(0.0, 2, "again")
            await bench.reconnect()
            assert [(await _take(bench)).body, (await _take(bench)).body] == [b"1", b"1"]

    @pytest.mark.anyio
    async def test_a_dead_letter_is_kept_and_does_not_come_again(self) -> None:
        async with self.bench() as bench:
            await bench.put(b"1")
            taken = await _take(bench)
            await taken.delivery.store_dead("hopeless")
            await taken.delivery.ack()
            assert await bench.take() is None
            assert await bench.dead() == [b"1"]

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("verdict", "state"),
        [(Verdict.ACK, State.ACKED), (Verdict.RETRY, State.RETRIED), (Verdict.DEAD, State.DEAD)],
    )
    async def test_the_kernel_settles_by_it(self, verdict: Verdict, state: State) -> None:
        app = App(discover=False)

        @app.on(Event("suite", "event"), retry=lambda message, reply: Decision(verdict, 0.0, "by the suite"))
        async def handler(message: Message) -> None:
            if verdict is not Verdict.ACK:
                raise ConnectionError

        async with app.started(), self.bench() as bench:
            await bench.put(b"1")
            settlement, reply = await _handle(app, await _take(bench))
            assert settlement.state is state
            assert (reply.status is StatusCode.OK) is (verdict is Verdict.ACK)
            again = await bench.take()
            assert (again is not None) is (verdict is Verdict.RETRY)
            assert await bench.dead() == ([b"1"] if verdict is Verdict.DEAD else [])

    @pytest.mark.anyio
    async def test_an_answer_over_a_lost_connection_is_not_sent(self) -> None:
        app = App(discover=False)

        async with self.bench() as bench:

            @app.on(Event("suite", "event"))
            async def handler(message: Message) -> None:
                await bench.reconnect()

            async with app.started():
                await bench.put(b"1")
                settlement, _ = await _handle(app, await _take(bench))
                assert settlement.state is State.LOST
                assert (await _take(bench)).body == b"1"


async def _take(bench: DeliveryBench) -> Taken:
    taken = await bench.take()
    assert taken is not None, "the queue should have a message"
    return taken


async def _handle(app: App, taken: Taken) -> tuple[Settlement, Any]:
    from microkit.dispatch import handle_message

    message = Message(taken.body, source="suite", name="event", attempt=taken.attempt)
    message.app = app
    (message.plan,) = app.table.events["suite", "event"]
    message.settlement = Settlement.of(message.plan, taken.delivery)
    return message.settlement, await handle_message(message)
