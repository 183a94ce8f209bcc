"""Faults on a real broker, with a ledger outside of it: nothing that was accepted is lost."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from microkit import App, Event, Message
from microkit.broker import OutgoingMessage, QueueSpec
from microkit.dispatch import handle_message
from microkit.errors import PublicError, StatusCode
from microkit.settlement import Delivery, Settlement, State
from microkit_amqp import AmqpBroker, AmqpSettings
from tests.rabbitmq.node import Rabbit, private_rabbit
from tests.rabbitmq.proxy import Proxy

from .conftest import Connect, Mailbox, until

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F002-51"), pytest.mark.guarantee("G8")]

QUEUE = QueueSpec("work", "shop", "order_placed")


class Ledger:
    """What was published and what was handled, in a file that survives everything."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("create table entries (kind text, id text)")

    def note(self, kind: str, id: str) -> None:
        self._db.execute("insert into entries values (?, ?)", (kind, id))

    def of(self, kind: str) -> Counter[str]:
        return Counter(id for (id,) in self._db.execute("select id from entries where kind = ?", (kind,)))

    def close(self) -> None:
        self._db.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


class Worker:
    """Runs the messages of a queue by the kernel, as a consumer ingress does."""

    def __init__(self, app: App, tasks: Any) -> None:
        self._app, self._tasks = app, tasks
        self.settlements: list[Settlement] = []

    def __call__(self, message: Message, delivery: Delivery) -> None:
        message.app = self._app
        (message.plan,) = self._app.table.events["shop", "order_placed"]
        message.settlement = Settlement.of(message.plan, delivery)
        self.settlements.append(message.settlement)
        self._tasks.start_soon(handle_message, message)


async def _publish_all(broker: AmqpBroker, ledger: Ledger, count: int, pause: float) -> None:
    for number in range(count):
        id = f"m{number}"
        await broker.publish("shop", "order_placed", OutgoingMessage(b"{}", message_id=id))
        ledger.note("published", id)  # only what was confirmed
        await anyio.sleep(pause)


async def test_cut_connections_lose_nothing(
    rabbit: Rabbit, vhost: str, proxy: Proxy, connect: Connect, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "aiormq")
    app = App(discover=False)
    running: set[str | None] = set()

    @app.on(Event("shop", "order_placed"))
    async def handler(message: Message) -> None:
        assert message.message_id not in running, "a message runs twice at a time"
        running.add(message.message_id)
        await anyio.sleep(0.03)
        running.discard(message.message_id)
        ledger.note("handled", message.message_id or "")
        if message.message_id == "m7" and message.attempt == 1:
            raise ConnectionError("once")

    consumer = await connect(rabbit.url(vhost, proxy.port))
    publisher = await connect(rabbit.url(vhost, proxy.port))
    async with app.started(), anyio.create_task_group() as tasks:
        worker = Worker(app, tasks)
        await consumer.subscribe(QUEUE, 20, worker)
        async with anyio.create_task_group() as publishing:
            publishing.start_soon(_publish_all, publisher, ledger, 150, 0.01)
            for _ in range(3):
                await anyio.sleep(0.5)
                proxy.cut()
        await until(lambda: len(ledger.of("handled")) == 150)
        await until(lambda: all(each.state.final for each in worker.settlements))
    assert ledger.of("published").keys() == ledger.of("handled").keys()
    lost = sum(each.state is State.LOST for each in worker.settlements)
    # Twice is only what was under way when a connection was cut, published again, or retried.
    assert ledger.of("handled").total() <= 150 + lost + 20
    await until(lambda: _is_empty(consumer))


async def _is_empty(broker: AmqpBroker) -> bool:
    state = await broker.state(QUEUE.name)
    return (state.ready, state.unsettled) == (0, 0)


async def test_publishing_waits_out_a_short_outage_and_tells_a_long_one(
    rabbit: Rabbit, vhost: str, proxy: Proxy, connect: Connect, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "aiormq")
    direct = await connect()
    await direct.subscribe(QUEUE, 10, mailbox)
    broker = await connect(rabbit.url(vhost, proxy.port), publish_timeout=1.0)
    patient = await connect(rabbit.url(vhost, proxy.port))
    proxy.stop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(patient.send, "work", OutgoingMessage(b"patient"))
        with pytest.raises(PublicError, match="within 1 seconds") as caught:
            await broker.send("work", OutgoingMessage(b"impatient"))
        assert caught.value.status is StatusCode.UNAVAILABLE
        proxy.resume()
    taken = await mailbox.take()
    assert taken.body == b"patient"
    await taken.ack()


