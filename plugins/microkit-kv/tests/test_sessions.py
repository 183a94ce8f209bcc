"""Sessions in a store: the rules of session stores, and what the application does with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from microkit import App, ConfigurationError, SessionBackend
from microkit_kv import KvSettings, MemoryStore, SQLiteStore, StoreClosed, StoreSessions, store_from_url
from microkit_testkit.conformance.sessions import SessionBackendSuite

pytestmark = pytest.mark.feature("F004-29")


class TestMemorySessions(SessionBackendSuite):
    @pytest.fixture(autouse=True)
    def clock(self) -> None:
        self.now = 0.0

    def backend(self) -> AbstractAsyncContextManager[SessionBackend]:
        return StoreSessions(MemoryStore(clock=lambda: self.now))

    async def wait(self, seconds: float) -> None:
        self.now += seconds


class TestSQLiteSessions(SessionBackendSuite):
    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    def backend(self) -> AbstractAsyncContextManager[SessionBackend]:
        return StoreSessions(SQLiteStore(self.path, timeout=60.0))


class TestRedisSessions(SessionBackendSuite):
    @pytest.fixture(autouse=True)
    def database(self, redis_url: str) -> None:
        self.url = redis_url

    def backend(self) -> AbstractAsyncContextManager[SessionBackend]:
        return StoreSessions(store_from_url(self.url, KvSettings(timeout=60.0)))


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return request.getfixturevalue("redis_url")
    return f"sqlite:///{tmp_path}/sessions.db"


async def test_an_application_selects_them_by_url_and_they_outlive_it(url: str) -> None:
    for turn in range(3):
        app = App(plugins=["microkit_kv.plugin"], discover=False, session_backend=url)
        async with app.started():
            backend = app.session_backend
            assert isinstance(backend, SessionBackend)
            assert await backend.load("id") == ({"turn": turn - 1} if turn else {})
            await backend.save("id", {"turn": turn}, 60)
    with pytest.raises(StoreClosed):
        await backend.load("id")


async def test_an_unknown_scheme_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"'sqlit'.*Did you mean 'sqlite'"):
        App(plugins=["microkit_kv.plugin"], discover=False, session_backend="sqlit:///x").build()


async def test_a_store_that_the_user_opened_stays_open(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "store.db") as store:
        app = App(plugins=["microkit_kv.plugin"], discover=False, session_backend=StoreSessions(store))
        async with app.started():
            pass
        assert await store.get("a") is None


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


@pytest.mark.feature("F004-31")
async def test_the_store_does_not_tell_the_ids(store: MemoryStore) -> None:
    await StoreSessions(store).save("secret-id", {"user": 1}, 60)
    (key,) = [key async for key in store.list()]
    assert key.startswith("session:")
    assert "secret-id" not in key


@pytest.mark.parametrize("session_id", ["", "x" * 100_000, "\ud800", "../..", "%"])
async def test_any_id_that_a_client_sends_is_an_unknown_session(store: MemoryStore, session_id: str) -> None:
    assert await StoreSessions(store).load(session_id) == {}
