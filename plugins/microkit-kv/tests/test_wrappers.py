"""Wrappers before a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkit_kv import ExpiringStore, InvalidKey, InvalidTTL, MemoryStore, PrefixStore, SQLiteStore, StoreClosed

pytestmark = pytest.mark.feature("F000-33")


async def test_two_prefixes_keep_their_entries_apart() -> None:
    store = MemoryStore()
    one, other = PrefixStore(store, "a_%:"), PrefixStore(store, "aXY:")
    await one.put("k", b"1")
    await other.put("k", b"2")
    assert await one.compare_and_set("k", b"1", b"3")
    assert [key async for key in one.list()] == ["k"]
    assert [key async for key in store.list()] == ["aXY:k", "a_%:k"]
    assert await one.delete("k")
    assert await other.get("k") == b"2"


async def test_prefixes_can_be_nested_and_count_as_part_of_the_key() -> None:
    store = MemoryStore()
    inner = PrefixStore(PrefixStore(store, "a:"), "b:")
    await inner.put("k", b"1")
    assert await store.get("a:b:k") == b"1"
    with pytest.raises(InvalidKey, match="513 bytes"):
        await inner.put("k" * 509, b"1")
    with pytest.raises(InvalidKey, match="empty"):
        await inner.put("", b"1")


async def test_entries_expire_unless_the_writer_says_otherwise() -> None:
    now = 0.0
    store = ExpiringStore(MemoryStore(clock=lambda: now), 10)
    await store.put("put", b"1")
    await store.put("longer", b"1", ttl=20)
    await store.put("touched", b"1")
    assert await store.compare_and_set("set", None, b"1")
    now = 5
    assert await store.touch("touched")
    now = 11
    assert [key async for key in store.list()] == ["longer", "touched"]


def test_a_time_out_of_bounds_is_refused() -> None:
    with pytest.raises(InvalidTTL):
        ExpiringStore(MemoryStore(), 0)


async def test_a_wrapper_opens_and_closes_its_store(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "store.db")
    async with PrefixStore(ExpiringStore(store, 60), "a:") as wrapped:
        await wrapped.put("k", b"1")
        assert await store.get("a:k") == b"1"
    with pytest.raises(StoreClosed):
        await store.get("a:k")