async def test_a_retry_that_cannot_be_stored_gives_the_message_back(
    rabbit: Rabbit, vhost: str, proxy: Proxy, connect: Connect, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "aiormq")
    broker, direct = await connect(rabbit.url(vhost, proxy.port), publish_timeout=0.5), await connect()
    await broker.subscribe(QUEUE, 10, mailbox)
    await direct.send("work", OutgoingMessage(b"1"))
    taken = await mailbox.take()
    proxy.stop()
    with pytest.raises(PublicError):
        await taken.delivery.store_retry(1.0, 2, "again")
    taken.end()
    proxy.resume()
    again = await mailbox.take()
    assert (again.body, again.attempt) == (b"1", 1)
    await again.ack()


async def test_a_deleted_queue_comes_back_with_its_consumer(
    rabbit: Rabbit, vhost: str, broker: AmqpBroker, mailbox: Mailbox
) -> None:
    await broker.subscribe(QUEUE, 10, mailbox)
    (consumer,) = broker._open()[1]._consumers
    rabbit.api("DELETE", f"queues/{vhost}/work")
    await until(lambda: consumer.generation > 1 and not consumer.channel.is_closed)
    await until(lambda: _sent(broker))
    assert (await mailbox.take()).body == b"1"


async def _sent(broker: AmqpBroker) -> bool:
    try:
        await broker.send("work", OutgoingMessage(b"1"))
    except PublicError:
        return False
    return True


async def test_deleted_retry_and_dead_queues_are_made_again(
    rabbit: Rabbit, vhost: str, broker: AmqpBroker, mailbox: Mailbox
) -> None:
    await broker.subscribe(QUEUE, 10, mailbox)
    await broker.send("work", OutgoingMessage(b"1"))
    for attempt in (2, 3):
        taken = await mailbox.take()
        await taken.delivery.store_retry(0.1, attempt, "again")
        await taken.ack()
        await until(lambda: mailbox.waiting)
        rabbit.api("DELETE", f"queues/{vhost}/mk.retry.work.100")
        rabbit.api("DELETE", f"queues/{vhost}/work.dead") if attempt == 2 else None
    taken = await mailbox.take()
    await taken.delivery.store_dead("hopeless")
    await taken.ack()
    assert [each.reason async for each in broker.dead_letters("work")] == ["hopeless"]


async def test_a_restart_of_the_broker_loses_nothing(
    tmp_path: Path, ledger: Ledger, anyio_backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "aiormq")
    (tmp_path / "node").mkdir()
    with private_rabbit(tmp_path / "node") as rabbit:
        url = f"amqp://guest:guest@127.0.0.1:{rabbit.port}/"
        app = App(discover=False)

        @app.on(Event("shop", "order_placed"))
        async def handler(message: Message) -> None:
            await anyio.sleep(0.02)
            ledger.note("handled", message.message_id or "")

        broker = AmqpBroker(url, AmqpSettings(publish_timeout=150))
        await broker.connect()
        private = Mailbox()
        async with app.started(), anyio.create_task_group() as tasks:
            await broker.subscribe(QUEUE, 5, Worker(app, tasks))
            await broker.subscribe(QueueSpec("private", "shop", "order_placed", exclusive=True), 1000, private)
            async with anyio.create_task_group() as publishing:
                publishing.start_soon(_publish_all, broker, ledger, 60, 0.05)
                await anyio.sleep(1.0)
                await anyio.to_thread.run_sync(rabbit.stop)
                await anyio.to_thread.run_sync(rabbit.start)
            await until(lambda: ledger.of("published").keys() <= ledger.of("handled").keys(), patience=150)
            assert len(ledger.of("published")) == 60
            private.waiting.clear()  # an exclusive queue comes back empty, but it comes back

            async def arrives() -> bool:
                await broker.publish("shop", "order_placed", OutgoingMessage(b"last", message_id="last"))
                return not await private.is_quiet()

            await until(arrives)
            await until(lambda: "last" in ledger.of("handled"))  # who ends under a delivery could not take it
            tasks.cancel_scope.cancel()
        await broker.close()
