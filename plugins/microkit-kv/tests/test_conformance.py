"""All stores, and wrappers before them, keep the rules of stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from microkit_kv import MAX_KEY_BYTES, ExpiringStore, MemoryStore, PrefixStore, RedisStore, SQLiteStore, Store
from microkit_kv.conformance import StoreSuite

pytestmark = [pytest.mark.feature("F000-32"), pytest.mark.feature("F000-33"), pytest.mark.guarantee("G12")]


class InMemory(StoreSuite):
    """On a clock that the cases move."""

    @pytest.fixture(autouse=True)
    def clock(self) -> None:
        self.now = 0.0

    def store(self) -> AbstractAsyncContextManager[Store]:
        return MemoryStore(clock=lambda: self.now)

    async def wait(self, seconds: float) -> None:
        self.now += seconds


class TestMemory(InMemory):
    pass


class LastWriterWins(MemoryStore):
    """As Workers KV is."""

    atomic = False
    compare_and_set = Store.compare_and_set


class TestNotAtomic(InMemory):
    atomic = False

    def store(self) -> AbstractAsyncContextManager[Store]:
        return LastWriterWins(clock=lambda: self.now)


class TestSQLite(StoreSuite):
    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    def store(self) -> AbstractAsyncContextManager[Store]:
        return SQLiteStore(self.path, timeout=60.0)


class TestRedis(StoreSuite):
    many = 12_000

    @pytest.fixture(autouse=True)
    def database(self, redis_url: str) -> None:
        self.url = redis_url

    def store(self) -> AbstractAsyncContextManager[Store]:
        return RedisStore(self.url, timeout=60.0)


class TestPrefix(InMemory):
    """With neighbours that a prefix taken for a pattern would let in."""

    prefix = "p%_*:"
    max_key = MAX_KEY_BYTES - len(prefix)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        async with super().store() as store:
            for neighbour in ("p", "p%", "pa_*:x", "p%_b:x", "p%__*:", self.prefix, "q", "p%_*;"):
                await store.put(neighbour, b"another's")
            yield PrefixStore(store, self.prefix)


class TestExpiring(InMemory):
    def store(self) -> AbstractAsyncContextManager[Store]:
        return ExpiringStore(MemoryStore(clock=lambda: self.now), 1000.0)


def test_the_suite_shows_what_was_taken_out_of_it() -> None:
    class Deletes(InMemory):
        test_any_text_is_a_key = None  # type: ignore[assignment]

    class Overrides(InMemory):
        async def test_an_absent_key_has_no_value(self) -> None: ...

    for suite, name in ((Deletes, "test_any_text_is_a_key"), (Overrides, "test_an_absent_key_has_no_value")):
        with pytest.raises(AssertionError, match=f"overrides {name}"):
            suite().test_every_case_of_the_suite_is_kept()
