"""The plugin in an application: the store as a service, settings, stores of other plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from microkit import App, ConfigurationError, Depends, PluginInfo, SettingsError, StartupError, hookimpl
from microkit_kv import JSONStore, MemoryStore, PrefixStore, RedisStore, SQLiteStore, Store, StoreClosed, StoreSpec
from microkit_testkit import TestClient
from microkit_testkit.conformance.components import ProviderSuite
from microkit_testkit.conformance.plugins import PluginSuite

KV = "microkit_kv.plugin"


@pytest.mark.feature("FC-15")
@pytest.mark.feature("FC-09")
class TestPlugin(PluginSuite):
    plugin = KV
    name = "kv"


class Boxes:
    """A plugin that brings a store of its own."""

    microkit_plugin_info = PluginInfo("boxes", kernel=">=0.4,<0.5", requires=("kv",))

    def __init__(self) -> None:
        self.urls: list[str] = []

    @hookimpl
    def microkit_kv_stores(self) -> StoreSpec:
        def make(url: str, settings: Any) -> Store:
            self.urls.append(url)
            return MemoryStore(max_value=settings.max_value)

        return StoreSpec("box", make)


class TestStoreProvider(ProviderSuite):
    plugins: ClassVar[Any] = (KV, Boxes())
    key = Store

    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)


def application(url: str | None = None, *plugins: Any, **settings: Any) -> App:
    given = settings if url is None else {"url": url, **settings}
    app = App(plugins=[KV, *plugins], discover=False, settings={"kv": given})

    @app.post("/count/{name}")
    async def count(name: str, store: Store) -> int:
        value = int(await store.get(name) or b"0") + 1
        await store.put(name, str(value).encode())
        return value

    @app.get("/store")
    async def kind(store: Store) -> str:
        return type(store).__name__

    return app


async def counted(app: App) -> list[int]:
    async with TestClient(app) as client:
        return [(await client.post("/count/a")).json() for _ in range(2)]


async def test_handlers_get_the_store_and_the_default_is_a_file_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert await counted(application()) == [1, 2]
    assert await counted(application()) == [3, 4]
    assert (tmp_path / "microkit.db").exists()


async def test_a_store_that_nothing_uses_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with App(plugins=[KV], discover=False).started():
        pass
    assert not (tmp_path / "microkit.db").exists()


async def test_a_change_of_the_url_moves_the_same_code(tmp_path: Path, redis_url: str) -> None:
    for url, kind in {
        "memory://": MemoryStore,
        f"sqlite:///{tmp_path}/my%20store.db": SQLiteStore,
        redis_url: RedisStore,
    }.items():
        app = application(url, timeout=60.0)
        assert await counted(app) == [1, 2], url
        async with TestClient(app) as client:
            assert (await client.get("/store")).text == kind.__name__
    assert (tmp_path / "my store.db").exists()


async def test_the_store_is_open_while_the_application_runs(tmp_path: Path) -> None:
    seen: list[Store] = []
    app = application(f"sqlite:///{tmp_path}/a.db")

    @app.get("/keep")
    async def keep(store: Store = Depends(Store)) -> None:
        seen.append(store)

    async with TestClient(app) as client:
        await client.get("/keep")
        assert await seen[0].get("a") is None
    with pytest.raises(StoreClosed):
        await seen[0].get("a")


async def test_services_on_the_store_are_entered_and_left_with_it(tmp_path: Path) -> None:
    def prefixed_store(store: Store) -> PrefixStore:
        return PrefixStore(store, "p:")

    app = application(f"sqlite:///{tmp_path}/a.db")
    app.registry.add_services([JSONStore, (PrefixStore, prefixed_store)])

    @app.post("/both")
    async def both(values: JSONStore, prefixed: PrefixStore, store: Store) -> list[str]:
        await values.put("json", [1])
        await prefixed.put("k", b"1")
        return [key async for key in store.list()]

    async with TestClient(app) as client:
        for _ in range(2):
            assert (await client.post("/both")).json() == ["json", "p:k"]


async def test_tests_put_another_store_in_its_place(tmp_path: Path) -> None:
    app = application(f"sqlite:///{tmp_path}/a.db")
    async with TestClient(app) as client:
        with client.override(Store, MemoryStore):
            assert (await client.get("/store")).text == "MemoryStore"
        assert (await client.get("/store")).text == "SQLiteStore"


@pytest.mark.guarantee("G2")
async def test_a_store_that_cannot_be_opened_fails_the_start(tmp_path: Path) -> None:
    app = application(f"sqlite:///{tmp_path}/missing/a.db")
    with pytest.raises(StartupError, match="cannot be opened"):
        async with app.started():
            pass


async def test_stores_of_other_plugins_are_selected_by_their_scheme() -> None:
    boxes = Boxes()
    assert await counted(application("box://somewhere?x=1", boxes)) == [1, 2]
    assert boxes.urls == ["box://somewhere?x=1"]


async def test_settings_reach_the_store(tmp_path: Path) -> None:
    app = application(f"sqlite:///{tmp_path}/a.db", max_value=1)

    @app.post("/large")
    async def large(store: Store) -> None:
        await store.put("a", b"12")

    async with TestClient(app, raise_server_exceptions=False) as client:
        assert (await client.post("/large")).status_code == 500
        assert (await client.post("/count/a")).json() == 1


def test_an_unknown_scheme_fails_the_build() -> None:
    with pytest.raises(ConfigurationError, match=r"store 'redi'.*Did you mean 'redis'"):
        application("redi://localhost").build()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://host/path", "sqlite:///a?b=1"])
async def test_wrong_urls_of_files_are_told(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///relative/path"):
        async with application(url).started():
            pass


@pytest.mark.parametrize(
    "url", ["redis://", "redis:///1", "redis://host:port", "redis://host/name", "redis://:hunter2@/1", "redis:host"]
)
async def test_wrong_urls_of_redis_are_told_without_passwords(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"redis://\[user:password@\]host") as caught:
        async with application(url).started():
            pass
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"max_value": 0}, {"timeout": 0}, {"timeout": float("nan")}, {"ulr": "x"}])
def test_wrong_settings_are_told(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        application(None, **settings).build()


async def test_a_store_in_memory_is_refused_in_several_processes() -> None:
    app = application("memory://")
    app.runtime.processes = 2
    with pytest.raises(ConfigurationError, match="2 workers"):
        async with app.started():
            pass


def test_what_a_client_may_not_know_stays_hidden() -> None:
    from microkit.inspect import inspect_app

    app = application("redis://user:hunter2@localhost")
    app.build()
    assert "hunter2" not in str(inspect_app(app))
