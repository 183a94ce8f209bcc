"""Idempotency and the outbox: each message handled once, each committed event published."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from microkit import App, Event, Kind, Message, PublicError, StatusCode
from microkit.broker import OutgoingMessage
from microkit_workers import (
    Backoff,
    Idempotent,
    MemorySeenStore,
    Outbox,
    RunnerContext,
    SqliteOutbox,
    SqliteSeenStore,
    seen_key,
)

MakeApp = Callable[..., App]
pytestmark = pytest.mark.feature("FX-13")


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return MemorySeenStore() if request.param == "memory" else SqliteSeenStore(tmp_path / "seen.db")


@pytest.mark.anyio
async def test_a_store_remembers_for_its_time(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    assert await store.compare_and_set("a", None, b"1", ttl=10)
    assert not await store.compare_and_set("a", None, b"2", ttl=10)
    assert await store.compare_and_set("a", b"1", None)
    assert await store.get("a") is None
    await store.put("a", b"3", ttl=100)
    assert await store.get("a") == b"3"
    now[0] += 101
    assert await store.get("a") is None
    assert not await store.compare_and_set("a", b"3", b"4")
    assert await store.compare_and_set("a", None, b"4")
    now[0] += 1e9  # without an end
    assert await store.get("a") == b"4"


@pytest.mark.anyio
async def test_a_message_that_comes_twice_is_handled_once(
    make_app: MakeApp, serving: Any, until: Any, store: Any
) -> None:
    app, seen, context = make_app(), list[Any](), RunnerContext()
    context.add_middleware(Idempotent(store), kinds=Kind.MESSAGE)

    @context.on(Event("a", "b"), retry=Backoff(3, 0.01))
    async def handle(payload: int, message: Message) -> None:
        seen.append((payload, message.attempt))
        if payload == 2 and message.attempt == 1:
            raise OSError

    @context.on(Event("a", "b"), name="other")
    async def other(payload: int) -> None:
        seen.append((payload, "other"))

    app.include(context)
    async with serving(app) as service:
        for payload, message_id in ((1, "one"), (1, "one"), (2, "two"), (3, ""), (2, "two")):
            await service.publish("a", "b", payload, message_id=message_id)
            await service.drained("a.b__svc.handle")
        await service.drained("a.b__svc.other")
    mine = [each for each in seen if each[1] != "other"]
    assert mine == [(1, 1), (2, 1), (2, 2), (3, 1)]
    assert sorted(each for each in seen if each[1] == "other") == [(1, "other"), (2, "other"), (3, "other")]


@pytest.mark.anyio
async def test_a_message_that_is_being_handled_is_not_handled_beside_that(
    make_app: MakeApp, serving: Any, until: Any, store: Any
) -> None:
    app, seen, gate, context = make_app(), list[int](), anyio.Event(), RunnerContext()
    context.add_middleware(Idempotent(store), kinds=Kind.MESSAGE)

    @context.on(Event("a", "b"), retry=Backoff(10_000, 0.02))
    async def handle(payload: int) -> None:
        seen.append(payload)
        await gate.wait()

    app.include(context)
    async with serving(app) as service:
        for _ in range(2):
            await service.publish("a", "b", 1, message_id="one")
        await until(lambda: seen)
        await anyio.sleep(0.1)
        gate.set()
        await service.drained("a.b__svc.handle")
        assert await service.dead() == []
    assert seen == [1]


@pytest.mark.anyio
async def test_the_copy_of_a_message_whose_process_has_died_waits_for_the_claim_to_end(
    make_app: MakeApp, serving: Any, store: Any
) -> None:
    """A copy that gave up meanwhile would be dead, and its effect lost."""
    app, seen, context = make_app(), list[float](), RunnerContext()
    context.add_middleware(Idempotent(store, lease=60), kinds=Kind.MESSAGE)

    @context.on(Event("a", "b"), retry=Backoff(exceptions=()))
    async def handle(payload: int) -> None:
        seen.append(anyio.current_time())

    app.include(context)
    async with serving(app) as service:
        key = seen_key(Message(message_id="one", queue="a.b__svc.handle"))
        await store.compare_and_set(key, None, b"of a process that was killed", ttl=0.4)
        began = anyio.current_time()
        for _ in range(2):
            await service.publish("a", "b", 1, message_id="one")
        await service.drained("a.b__svc.handle")
        assert await service.dead() == []
    (at,) = seen
    assert at - began > 0.3


@pytest.mark.anyio
async def test_the_claim_of_a_message_lasts_as_long_as_its_handler(
    serving: Any, until: Any, tmp_path: Path, anyio_backend: object
) -> None:
    app, seen, context = App(name="svc", settings={"workers": {"broker": "memory://"}}), list[str](), RunnerContext()
    context.add_middleware(Idempotent(SqliteSeenStore(tmp_path / "seen.db"), lease=5), kinds=Kind.MESSAGE)

    @context.on(Event("a", "b"), retry=Backoff(exceptions=()))
    async def handle(payload: int) -> None:
        seen.append("begin")
        await anyio.sleep(6)  # longer than the lease
        seen.append("end")

    app.include(context)
    async with serving(app) as service:
        for _ in range(2):
            await service.publish("a", "b", 1, message_id="one")
        await service.drained("a.b__svc.handle")
        assert await service.dead() == []
    assert seen == ["begin", "end"]


@pytest.mark.anyio
async def test_done_belongs_to_the_transaction_of_the_handler(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    store = SqliteSeenStore(path)
    with closing(sqlite3.connect(path)) as connection:
        assert store.done("a", 100, connection)
        connection.rollback()
        assert await store.get("a") is None
        assert store.done("a", 100, connection)
        connection.commit()
        assert not store.done("a", 100, connection)
    assert await store.get("a") == b"done"


@pytest.mark.anyio
async def test_what_was_done_in_a_transaction_is_not_handled_again(
    make_app: MakeApp, serving: Any, tmp_path: Path
) -> None:
    """The process is killed after the handler's commit: its claim is there no more, the effect is."""
    app, seen, context, store = make_app(), list[int](), RunnerContext(), SqliteSeenStore(tmp_path / "app.db")
    context.add_middleware(Idempotent(store), kinds=Kind.MESSAGE)

    @context.on(Event("a", "b"))
    def handle(payload: int, message: Message) -> None:
        key = seen_key(message)
        assert key is not None
        with closing(sqlite3.connect(tmp_path / "app.db")) as connection, connection:
            assert store.done(key, 100, connection)
        seen.append(payload)

    app.include(context)
    key = seen_key(Message(message_id="one", queue="a.b__svc.handle"))
    assert key is not None
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection, connection:
        store.done(key, 100, connection)
    async with serving(app) as service:
        for message_id in ("one", "two", "two"):
            await service.publish("a", "b", 1, message_id=message_id)
            await service.drained("a.b__svc.handle")
    assert seen == [1]


