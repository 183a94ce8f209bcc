"""The rules that every store keeps; subclass `StoreSuite` to hold yours to them.

Needs pytest (extra `conformance`) and is imported by tests only.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, ClassVar, TypeVar

import anyio
import pytest

from .errors import InvalidKey, InvalidTTL, Unsupported, ValueTooLarge
from .limits import MAX_KEY_BYTES, MAX_TTL, MAX_VALUE_BYTES
from .store import Store

T = TypeVar("T")

# Keys that a store which takes its prefixes for patterns, or keys for less than text, would mix up.
_TRICKY = ["%", "_", "*", "?", "[a-c]", "[^a]", "\\", "\\%", "a%b", "a_b", "a*b", "a?b", "a[b]", "'", '"', ";", "--"]
_UNICODE = ["ä", "日本語", "\U0001f600", "e\u0301", "\x00", "a\x00b", "\x7f", "\uffff", "\U0010ffff", " ", "\n"]
_BAD_TTLS = [0, -1, float("nan"), float("inf"), MAX_TTL * 2]


class StoreSuite:
    """What a store must do. Subclass it under a name that begins with `Test`; override `store`, and `wait` if time can
    be faked.

    A case that your store cannot pass stays, overridden and marked `@pytest.mark.xfail(reason="...")`, so that every
    exception is visible in the report of the tests.

    Attributes:
        atomic: whether the store compares and sets.
        max_key: bytes of the longest key that it takes; fewer than `MAX_KEY_BYTES` for a wrapper that adds to keys.
        max_value: bytes that it takes.
        ttl: seconds of the shortest time to live that the cases use.
        many: keys that fill more than one page.
    """

    atomic: ClassVar[bool] = True
    max_key: ClassVar[int] = MAX_KEY_BYTES
    max_value: ClassVar[int] = MAX_VALUE_BYTES
    ttl: ClassVar[float] = 0.3
    many: ClassVar[int] = 2_500

    def store(self) -> AbstractAsyncContextManager[Store]:
        """An empty store, opened."""
        raise NotImplementedError

    async def wait(self, seconds: float) -> None:
        """Let so many seconds pass for the store."""
        await anyio.sleep(seconds)

    def test_every_case_of_the_suite_is_kept(self) -> None:
        changed = [
            name
            for name in vars(StoreSuite)
            if name.startswith("test_") and getattr(type(self), name, None) is not vars(StoreSuite)[name]
        ]
        silent = [name for name in changed if not _excused(getattr(type(self), name, None))]
        assert not silent, (
            f"{type(self).__name__} deletes or overrides {', '.join(silent)}. A case that cannot pass stays, marked "
            f'with @pytest.mark.xfail(reason="why").'
        )

    # -- values --------------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_an_absent_key_has_no_value(self) -> None:
        async with self.store() as store:
            assert await store.get("nothing") is None
            assert await store.has("nothing") is False
            assert await store.delete("nothing") is False
            assert await store.touch("nothing", 60) is False

    @pytest.mark.anyio
    async def test_what_is_put_is_got_under_its_key_only(self) -> None:
        async with self.store() as store:
            await store.put("a", b"1")
            assert await store.get("a") == b"1"
            assert await store.has("a") is True
            assert [await store.get(key) for key in ("A", "a ", "aa", "b")] == [None] * 4

    @pytest.mark.anyio
    async def test_a_later_value_replaces_an_earlier_one(self) -> None:
        async with self.store() as store:
            await store.put("a", b"a long value")
            await store.put("a", b"2")
            assert await store.get("a") == b"2"
            assert [key async for key in store.list()] == ["a"]

    @pytest.mark.anyio
    async def test_what_is_deleted_is_gone(self) -> None:
        async with self.store() as store:
            await store.put("a", b"1")
            assert await store.delete("a") is True
            assert await store.get("a") is None
            assert await store.has("a") is False
            assert await store.delete("a") is False
            assert [key async for key in store.list()] == []

    @pytest.mark.anyio
    @pytest.mark.parametrize("value", [b"", b"\x00", bytes(range(256)), b"\r\n$1\r\n", "日本".encode("utf-16")])
    async def test_any_bytes_come_back_as_they_are(self, value: bytes) -> None:
        async with self.store() as store:
            await store.put("a", value)
            assert await store.get("a") == value
            assert await store.has("a") is True

    @pytest.mark.anyio
    async def test_values_may_be_as_large_as_the_store_says_and_no_larger(self) -> None:
        largest = random.Random(1).randbytes(self.max_value)  # noqa: S311
        async with self.store() as store:
            await store.put("a", largest)
            assert await store.get("a") == largest
            with pytest.raises(ValueTooLarge):
                await store.put("a", largest + b"x")
            assert await store.get("a") == largest

    @pytest.mark.anyio
    async def test_other_values_than_bytes_are_refused(self) -> None:
        text: Any = "text"
        async with self.store() as store:
            with pytest.raises(TypeError, match="bytes"):
                await store.put("a", text)
            assert await store.has("a") is False

    # -- keys ----------------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_any_text_is_a_key(self) -> None:
        keys = [*_TRICKY, *_UNICODE, ".", "..", "/", "a/b", "k" * self.max_key, "ä" * (self.max_key // 2)]
        async with self.store() as store:
            for number, key in enumerate(keys):
                await store.put(key, str(number).encode())
            assert [await store.get(key) for key in keys] == [str(number).encode() for number in range(len(keys))]
            assert [key async for key in store.list()] == sorted(keys)

    @pytest.mark.anyio
    @pytest.mark.parametrize("key", ["", "k" * (MAX_KEY_BYTES + 1), "ä" * MAX_KEY_BYTES, "\ud800"])
    async def test_other_keys_are_refused_by_every_method(self, key: str) -> None:
        async with self.store() as store:
            calls = [store.get, store.has, store.delete, partial(store.put, value=b""), partial(store.touch, ttl=60)]
            for call in calls:
                with pytest.raises(InvalidKey):
                    await call(key)
            if key:
                with pytest.raises(InvalidKey):
                    await store.list_page(key)

    # -- listing -------------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_prefixes_are_matched_letter_by_letter(self) -> None:
        keys = [head + tail for head in [*_TRICKY, *_UNICODE, "a", "ab", "abc", "b"] for tail in ("", "x", "/y")]
        async with self.store() as store:
            for key in keys:
                await store.put(key, b"")
            for prefix in ["", "/", "a", "ab", "c", "A", *_TRICKY, *_UNICODE]:
                expected = sorted({key for key in keys if key.startswith(prefix)})
                assert [key async for key in store.list(prefix)] == expected, prefix

    @pytest.mark.anyio
    async def test_all_pages_of_a_listing_follow_in_order(self) -> None:
        keys = [f"many/{number:06}" for number in range(self.many)]
        shuffled = random.Random(1).sample(keys, len(keys))  # noqa: S311
        async with self.store() as store:
            await store.put("man", b"")
            await store.put("many0", b"")
            for start in range(0, len(keys), 250):
                async with anyio.create_task_group() as tasks:
                    for key in shuffled[start : start + 250]:
                        tasks.start_soon(store.put, key, b"")
            first = await store.list_page("many/")
            assert first.cursor is not None, "one page holds them all; raise `many`"
            assert len(first.keys) < len(keys)
            assert [key async for key in store.list("many/")] == keys

    @pytest.mark.anyio
    async def test_a_listing_can_be_left_and_keys_can_be_deleted_in_it(self) -> None:
        async with self.store() as store:
            for number in range(20):
                await store.put(f"{number:02}", b"")
            async for key in store.list():
                if key == "03":
                    break
            async for key in store.list():
                await store.delete(key)
            assert [key async for key in store.list()] == []

    # -- time ----------------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_what_is_over_is_seen_by_nobody(self) -> None:
        async with self.store() as store:

            async def begin(ttl: float) -> bytes | None:
                await store.put("short", b"1", ttl=ttl)
                await store.put("long", b"1", ttl=ttl * 1000)
                await store.put("ever", b"1")
                return await store.get("short")

            assert await self._before_it_is_over(begin) == b"1"
            assert await store.get("short") is None
            assert await store.has("short") is False
            assert [key async for key in store.list()] == ["ever", "long"]
            assert await store.touch("short", 60) is False
            assert await store.delete("short") is False

    @pytest.mark.anyio
    async def test_every_put_sets_the_time_anew(self) -> None:
        async with self.store() as store:
            await store.put("longer", b"1", ttl=self.ttl)
            await store.put("longer", b"2", ttl=self.ttl * 1000)
            await store.put("ever", b"1", ttl=self.ttl)
            await store.put("ever", b"2")
            await store.put("shorter", b"1")
            await store.put("shorter", b"2", ttl=self.ttl)
            await self.wait(self.ttl * 1.2)
            assert [await store.get(key) for key in ("longer", "ever", "shorter")] == [b"2", b"2", None]

    @pytest.mark.anyio
    async def test_touching_sets_the_time_and_leaves_the_value(self) -> None:
        async with self.store() as store:

            async def begin(ttl: float) -> list[bool]:
                for key in ("longer", "ever"):
                    await store.put(key, b"1", ttl=ttl)
                await store.put("shorter", b"1")
                times = [("longer", ttl * 1000), ("ever", None), ("shorter", ttl), ("longer", ttl * 1000)]
                return [await store.touch(key, time) for key, time in times]

            assert await self._before_it_is_over(begin) == [True] * 4
            assert [await store.get(key) for key in ("longer", "ever", "shorter")] == [b"1", b"1", None]

    @pytest.mark.anyio
    @pytest.mark.parametrize("ttl", _BAD_TTLS)
    async def test_times_out_of_bounds_are_refused(self, ttl: float) -> None:
        async with self.store() as store:
            await store.put("a", b"1")
            with pytest.raises(InvalidTTL):
                await store.put("a", b"2", ttl=ttl)
            with pytest.raises(InvalidTTL):
                await store.touch("a", ttl)
            assert await store.get("a") == b"1"

    # -- compare and set -----------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_a_store_says_whether_it_compares_and_sets(self) -> None:
        async with self.store() as store:
            assert store.atomic is self.atomic
            if not self.atomic:
                with pytest.raises(Unsupported):
                    await store.compare_and_set("a", None, b"1")

    @pytest.mark.anyio
    async def test_only_the_expected_value_is_replaced(self) -> None:
        async with self.store() as store:
            self._need_atomic()
            assert await store.compare_and_set("a", b"1", b"2") is False
            assert await store.compare_and_set("a", b"", b"2") is False
            assert await store.compare_and_set("a", None, b"1") is True
            assert await store.compare_and_set("a", None, b"2") is False
            assert await store.compare_and_set("a", b"2", b"3") is False
            assert await store.compare_and_set("a", b"1", b"") is True
            assert await store.get("a") == b""
            assert await store.compare_and_set("a", None, b"2") is False
            assert await store.compare_and_set("a", b"", b"\x00\xff") is True
            assert await store.compare_and_set("a", b"\x00\xff", b"\x00\xff") is True
            assert await store.get("a") == b"\x00\xff"

    @pytest.mark.anyio
    async def test_only_the_expected_value_is_removed(self) -> None:
        async with self.store() as store:
            self._need_atomic()
            await store.put("a", b"1")
            assert await store.compare_and_set("a", b"2", None) is False
            assert await store.compare_and_set("a", None, None) is False
            assert await store.get("a") == b"1"
            assert await store.compare_and_set("a", b"1", None) is True
            assert await store.get("a") is None
            assert await store.compare_and_set("a", b"1", None) is False
            assert await store.compare_and_set("a", None, None) is True

    @pytest.mark.anyio
    async def test_comparing_and_setting_sets_the_time_and_sees_what_is_over_as_absent(self) -> None:
        async with self.store() as store:
            self._need_atomic()

            async def begin(ttl: float) -> list[bool]:
                await store.delete("new")
                await store.put("old", b"1", ttl=ttl * 1000)
                await store.put("ever", b"1", ttl=ttl)
                return [
                    await store.compare_and_set("ever", b"1", b"2"),
                    await store.compare_and_set("new", None, b"1", ttl=ttl),
                    await store.compare_and_set("old", b"1", b"2", ttl=ttl),
                ]

            assert await self._before_it_is_over(begin) == [True] * 3
            assert [await store.get(key) for key in ("new", "old", "ever")] == [None, None, b"2"]
            assert await store.compare_and_set("old", b"2", b"3") is False
            assert await store.compare_and_set("old", b"2", None) is False
            assert await store.compare_and_set("old", None, None) is True
            assert await store.compare_and_set("new", None, b"3") is True
            assert await store.get("new") == b"3"

    @pytest.mark.anyio
    async def test_comparing_and_setting_keeps_the_bounds(self) -> None:
        async with self.store() as store:
            self._need_atomic()
            with pytest.raises(InvalidKey):
                await store.compare_and_set("", None, b"1")
            with pytest.raises(ValueTooLarge):
                await store.compare_and_set("a", None, b"x" * (self.max_value + 1))
            for ttl in _BAD_TTLS:
                with pytest.raises(InvalidTTL):
                    await store.compare_and_set("a", None, b"1", ttl=ttl)
            assert await store.has("a") is False

    @pytest.mark.anyio
    async def test_one_of_many_tasks_wins(self) -> None:
        async with self.store() as store:
            self._need_atomic()
            won: list[int] = []

            async def claim(number: int) -> None:
                if await store.compare_and_set("claim", None, str(number).encode(), ttl=60):
                    won.append(number)

            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(claim, number)
            assert len(won) == 1
            assert await store.get("claim") == str(won[0]).encode()

    @pytest.mark.anyio
    async def test_no_increment_of_many_tasks_is_lost(self) -> None:
        async with self.store() as store:
            self._need_atomic()

            async def increment() -> None:
                for _ in range(10):
                    done = False
                    while not done:
                        value = await store.get("count")
                        done = await store.compare_and_set("count", value, str(int(value or b"0") + 1).encode())

            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(increment)
            assert await store.get("count") == b"80"

    # -- many at a time, and cancellation ------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_puts_at_a_time_neither_fail_nor_leave_two_entries(self) -> None:
        async with self.store() as store:
            async with anyio.create_task_group() as tasks:
                for number in range(40):
                    tasks.start_soon(store.put, "same", str(number).encode())
                    tasks.start_soon(store.put, f"own {number:02}", str(number).encode())
            assert [key async for key in store.list()] == [*(f"own {number:02}" for number in range(40)), "same"]
            assert await store.get("same") in {str(number).encode() for number in range(40)}
            assert await store.get("own 17") == b"17"

    @pytest.mark.anyio
    async def test_a_cancelled_call_was_done_or_not_and_the_store_goes_on(self) -> None:
        async with self.store() as store:
            await store.put("a", b"0")
            possible = {b"0"}
            for number in range(1, 40):
                value = str(number).encode()
                with anyio.move_on_after(number * 0.0001):
                    await store.put("a", value)
                possible.add(value)
                found = await store.get("a")
                assert found in possible
                possible = {found, value}  # what is cancelled may still be on its way
            await store.put("b", b"1")
            assert await store.get("b") == b"1"

    @pytest.mark.anyio
    async def test_a_random_history_reads_as_that_of_a_dict(self) -> None:
        draw = random.Random(7)  # noqa: S311
        keys = ["a", "ab", "b", "%", "ä", "c"]
        model: dict[str, bytes] = {}
        async with self.store() as store:
            for step in range(300):
                key, value = draw.choice(keys), str(step).encode()
                match draw.choice(["put", "delete", "get", "list", "cas"]):
                    case "put":
                        await store.put(key, value, ttl=draw.choice([None, 1000.0]))
                        model[key] = value
                    case "delete":
                        assert await store.delete(key) is (model.pop(key, None) is not None)
                    case "get":
                        assert await store.get(key) == model.get(key)
                    case "list":
                        prefix = draw.choice(["", "a"])
                        expected = sorted(each for each in model if each.startswith(prefix))
                        assert [each async for each in store.list(prefix)] == expected
                    case _ if self.atomic:
                        expected_value = draw.choice([model.get(key), None, b"other"])
                        right = model.get(key) == expected_value
                        assert await store.compare_and_set(key, expected_value, value) is right
                        model |= {key: value} if right else {}
                    case _:
                        pass

    async def _before_it_is_over(self, begin: Callable[[float], Awaitable[T]]) -> T:
        """Do something within the time to live that it is given, and wait until that is over. Returns what it returned.

        On a machine that stood still meanwhile it is done anew, with more time.
        """
        ttl = self.ttl
        while True:
            start = anyio.current_time()
            found = await begin(ttl)
            if anyio.current_time() - start < ttl * 0.8:
                break
            ttl *= 4
        await self.wait(ttl * 1.2)
        return found

    def _need_atomic(self) -> None:
        if not self.atomic:
            pytest.skip("does not compare and set, as it declares")


def _excused(case: Any) -> bool:
    marks: list[pytest.Mark] = getattr(case, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)
