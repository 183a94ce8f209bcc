"""JSON values, and changes of which none is lost."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from microkit_kv import Conflict, JSONStore, MemoryStore, SQLiteStore, Store, StoreError, Unsupported

pytestmark = pytest.mark.feature("F000-31")

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**80,
    1.5,
    5e-324,
    "",
    "ä\x00\U0001f600\u2028",
    [],
    {},
    [None, [1, [2.5, "x"]]],
    {"": {"a b": [{"deep": None}]}, "ä": -0.25},
]


class LastWriteWins(MemoryStore):
    """A store without compare and set, such as Workers KV."""

    atomic = False

    compare_and_set = Store.compare_and_set


class Rival(MemoryStore):
    """A store in which another changes every entry just before it is set."""

    async def compare_and_set(self, key: str, *args: Any, **kwargs: Any) -> bool:
        await self.put(key, str(len(await self.get(key) or b"")).encode() + (await self.get(key) or b""))
        return await super().compare_and_set(key, *args, **kwargs)


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_any_json_value_comes_back_as_it_was(value: Any) -> None:
    values = JSONStore(MemoryStore())
    await values.put("a", value)
    found = await values.get("a")
    assert found == value
    assert type(found) is type(value)
    assert await values.has("a")


async def test_an_absent_key_gives_none() -> None:
    values = JSONStore(MemoryStore())
    assert await values.get("a") is None
    assert await values.has("a") is False
    assert await values.delete("a") is False


async def test_values_are_listed_and_deleted() -> None:
    values = JSONStore(MemoryStore())
    for key in ("b", "a%", "a"):
        await values.put(key, key)
    assert [key async for key in values.list("a")] == ["a", "a%"]
    assert await values.delete("a") is True
    assert [key async for key in values.list()] == ["a%", "b"]


@pytest.mark.parametrize("value", [math.nan, [math.inf], "\ud800", {1, 2}, b"bytes", object()], ids=repr)
async def test_what_is_no_json_is_refused_and_nothing_is_written(value: Any) -> None:
    values = JSONStore(MemoryStore())
    await values.put("a", 1)
    with pytest.raises((TypeError, ValueError)):
        await values.put("a", value)
    assert await values.get("a") == 1


async def test_foreign_bytes_are_an_error() -> None:
    store = MemoryStore()
    await store.put("a", b"\xff no json")
    with pytest.raises(StoreError, match="'a' is no JSON"):
        await JSONStore(store).get("a")


async def test_merging_sets_some_members_and_leaves_the_others() -> None:
    values = JSONStore(MemoryStore())
    assert await values.merge("a", {"x": 1}) == {"x": 1}
    assert await values.merge("a", {"y": {"z": 2}}) == {"x": 1, "y": {"z": 2}}
    assert await values.merge("a", {"x": None}) == {"x": None, "y": {"z": 2}}
    assert await values.get("a") == {"x": None, "y": {"z": 2}}


async def test_merging_into_something_else_is_refused() -> None:
    values = JSONStore(MemoryStore())
    await values.put("a", [1])
    with pytest.raises(TypeError, match="no object"):
        await values.merge("a", {"x": 1})
    assert await values.get("a") == [1]


@pytest.mark.feature("F004-32")
async def test_no_merge_of_many_tasks_is_lost(tmp_path: Any) -> None:
    async with JSONStore(SQLiteStore(tmp_path / "store.db")) as values:
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(values.merge, "a", {str(number): number})
        assert await values.get("a") == {str(number): number for number in range(30)}


async def test_updates_get_the_value_and_return_the_new_one() -> None:
    values = JSONStore(MemoryStore())
    assert await values.update("a", lambda value: (value or 0) + 1) == 1
    assert await values.update("a", lambda value: (value or 0) + 1, ttl=60) == 2
    assert await values.get("a") == 2


async def test_a_change_that_never_gets_through_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microkit_kv.json_store._PAUSE", 0.0)
    with pytest.raises(Conflict, match="100 times"):
        await JSONStore(Rival()).update("a", lambda value: 1)


async def test_without_compare_and_set_a_merge_must_be_asked_for_as_last_write_wins() -> None:
    with pytest.raises(Unsupported, match="atomic"):
        await JSONStore(LastWriteWins()).merge("a", {"x": 1})
    values = JSONStore(LastWriteWins(), last_write_wins=True)
    await values.merge("a", {"x": 1})
    assert await values.merge("a", {"y": 2}) == {"x": 1, "y": 2}


async def test_an_entry_has_a_time_to_live_if_it_is_given_one() -> None:
    now = 0.0
    values = JSONStore(MemoryStore(clock=lambda: now))
    await values.put("put", 1, ttl=10)
    await values.merge("merged", {"x": 1}, ttl=10)
    now = 11
    assert [key async for key in values.list()] == []
