"""The file of the broker: leases, bounds, errors of the disk, cancellation."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest

from microkit import PublicError, StartupError, StatusCode
from microkit.broker import OutgoingMessage, QueueSpec
from microkit_workers import SqliteBroker
from microkit_workers.brokers.stale import StaleDelivery
from microkit_workers.conformance import Inbox, eventually

pytestmark = [pytest.mark.feature("FX-08"), pytest.mark.guarantee("G8")]

_QUEUE = QueueSpec("work", "shop", "order")


@asynccontextmanager
async def _broker(path: Path, options: str = "") -> AsyncGenerator[SqliteBroker, None]:
    broker = SqliteBroker.from_url(f"sqlite:///{path}?synchronous=normal&{options}")
    await broker.connect()
    yield broker
    await broker.close()


def _text(value: object) -> OutgoingMessage:
    return OutgoingMessage(str(value).encode())


async def test_a_lease_is_prolonged_while_a_handler_runs(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    # A sign of life comes every two seconds; the rest is for a machine that stands still.
    async with _broker(path, "lease=8") as one, _broker(path, "lease=600") as two:
        first = await Inbox().on(one, _QUEUE)
        await one.send("work", _text("x"))
        _, delivery = await first.take()
        second = await Inbox().on(two, _QUEUE)
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:

            def leases() -> list[float]:
                return [end for (end,) in raw.execute("SELECT alive_until FROM sessions ORDER BY alive_until")]

            at_first = leases()
            await eventually(lambda: leases()[0] > at_first[0] + 1, interval=0.05)
            assert len(leases()) == 2
        await second.quiet()
        assert delivery.generation == delivery.current_generation
        await delivery.ack()


async def test_a_lost_lease_makes_deliveries_stale_and_the_consumer_is_restored(tmp_path: Path) -> None:
    path, private = tmp_path / "x.db", QueueSpec("private", exclusive=True)
    async with _broker(path, "lease=600") as one:
        first, own = await Inbox().on(one, _QUEUE), await Inbox().on(one, private)
        assert own.subscription is not None
        lost: list[int] = []
        own.subscription.on_lost(lambda: lost.append(1))
        await one.send("work", _text("x"))
        _, stale = await first.take()
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:  # as if it had given no sign of life
            raw.execute("UPDATE sessions SET alive_until = 0")
        async with _broker(path, "lease=600") as two:
            await eventually(lambda: bool(lost))
            assert stale.generation != stale.current_generation
            with pytest.raises(StaleDelivery):
                await stale.ack()
            with pytest.raises(StaleDelivery):
                await stale.store_retry(0.0, 2, "too late")
            assert (await first.take_and_ack())[0].body == b"x"
            await two.send("private", _text("again"))
            assert (await own.take_and_ack())[0].body == b"again"
            await first.quiet()


async def test_an_answer_after_the_lease_was_lost_hits_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with _broker(path, "lease=600") as one, _broker(path, "lease=600") as two:
        first = await Inbox().on(one, _QUEUE)
        await one.send("work", _text("x"))
        _, stale = await first.take()
        await first.cancel()
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("UPDATE messages SET holder = 0")
        await (await Inbox().on(two, _QUEUE)).take()
        with pytest.raises(StaleDelivery):
            await stale.ack()
        assert (await two.state("work")).unsettled == 1


async def test_a_full_file_refuses_messages_keeps_what_it_has_and_goes_on(tmp_path: Path) -> None:
    async with _broker(tmp_path / "x.db", "max_size=400000") as broker:
        await (await Inbox().on(broker, _QUEUE)).cancel()
        accepted = 0

        async def fill() -> None:
            nonlocal accepted
            while accepted < 1000:
                await broker.send("work", OutgoingMessage(b"%d" % accepted + b" " * 2000))
                accepted += 1

        with pytest.raises(PublicError) as caught:
            await fill()
        assert caught.value.status is StatusCode.UNAVAILABLE
        assert "full" in caught.value.detail
        assert str(tmp_path) not in caught.value.detail
        assert 50 < accepted < 1000
        inbox = await Inbox().on(broker, _QUEUE)
        got = [int(message.body) for message in await inbox.take_and_ack(accepted)]
        assert got == list(range(accepted))
        await broker.send("work", _text("again"))
        await inbox.take_and_ack()


async def test_a_locked_file_refuses_messages_and_goes_on_when_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with _broker(path, "busy_timeout=0.1") as broker:
        inbox = await Inbox().on(broker, _QUEUE)
        await broker.send("work", _text(1))
        _, delivery = await inbox.take()
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("BEGIN IMMEDIATE")
            with pytest.raises(PublicError, match="locked") as caught:
                await broker.send("work", _text(2))
            assert caught.value.status is StatusCode.UNAVAILABLE
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(delivery.ack)
                await anyio.sleep(0.3)
                raw.execute("ROLLBACK")
        await broker.send("work", _text(3))
        assert (await inbox.take_and_ack())[0].body == b"3"
        assert (await broker.state("work")).unsettled == 0


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("garbage", b"this is no database, it is a text " * 100, "no SQLite database"),
        ("missing/folder/x.db", None, "cannot be opened"),
        ("garbage/x.db", None, "cannot be opened"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named_at_the_start(
    tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    (tmp_path / "garbage").write_bytes(b"x")
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartupError, match=why) as caught:
        await SqliteBroker(path).connect()
    assert str(path) in str(caught.value)


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE mine (x)")
    with pytest.raises(StartupError, match="of another program"):
        await SqliteBroker(path).connect()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]


async def test_a_file_that_is_damaged_later_fails_clearly(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with _broker(path) as broker:
        await (await Inbox().on(broker, _QUEUE)).cancel()
        for number in range(50):
            await broker.send("work", OutgoingMessage(b"%d" % number + b" " * 4000))
    damaged = path.read_bytes()
    path.write_bytes(damaged[:4096] + b"\xff" * (len(damaged) - 4096))
    broker = SqliteBroker(path)

    async def use() -> None:
        await broker.connect()
        await broker.send("work", _text("x"))

    with anyio.fail_after(60), pytest.raises((StartupError, PublicError), match="damaged"):
        await use()
    with anyio.fail_after(60):
        await broker.close()


async def test_a_full_queue_refuses_all_of_a_broadcast(tmp_path: Path) -> None:
    other = QueueSpec("other", _QUEUE.source, _QUEUE.event)
    async with _broker(tmp_path / "x.db", "max_length=3") as broker:
        inbox = await Inbox(1).on(broker, _QUEUE)
        await broker.send("work", _text(1))
        await (await Inbox().on(broker, other)).cancel()
        await broker.publish(_QUEUE.source, _QUEUE.event, OutgoingMessage(b"2", delay=60))
        await broker.send("work", _text(3))
        for send in (
            broker.send("work", _text("x")),
            broker.publish(_QUEUE.source, _QUEUE.event, _text("x")),
        ):
            with pytest.raises(PublicError, match="work is full") as caught:
                await send
            assert caught.value.status is StatusCode.RESOURCE_EXHAUSTED
        assert (await broker.state("other")).delayed == 1
        assert (await broker.state("other")).ready == 0
        _, delivery = await inbox.take()
        await delivery.store_retry(60, 2, "a copy has the place of its original")
        await inbox.ack(delivery)
        await inbox.take_and_ack()
        await broker.send("work", _text("room"))


async def test_dead_letters_are_bounded_where_that_is_asked_for(tmp_path: Path) -> None:
    async with _broker(tmp_path / "x.db", "max_dead=2") as broker:
        inbox = await Inbox().on(broker, _QUEUE)
        for number in range(4):
            await broker.send("work", _text(number))
            _, delivery = await inbox.take()
            await delivery.store_dead("no")
            await inbox.ack(delivery)
        assert [letter.message.body async for letter in broker.dead_letters()] == [b"2", b"3"]


async def test_cancelled_publishers_lose_nothing_that_was_confirmed_and_block_nothing(tmp_path: Path) -> None:
    confirmed: list[int] = []
    async with _broker(tmp_path / "x.db") as broker:
        inbox = await Inbox(1000).on(broker, _QUEUE)

        async def publish(number: int) -> None:
            with anyio.move_on_after(random.random() * 0.004):
                await broker.publish(_QUEUE.source, _QUEUE.event, _text(number))
                confirmed.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(300):
                tasks.start_soon(publish, number)
        await broker.send("work", _text("last"))
        await eventually(lambda: b"last" in inbox.bodies)
        got = [body for body in inbox.bodies if body != b"last"]
        assert {b"%d" % number for number in confirmed} <= set(got)
        assert len(got) == len(set(got))


async def test_many_dead_letters_are_listed_and_redriven(tmp_path: Path) -> None:
    async with _broker(tmp_path / "x.db") as broker:
        inbox = await Inbox(500).on(broker, _QUEUE)
        async with anyio.create_task_group() as tasks:
            for number in range(450):
                tasks.start_soon(broker.send, "work", _text(number))
        for _ in range(450):
            _, delivery = await inbox.take()
            await delivery.store_dead("no")
            await inbox.ack(delivery)
        assert len([letter async for letter in broker.dead_letters("work")]) == 450
        assert await broker.redrive("work") == 450
        assert len(await inbox.take_and_ack(450)) == 450
        assert await broker.redrive("work", frozenset({"no such id"})) == 0


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://host/x.db", "sqlite:///:memory:", "sqlite:///x/"])
def test_a_url_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(StartupError, match="names no file"):
        SqliteBroker.from_url(url)


def test_relative_and_absolute_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert SqliteBroker.from_url("sqlite:///jobs.db").path == str(tmp_path / "jobs.db")
    assert SqliteBroker.from_url("sqlite:////var/jobs.db").path == "/var/jobs.db"


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("leese=3", "Did you mean 'lease'"),
        ("lease=soon", "lease .* is a float"),
        ("lease=0", "lease is a positive number"),
        ("synchronous=off", "full or normal"),
        ("max_length=0", "max_length is a positive"),
        ("max_dead=-1", "max_dead is not negative"),
    ],
)
def test_a_wrong_option_is_named(query: str, why: str) -> None:
    with pytest.raises(StartupError, match=why):
        SqliteBroker.from_url(f"sqlite:///x.db?{query}")


@pytest.mark.feature("FX-10")
async def test_a_suspicious_message_waits_until_its_consumer_has_nothing_else(tmp_path: Path) -> None:
    async with _broker(tmp_path / "x.db", "delivery_limit=4") as broker:
        inbox = await Inbox(3).on(broker, _QUEUE)
        for number in range(4):
            await broker.send("work", _text(number))
        for _ in range(2):
            taken = [await inbox.take() for _ in range(3)]
            for _, delivery in taken:
                await delivery.give_back()
        await inbox.cancel()
        for _, delivery in inbox.left():
            await delivery.give_back()
        inbox = await Inbox(3).on(broker, _QUEUE)
        for number in range(3):
            (_, delivery) = await inbox.take()
            await inbox.quiet(0.1)
            assert len(inbox.bodies) == number + 1
            await inbox.ack(delivery)
        await inbox.take_and_ack()


async def test_publishers_that_fail_do_not_stop_consumers(tmp_path: Path) -> None:
    async with _broker(tmp_path / "x.db", "max_size=400000") as broker:
        inbox = await Inbox(2).on(broker, _QUEUE)
        for number in range(20):
            await broker.send("work", OutgoingMessage(b"%d" % number + b" " * 2000))

        async def publish() -> None:
            while True:
                with pytest.raises(PublicError):
                    await broker.send("work", OutgoingMessage(b" " * 1_000_000))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish)
            await inbox.take_and_ack(20)
            tasks.cancel_scope.cancel()


async def test_consumers_come_and_go_while_messages_flow(tmp_path: Path) -> None:
    got: list[bytes] = []
    async with _broker(tmp_path / "x.db") as broker:
        await (await Inbox().on(broker, _QUEUE)).cancel()

        async def churn() -> None:
            while len(set(got)) < 300:
                inbox = await Inbox(5).on(broker, _QUEUE)
                with anyio.move_on_after(random.random() * 0.01):
                    while True:
                        message, delivery = await inbox.take()
                        with anyio.CancelScope(shield=True):
                            await inbox.ack(delivery)
                        got.append(message.body)
                await inbox.cancel()
                for _, delivery in inbox.left():
                    await delivery.give_back()

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(churn)
                for number in range(300):
                    await broker.send("work", _text(number))
        assert sorted(int(body) for body in got) == list(range(300))


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "headers = '{half'",
        "headers = '[1]'",
        "headers = x'7b7d'",
        """headers = '{"x-microkit-attempt": "two"}'""",
        "headers = CAST(x'ff' AS TEXT)",
        "content_type = CAST(x'ff' AS TEXT)",
        "content_type = x'00'",
        "body = 'a text'",
        "expires = 'never'",
    ],
)
async def test_a_damaged_message_goes_to_the_dead_letters_and_the_others_go_on(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.db"
    async with _broker(path) as broker:
        await (await Inbox().on(broker, _QUEUE)).cancel()
        for number in range(3):
            await broker.send("work", OutgoingMessage(b"%d" % number, headers={"n": 1}, message_id=f"id {number}"))
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute(f"UPDATE messages SET {damage} WHERE message_id = 'id 1'")
        inbox = await Inbox().on(broker, _QUEUE)
        assert [each.body for each in await inbox.take_and_ack(2)] == [b"0", b"2"]
        (letter,) = [each async for each in broker.dead_letters("work")]
        assert (letter.reason, letter.message.message_id) == ("damaged in the file", "id 1")
        assert caplog.text.count("message id 1 of queue work is damaged") == 1
        assert (await broker.state("work")).ready == 0
        assert await broker.redrive("work") == 1  # what could be read of it
        (message,) = await inbox.take_and_ack()
        assert message.body == (b"a text" if "body" in damage else b"1")
        assert ("x-microkit-damaged-headers" in message.headers) is ("headers" in damage and "7b7d" not in damage)
        await inbox.quiet()


async def test_damage_to_a_message_that_comes_back_too_often_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with _broker(path, "delivery_limit=1") as broker:
        inbox = await Inbox().on(broker, _QUEUE)
        await broker.send("work", _text("x"))
        _, delivery = await inbox.take()
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("UPDATE messages SET returns = 5, headers = 'half'")
        await delivery.give_back()
        (letter,) = [each async for each in broker.dead_letters("work")]
        assert letter.reason == "damaged in the file"
        await broker.send("work", _text("y"))
        assert (await inbox.take_and_ack())[0].body == b"y"


async def test_a_fault_while_claiming_is_told_and_does_not_keep_the_thread_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from microkit_workers.brokers.store import Store

    calls = 0

    def waiting(*args: object) -> None:
        nonlocal calls
        calls += 1
        raise LookupError("a fault")

    async with _broker(tmp_path / "x.db") as broker:
        inbox, other = await Inbox().on(broker, _QUEUE), QueueSpec("other")
        with monkeypatch.context() as patch:
            patch.setattr(Store, "waiting", waiting)
            await broker.send("work", _text("x"))
            start = anyio.current_time()
            await eventually(lambda: "no message of queue work can be delivered" in caplog.text)
            await anyio.sleep(0.5)
            assert 1 <= calls < 10 + 5 * (anyio.current_time() - start)
        second = await Inbox().on(broker, other)
        await broker.send("other", _text("y"))
        assert (await second.take_and_ack())[0].body == b"y"
        assert (await inbox.take_and_ack())[0].body == b"x"
