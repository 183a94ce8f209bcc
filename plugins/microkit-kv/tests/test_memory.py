"""The store in memory: its bounds, and what it keeps of what is over."""

from __future__ import annotations

import pytest

from microkit_kv import MemoryStore, StoreFull


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


async def test_a_full_store_refuses_new_keys_and_keeps_the_old(time: Time) -> None:
    store = MemoryStore(max_entries=3, clock=time)
    for key in ("a", "b", "c"):
        await store.put(key, b"1")
    with pytest.raises(StoreFull, match="3 entries"):
        await store.put("d", b"1")
    with pytest.raises(StoreFull):
        await store.compare_and_set("d", None, b"1")
    await store.put("a", b"2")
    assert [key async for key in store.list()] == ["a", "b", "c"]
    await store.delete("b")
    await store.put("d", b"1")
    assert [key async for key in store.list()] == ["a", "c", "d"]


async def test_a_full_store_makes_room_of_what_is_over(time: Time) -> None:
    store = MemoryStore(max_entries=100, clock=time)
    for number in range(99):
        await store.put(str(number), b"", ttl=10)
    await store.put("stays", b"")
    time.now += 11
    for number in range(99):
        await store.put(f"new {number}", b"")
    assert len(store) == 100


async def test_what_is_over_is_removed_by_later_writes(time: Time) -> None:
    store = MemoryStore(clock=time)
    for number in range(1000):
        await store.put(str(number), b"", ttl=10)
    time.now += 11
    for number in range(100):
        await store.put("one", str(number).encode(), ttl=10)
    assert len(store) == 1


async def test_writing_one_key_again_and_again_takes_no_more_memory(time: Time) -> None:
    store = MemoryStore(clock=time)
    await store.put("other", b"", ttl=5000)
    for number in range(5000):
        await store.put("one", b"", ttl=10 + number)
    assert len(store._ends) < 50
    time.now += 4000
    assert await store.has("one")
    time.now += 1010
    assert [key async for key in store.list()] == []


async def test_what_is_stored_is_there_as_long_as_the_object(time: Time) -> None:
    store = MemoryStore(clock=time)
    async with store:
        await store.put("a", b"1")
    async with store:
        assert await store.get("a") == b"1"
