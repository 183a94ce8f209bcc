"""The broker on a real RabbitMQ: events, queues, answers, delays, dead letters."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from microkit.broker import OutgoingMessage, QueueSpec, QueueState, Unroutable
from microkit.errors import PublicError, StartupError, StatusCode
from microkit_amqp import AmqpBroker, AmqpSettings
from tests.rabbitmq.node import Rabbit

from .conftest import Connect, Mailbox, until

pytestmark = pytest.mark.anyio

ORDERS = QueueSpec("orders", "shop", "order_placed")


@pytest.mark.feature("F002-25")
async def test_an_event_reaches_every_queue_that_is_bound_to_it(broker: AmqpBroker, anyio_backend: Any) -> None:
    first, second, other = Mailbox(), Mailbox(), Mailbox()
    await broker.subscribe(QueueSpec("one", "shop", "order_placed"), 10, first)
    await broker.subscribe(QueueSpec("two", "shop", "order_placed"), 10, second)
    await broker.subscribe(QueueSpec("three", "shop", "order_paid"), 10, other)
    await broker.publish("shop", "order_placed", OutgoingMessage(b'{"id": 7}', headers={"tenant": "a", "try": 2}))
    for mailbox in (first, second):
        taken = await mailbox.take()
        message = taken.message
        assert (message.source, message.name, message.payload) == ("shop", "order_placed", {"id": 7})
        assert (message.headers["tenant"], message.headers["try"], message.attempt) == ("a", 2, 1)
        assert message.message_id
        await taken.ack()
    assert await other.is_quiet()


@pytest.mark.feature("F002-25")
async def test_an_event_that_nobody_listens_to_is_no_error(broker: AmqpBroker) -> None:
    await broker.publish("nobody", "listens", OutgoingMessage(b"1"))


@pytest.mark.feature("F002-27")
async def test_a_queue_binds_to_any_exchange_by_any_key(broker: AmqpBroker, mailbox: Mailbox) -> None:
    options = {"exchange": "audit", "exchange_type": "topic", "routing_key": "user.#"}
    await broker.subscribe(QueueSpec("trail", options=options), 10, mailbox)
    loop, core = broker._open()

    async def publish() -> None:
        channel = await core.link.channel()
        await channel.basic_publish(b"1", exchange="audit", routing_key="user.login.failed")

    await loop.run(publish)
    taken = await mailbox.take()
    assert taken.message.name == "user.login.failed"
    await taken.delivery.store_retry(0.0, 2, "again")
    await taken.ack()
    again = await mailbox.take()
    assert (again.message.name, again.attempt) == ("user.login.failed", 2)
    await again.ack()


@pytest.mark.feature("F002-27")
async def test_consumers_share_a_queue_and_broadcasts_reach_each(connect: Connect, anyio_backend: Any) -> None:
    first, second = await connect(), await connect()
    shared, private = [Mailbox(), Mailbox()], [Mailbox(), Mailbox()]
    for index, broker in enumerate((first, second)):
        await broker.subscribe(QueueSpec("pool", "s", "e"), 1, shared[index])
        await broker.subscribe(QueueSpec(f"private-{index}", "s", "e", exclusive=True), 1, private[index])
    await first.publish("s", "e", OutgoingMessage(b"1"))
    for mailbox in private:
        assert (await mailbox.take()).body == b"1"
    await until(lambda: shared[0].waiting or shared[1].waiting)
    await anyio.sleep(0.2)
    assert len(shared[0].waiting) + len(shared[1].waiting) == 1


@pytest.mark.feature("F002-27")
async def test_a_single_active_consumer_is_followed_by_the_next(connect: Connect, anyio_backend: Any) -> None:
    spec = QueueSpec("one-at-a-time", single_active=True)
    first, second = await connect(), await connect()
    active, standby = Mailbox(), Mailbox()
    await first.subscribe(spec, 10, active)
    await second.subscribe(spec, 10, standby)
    for number in range(4):
        await first.send(spec.name, OutgoingMessage(b"%d" % number))
    for _ in range(4):
        await (await active.take()).ack()
    assert not standby.waiting
    await first.close()
    await second.send(spec.name, OutgoingMessage(b"5"))
    assert (await standby.take()).body == b"5"


async def test_a_message_to_no_queue_is_told_at_once(broker: AmqpBroker) -> None:
    with pytest.raises(Unroutable, match="nowhere"):
        await broker.send("nowhere", OutgoingMessage(b"1"))
    with pytest.raises(Unroutable, match="nowhere"):
        await broker.send("nowhere", OutgoingMessage(b"1", delay=0.1))


async def test_no_more_than_the_prefetch_is_delivered(broker: AmqpBroker, mailbox: Mailbox) -> None:
    await broker.subscribe(ORDERS, 3, mailbox)
    for number in range(5):
        await broker.send("orders", OutgoingMessage(b"%d" % number))
    await until(lambda: len(mailbox.waiting) == 3)
    await anyio.sleep(0.2)
    assert len(mailbox.waiting) == 3
    await until(lambda: _is(broker, "orders", QueueState(ready=2, unsettled=3)))
    await (await mailbox.take()).ack()
    await until(lambda: len(mailbox.waiting) == 3)


@pytest.mark.feature("F002-39")
async def test_a_short_delay_is_not_held_up_by_a_longer_one(broker: AmqpBroker, mailbox: Mailbox) -> None:
    """Round delays have queues of their own; odd ones pass the levels. The long ones would hold up too long."""
    await broker.subscribe(ORDERS, 10, mailbox)
    delays = {b"long": 600.0, b"long and odd": 600.017, b"short": 0.3, b"short and odd": 0.643}
    sent: dict[bytes, float] = {}
    for body, delay in delays.items():
        sent[body] = time.monotonic()
        await broker.send("orders", OutgoingMessage(body, delay=delay))
    for _ in range(2):
        taken = await mailbox.take()
        assert taken.body.startswith(b"short")
        assert time.monotonic() - sent.pop(taken.body) - delays[taken.body] >= -0.02
        await taken.ack()
    assert sent.keys() == {b"long", b"long and odd"}


@pytest.mark.feature("F002-39")
async def test_the_delay_plugin_is_used_only_if_it_is_there(connect: Connect) -> None:
    with pytest.raises(StartupError, match=r"has no plugin rabbitmq_delayed_message_exchange\. Enable it"):
        await connect(delayed_exchange=True)


async def test_a_delayed_event_reaches_its_queues(broker: AmqpBroker, mailbox: Mailbox) -> None:
    await broker.subscribe(ORDERS, 10, mailbox)
    began = time.monotonic()
    await broker.publish("shop", "order_placed", OutgoingMessage(b"1", delay=0.4))
    taken = await mailbox.take()
    assert time.monotonic() - began >= 0.4
    assert (taken.message.name, taken.body, taken.attempt) == ("order_placed", b"1", 1)
    await taken.ack()


async def test_what_nobody_wants_any_more_is_not_delivered(broker: AmqpBroker, mailbox: Mailbox) -> None:
    await (await broker.subscribe(ORDERS, 10, Mailbox())).cancel()
    await broker.send("orders", OutgoingMessage(b"stale", expires=0.05))
    await broker.send("orders", OutgoingMessage(b"fresh", expires=60.0))
    await anyio.sleep(0.1)
    await broker.subscribe(ORDERS, 10, mailbox)
    assert (await mailbox.take()).body == b"fresh"
    await until(lambda: _is(broker, "orders", QueueState(unsettled=1)))


async def _is(broker: AmqpBroker, queue: str, state: QueueState) -> bool:
    return await broker.state(queue) == state


@pytest.mark.feature("FX-11")
async def test_dead_letters_are_listed_with_reasons_and_redriven(broker: AmqpBroker, mailbox: Mailbox) -> None:
    await broker.subscribe(ORDERS, 10, mailbox)
    for number in range(3):
        message = OutgoingMessage(b"%d" % number, headers={"n": number}, message_id=f"id-{number}")
        await broker.publish("shop", "order_placed", message)
        taken = await mailbox.take()
        await taken.delivery.store_dead(f"reason {number}")
        await taken.ack()
    for _ in range(2):  # they stay where they are
        letters = [letter async for letter in broker.dead_letters("orders")]
        assert [(each.id, each.reason, each.queue) for each in letters] == [
            (f"id-{n}", f"reason {n}", "orders") for n in range(3)
        ]
    assert letters[1].message == OutgoingMessage(b"1", headers={"n": 1}, message_id="id-1")
    assert abs(letters[1].died_at - time.time()) < 60
    assert [each.id async for each in broker.dead_letters()] == ["id-0", "id-1", "id-2"]
    assert await broker.redrive("orders", frozenset({"id-1"})) == 1
    taken = await mailbox.take()
    assert (taken.body, taken.attempt, taken.message.headers["n"]) == (b"1", 1, 1)
    await taken.ack()
    await until(lambda: _is(broker, "orders", QueueState(dead=2)))
    assert await broker.redrive("orders") == 2
    assert [(await mailbox.take()).body, (await mailbox.take()).body] == [b"0", b"2"]
    assert [letter async for letter in broker.dead_letters("orders")] == []


@pytest.mark.feature("FX-11")
async def test_dead_letters_of_a_broadcast_outlive_its_queue(connect: Connect, mailbox: Mailbox) -> None:
    broker = await connect()
    await broker.subscribe(QueueSpec("private", "s", "e", exclusive=True), 10, mailbox)
    await broker.publish("s", "e", OutgoingMessage(b"1", message_id="x"))
    taken = await mailbox.take()
    await taken.delivery.store_retry(0.1, 2, "again")
    await taken.ack()
    taken = await mailbox.take()
    assert taken.attempt == 2
    await taken.delivery.store_dead("hopeless")
    await taken.ack()
    await broker.close()
    later = await connect()
    assert [(each.id, each.queue) async for each in later.dead_letters()] == [("x", "private")]
    with pytest.raises(Unroutable):
        await later.redrive("private")
    assert [each.id async for each in later.dead_letters("private")] == ["x"]


@pytest.mark.feature("FX-10")
async def test_a_message_that_ends_its_consumers_becomes_a_dead_letter(connect: Connect) -> None:
    for attempt in range(3):
        broker, mailbox = await connect(delivery_limit=2), Mailbox()
        await broker.subscribe(ORDERS, 10, mailbox)
        if attempt == 0:
            await broker.send("orders", OutgoingMessage(b"poison", message_id="p"))
        await mailbox.take()
        await broker.close()  # as when a process dies: nothing was answered
    broker = await connect(delivery_limit=2)
    await until(lambda: _letters(broker, [("p", "delivery_limit")]))


async def _letters(broker: AmqpBroker, expected: list[tuple[str, str]]) -> bool:
    return [(each.id, each.reason) async for each in broker.dead_letters("orders")] == expected


@pytest.mark.feature("FX-12")
async def test_a_queue_with_other_properties_fails_with_both_values(connect: Connect, mailbox: Mailbox) -> None:
    broker = await connect()
    await (await broker.subscribe(ORDERS, 10, mailbox)).cancel()
    with pytest.raises(StartupError) as caught:
        await (await connect(delivery_limit=7)).subscribe(ORDERS, 10, mailbox)
    text = str(caught.value)
    assert "queue 'orders'" in text
    assert "x-delivery-limit is '20', and '7' is asked for" in text
    assert "Delete the queue when it is empty" in text


async def test_an_unknown_option_of_a_queue_is_told_with_the_nearest(broker: AmqpBroker, mailbox: Mailbox) -> None:
    with pytest.raises(StartupError, match="Did you mean 'max_length'"):
        await broker.subscribe(QueueSpec("q", options={"maxlength": 3}), 10, mailbox)


async def test_a_full_queue_refuses_what_it_cannot_keep(broker: AmqpBroker, mailbox: Mailbox) -> None:
    await (await broker.subscribe(QueueSpec("small", options={"max_length": 2}), 1, mailbox)).cancel()

    async def fill() -> None:
        for _ in range(100):  # it may take some more before it notices
            await broker.send("small", OutgoingMessage(b"1"))

    with pytest.raises(PublicError) as caught:
        await fill()
    assert caught.value.status is StatusCode.RESOURCE_EXHAUSTED


async def test_with_the_management_api_the_state_is_that_of_all(
    rabbit: Rabbit, connect: Connect, mailbox: Mailbox
) -> None:
    consumer, watcher = await connect(), await connect(management=rabbit.management)
    await consumer.subscribe(ORDERS, 10, mailbox)
    await consumer.send("orders", OutgoingMessage(b"1"))
    taken = await mailbox.take()
    await until(lambda: _is(watcher, "orders", QueueState(unsettled=1)))
    await taken.delivery.store_dead("x")
    await taken.ack()
    assert [each.queue async for each in watcher.dead_letters()] == ["orders"]


async def test_hundreds_of_messages_are_published_at_a_time_and_acked_once_each(
    connect: Connect, broker: AmqpBroker, mailbox: Mailbox
) -> None:
    subscription = await broker.subscribe(ORDERS, 50, mailbox)
    async with anyio.create_task_group() as tasks:
        for number in range(300):
            tasks.start_soon(broker.send, "orders", OutgoingMessage(b"%d" % number))
    seen: list[bytes] = []
    slow = await mailbox.take()  # stays unanswered, in front of all others
    for _ in range(299):
        taken = await mailbox.take()
        seen.append(taken.body)
        await taken.ack()
    assert sorted([slow.body, *seen], key=int) == [b"%d" % number for number in range(300)]
    await until(lambda: _is(broker, "orders", QueueState(unsettled=1)))
    await subscription.cancel()
    await slow.ack()  # can still be answered
    await until(lambda: _is(broker, "orders", QueueState()))
    await broker.close()
    # What had not been acked would be ready again now.
    assert await (await connect()).state("orders") == QueueState()


async def test_what_arrives_after_a_cancel_goes_to_others(connect: Connect, mailbox: Mailbox) -> None:
    first, second = await connect(), await connect()
    subscription = await first.subscribe(ORDERS, 100, Mailbox())
    await subscription.cancel()
    await second.subscribe(ORDERS, 100, mailbox)
    await first.send("orders", OutgoingMessage(b"1"))
    assert (await mailbox.take()).body == b"1"


async def test_a_closed_broker_says_so(broker: AmqpBroker) -> None:
    await broker.close()
    await broker.close()
    with pytest.raises(PublicError, match="not open"):
        await broker.send("q", OutgoingMessage(b"1"))


async def test_a_name_that_is_exclusive_to_others_is_told(connect: Connect, mailbox: Mailbox) -> None:
    spec = QueueSpec("private", exclusive=True)
    await (await connect()).subscribe(spec, 10, mailbox)
    with pytest.raises(StartupError, match=r"exclusive to another connection: .*'private'"):
        await (await connect()).subscribe(spec, 10, mailbox)


async def test_a_user_without_permission_is_told_what_to_do(
    rabbit: Rabbit, vhost: str, connect: Connect, mailbox: Mailbox
) -> None:
    rabbit.api("PUT", "users/poor", {"password": "poor", "tags": ""})
    rabbit.api("PUT", f"permissions/{vhost}/poor", {"configure": "", "write": "", "read": ""})
    broker = await connect(f"amqp://poor:poor@127.0.0.1:{rabbit.port}/{vhost}")
    with pytest.raises(StartupError, match="Give the user permission"):
        await broker.subscribe(ORDERS, 10, mailbox)


@pytest.mark.feature("FX-26")
async def test_messages_tell_when_they_were_published_or_became_due(broker: AmqpBroker, mailbox: Mailbox) -> None:
    await broker.subscribe(ORDERS, 10, mailbox)

    async def due() -> float:
        taken = await mailbox.take()
        assert taken.message.published_at is not None
        await taken.ack()
        return taken.message.published_at

    before = time.time()
    await broker.publish("shop", "order_placed", OutgoingMessage(b"1"))
    assert before - 0.3 < await due() < time.time() + 0.3
    for delay in (0.2, 0.234):  # one that has a queue of its own, and one that shares the levels
        before = time.time()
        await broker.send("orders", OutgoingMessage(b"1", delay=delay))
        between = before + delay - 0.3, time.time() + delay + 0.3
        assert between[0] < await due() < between[1]
    before = time.time()
    await broker.publish("shop", "order_placed", OutgoingMessage(b"1", delay=0.5))
    taken = await mailbox.take()
    assert before + 0.2 < taken.message.published_at < time.time() + 0.3
    before = time.time()
    await taken.delivery.store_retry(0.5, 2, "again")
    await taken.ack()
    taken = await mailbox.take()
    assert before + 0.2 < taken.message.published_at < time.time() + 0.3
    await taken.delivery.store_dead("no")
    await taken.ack()
    await anyio.sleep(0.5)
    before = time.time()
    assert await broker.redrive("orders") == 1
    assert before - 0.3 < await due() < time.time() + 0.3


@pytest.mark.feature("FX-26")
async def test_the_timestamp_of_others_tells_when_they_published(broker: AmqpBroker, mailbox: Mailbox) -> None:
    from datetime import UTC, datetime

    from pamqp.commands import Basic

    await broker.subscribe(ORDERS, 10, mailbox)
    loop, core = broker._open()

    async def publish(moment: datetime | None) -> None:
        channel = await core.link.channel()
        await channel.basic_publish(b"1", routing_key="orders", properties=Basic.Properties(timestamp=moment))

    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    for each, expected in ((moment, moment.timestamp()), (None, None)):
        await loop.run(publish, each)
        taken = await mailbox.take()
        assert taken.message.published_at == expected
        await taken.ack()


@pytest.mark.feature("FX-32")
def test_a_broker_tells_when_rabbitmq_gives_up_on_a_consumer() -> None:
    assert AmqpBroker("amqp://localhost").consumer_timeout == 1800
    assert AmqpBroker("amqp://localhost", AmqpSettings(consumer_timeout=60)).consumer_timeout == 60
    with pytest.raises(ValueError, match="consumer_timeout"):
        AmqpSettings(consumer_timeout=-1)
