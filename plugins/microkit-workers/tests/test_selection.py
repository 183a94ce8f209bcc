"""How applications come to their embedded broker."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import microkit_workers.plugin
from microkit import App, PublicError, StartupError, StatusCode
from microkit.broker import OutgoingMessage, QueueSpec, Unroutable, broker_for
from microkit_workers import MemoryBroker, SqliteBroker
from microkit_workers.conformance import Inbox

_QUEUE = QueueSpec("work")


def _app() -> App:
    app = App(plugins=[microkit_workers.plugin], discover=False)
    app.build()
    return app


async def test_brokers_of_one_name_share_their_queues_in_all_applications() -> None:
    one, two = broker_for(_app(), "memory://orders"), broker_for(_app(), "memory://orders")
    other = broker_for(_app(), "memory://others")
    for broker in (one, two, other):
        await broker.connect()
    inbox = await Inbox().on(one, _QUEUE)
    await two.send("work", OutgoingMessage(b"x"))
    assert (await inbox.take_and_ack())[0].body == b"x"
    with pytest.raises(Unroutable):
        await other.send("work", OutgoingMessage(b"x"))
    for broker in (one, two, other):
        await broker.close()


async def test_a_broker_without_a_name_belongs_to_its_application() -> None:
    app = _app()
    one, two, other = broker_for(app, "memory://"), broker_for(app, "memory://"), broker_for(_app(), "memory://")
    for broker in (one, two, other):
        await broker.connect()
    await Inbox().on(one, _QUEUE)
    await two.send("work", OutgoingMessage(b"x"))
    with pytest.raises(Unroutable):
        await other.send("work", OutgoingMessage(b"x"))
    for broker in (one, two, other):
        await broker.close()


async def test_one_name_has_one_set_of_options() -> None:
    kept = broker_for(_app(), "memory://bounded?max_length=5")
    with pytest.raises(StartupError, match="other options"):
        broker_for(_app(), "memory://bounded?max_length=6")
    assert isinstance(kept, MemoryBroker)
    assert kept.hub.options.max_length == 5


def test_messages_wait_over_a_restart_of_the_application_in_its_process() -> None:
    broker = MemoryBroker()

    async def first() -> None:
        await broker.connect()
        await Inbox().on(broker, _QUEUE)
        await broker.send("work", OutgoingMessage(b"later", delay=0.05))
        await broker.send("work", OutgoingMessage(b"now"))
        await broker.close()

    async def second() -> None:
        await broker.connect()
        messages = await (await Inbox().on(broker, _QUEUE)).take_and_ack(2)
        assert [message.body for message in messages] == [b"now", b"later"]
        await broker.close()

    anyio.run(first, backend="asyncio")
    anyio.run(second, backend="trio")


def test_two_event_loops_at_once_are_refused() -> None:
    broker = MemoryBroker()

    async def outer() -> None:
        await broker.connect()
        with pytest.raises(StartupError, match="another event loop"):
            await anyio.to_thread.run_sync(anyio.run, MemoryBroker(broker.hub).connect)
        await broker.close()

    anyio.run(outer)


@pytest.mark.feature("FX-07")
async def test_memory_is_refused_for_several_processes_and_a_file_is_not(tmp_path: Path) -> None:
    app = _app()
    app.runtime.processes = 2
    with pytest.raises(StartupError, match="memory of one process"):
        broker_for(app, "memory://")
    assert isinstance(broker_for(app, f"sqlite:///{tmp_path}/x.db"), SqliteBroker)
    assert app.transports["sqlite"].durable
    assert not app.transports["memory"].durable


@pytest.mark.guarantee("G10")
async def test_queues_and_messages_in_memory_are_bounded() -> None:
    broker = broker_for(_app(), "memory://?max_length=2&max_message_size=10&max_dead=1")
    await broker.connect()
    inbox = await Inbox(1).on(broker, _QUEUE)
    await broker.send("work", OutgoingMessage(b"1"))
    await broker.send("work", OutgoingMessage(b"2", delay=60))
    with pytest.raises(PublicError, match="work is full") as full:
        await broker.send("work", OutgoingMessage(b"3"))
    with pytest.raises(PublicError, match="11 bytes") as large:
        await broker.publish("a", "b", OutgoingMessage(b"x" * 11))
    assert full.value.status is large.value.status is StatusCode.RESOURCE_EXHAUSTED
    for number in range(2):
        _, delivery = await inbox.take()
        await delivery.store_dead(f"reason {number}")
        await inbox.ack(delivery)
        await broker.send("work", OutgoingMessage(b"next"))
    assert [letter.reason async for letter in broker.dead_letters()] == ["reason 1"]
    await broker.close()


async def test_a_consumer_that_raises_gets_the_message_again() -> None:
    broker, inbox = MemoryBroker(), Inbox()
    await broker.connect()
    failures = [RuntimeError(), RuntimeError()]

    def consume(message: object, delivery: object) -> None:
        if failures:
            raise failures.pop()
        inbox(message, delivery)  # type: ignore[arg-type]

    await broker.subscribe(_QUEUE, 1, consume)
    await broker.send("work", OutgoingMessage(b"x"))
    assert (await inbox.take_and_ack())[0].body == b"x"
    await broker.close()
