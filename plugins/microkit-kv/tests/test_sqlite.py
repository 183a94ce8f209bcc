"""The store in a file: opening, locks, cancellation and what stays in the file."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from microkit_kv import SQLiteStore, StoreClosed, StoreUnavailable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM microkit_kv").fetchone()[0]


async def until_a_thread_works_for(store: SQLiteStore) -> None:
    """Wait until a call of the store can no longer be taken back."""
    with anyio.fail_after(60):
        while store._limiter is None or not store._limiter.borrowed_tokens:  # noqa: ASYNC110
            await anyio.sleep(0.005)


async def test_what_is_written_is_there_after_the_store_was_closed(path: Path) -> None:
    store = SQLiteStore(path)
    for number in range(3):
        async with store:
            await store.put(str(number), b"x")
    async with SQLiteStore(path) as other:
        assert [key async for key in other.list()] == ["0", "1", "2"]


async def test_a_store_that_is_not_open_says_so(path: Path) -> None:
    store = SQLiteStore(path)
    with pytest.raises(StoreClosed, match="not open"):
        await store.get("a")
    async with store:
        async with store:
            await store.put("a", b"1")
        assert await store.get("a") == b"1"
    with pytest.raises(StoreClosed):
        await store.put("a", b"1")
    await store.close()


async def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        async with SQLiteStore(tmp_path / "no such folder" / "store.db"):
            pass
    (tmp_path / "text").write_text("this is no database at all" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        async with SQLiteStore(tmp_path / "text"):
            pass


def test_a_store_in_memory_is_another() -> None:
    with pytest.raises(ValueError, match="MemoryStore"):
        SQLiteStore(":memory:")


async def test_a_new_file_is_its_owners_alone(path: Path) -> None:
    async with SQLiteStore(path) as store:
        await store.put("a", b"secret")
        modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.glob("store.db*")}
    assert modes == {0o600}


async def test_a_lock_that_is_never_released_is_an_error_and_reading_goes_on(path: Path) -> None:
    async with SQLiteStore(path, timeout=0.2) as store:
        await store.put("a", b"1")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await store.put("a", b"2")
            assert await store.get("a") == b"1"
            other.execute("ROLLBACK")
        await store.put("a", b"3")
        assert await store.get("a") == b"3"


async def test_waiting_for_a_lock_brings_nothing_back_that_ended_meanwhile(path: Path) -> None:
    touched: list[bool] = []
    async with SQLiteStore(path) as store:
        await store.put("a", b"1", ttl=0.3)

        async def touch() -> None:
            touched.append(await store.touch("a", 60))

        async with anyio.create_task_group() as tasks:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                tasks.start_soon(touch)
                await anyio.sleep(0.5)
                other.execute("ROLLBACK")
    assert touched == [False]


async def test_a_call_that_is_cancelled_leaves_no_transaction_open(path: Path) -> None:
    async with SQLiteStore(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as cancelled:
                for number in range(5):
                    cancelled.start_soon(store.put, str(number), b"x")
                await until_a_thread_works_for(store)
                await anyio.sleep(0.1)
                cancelled.cancel_scope.cancel()
                other.execute("ROLLBACK")  # what waited in the thread for it goes on to its end
            other.execute("PRAGMA busy_timeout = 0")
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        assert len([key async for key in store.list()]) == 1
        await store.put("after", b"1")
        assert await store.get("after") == b"1"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_tasks_that_asyncio_itself_cancels_share_the_connection_unharmed(path: Path) -> None:
    """Only asyncio has such a cancellation, which goes through every shield."""
    async with SQLiteStore(path) as store:
        for number in range(50):
            task = asyncio.ensure_future(store.put(f"{number:02}", b"x" * 1000))
            await asyncio.sleep(number * 0.00002)
            task.cancel()
            await asyncio.gather(task, store.put("other", b"1"), return_exceptions=True)
        assert await store.get("other") == b"1"
        await store.put("after", b"1")


async def test_what_is_over_is_removed_from_the_file_bit_by_bit(path: Path) -> None:
    now = time.time()
    async with SQLiteStore(path, clock=lambda: now) as store:
        for number in range(400):
            await store.put(str(number), b"", ttl=10)
        now += 11
        for number in range(200):
            await store.put("one", str(number).encode())
    assert rows(path) == 1


async def test_many_may_open_a_new_file_at_a_time(path: Path) -> None:
    async def use(number: int) -> None:
        async with SQLiteStore(path, timeout=60.0) as store:
            await store.put(str(number), b"x")

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(use, number)
    assert rows(path) == 8


async def test_the_event_loop_goes_on_while_the_store_waits(path: Path) -> None:
    """Were it the loop that waits for the lock, nothing would release that, and the call would fail in the end."""
    async with SQLiteStore(path, timeout=20.0) as store, anyio.create_task_group() as tasks:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            tasks.start_soon(store.put, "a", b"1")
            await until_a_thread_works_for(store)
            for _ in range(10):
                await anyio.sleep(0.01)
            other.execute("ROLLBACK")