def test_a_message_is_known_by_its_queue_and_its_id() -> None:
    assert seen_key(Message(message_id="m", queue="q")) == "q m"
    assert seen_key(Message(queue="q")) is None
    long = seen_key(Message(message_id="m" * 10_000, queue="q"))
    assert long is not None
    assert len(long) == 64
    assert long != seen_key(Message(message_id="m" * 10_001, queue="q"))
    assert seen_key(Message(message_id="\ud800", queue="q")) == "q \\ud800"


# -- the outbox --------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_committed_events_are_published_in_order_and_others_are_not(
    make_app: MakeApp, serving: Any, until: Any, tmp_path: Path
) -> None:
    app, seen, path = make_app(), list[Any](), tmp_path / "app.db"
    store = SqliteOutbox(path)
    app.include(Outbox(store, interval=0.02, limit=3))
    context = RunnerContext(max_workers=1)

    @context.on(Event("svc", "done"))
    async def done(payload: int, message: Message) -> None:
        seen.append((payload, message.message_id))

    app.include(context)
    with closing(sqlite3.connect(path)) as connection:
        ids = [store.add(connection, "svc", "done", number) for number in range(7)]
        connection.commit()
        store.add(connection, "svc", "done", 99)
        connection.rollback()
    async with serving(app):
        await until(lambda: len(seen) == 7)
        await until(lambda: store.pending(10) == [])
    assert seen == list(enumerate(ids))


@pytest.mark.anyio
async def test_events_stay_until_the_broker_has_confirmed_them(tmp_path: Path) -> None:
    path, sent, broken = tmp_path / "app.db", list[str](), [True]
    store = SqliteOutbox(path)
    outbox = Outbox(store)
    with closing(sqlite3.connect(path)) as connection:
        for number in range(3):
            store.add(connection, "svc", "done", number)
        connection.commit()

    class Broker:
        async def publish(self, source: str, event: str, message: OutgoingMessage) -> None:
            if broken[0] and sent:
                raise PublicError("The broker is gone.", status=StatusCode.UNAVAILABLE)
            sent.append(message.message_id)

    broker: Any = Broker()
    with pytest.raises(PublicError):
        await outbox.publish(broker)
    assert [each.body for each in store.pending(10)] == [b"1", b"2"]
    broken[0] = False
    assert await outbox.publish(broker) == 2
    assert len(set(sent)) == 3


def test_a_table_has_a_plain_name(tmp_path: Path) -> None:
    for make in (SqliteOutbox, SqliteSeenStore):
        with pytest.raises(ValueError, match="no name of a table"):
            make(tmp_path / "x.db", table="a; DROP TABLE b")
