"""What runs on one backend only is refused on the other, in one sentence that says what to do."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from microkit import App, Kind, PluginInfo, StartupError, hookimpl
from microkit.broker import broker_for
from microkit.host import Host
from microkit.transport import Process, TransportSpec

pytestmark = [pytest.mark.anyio, pytest.mark.feature("FC-11"), pytest.mark.guarantee("G12")]


class Server:
    """An ingress that tells when it was opened."""

    name = "native"
    opened = False

    async def start(self, app: App, process: Process) -> None:
        type(self).opened = True

    async def stop(self, grace: float) -> None:
        pass


class AsyncioOnly:
    """A plugin whose library is written for asyncio."""

    microkit_plugin_info = PluginInfo("native")

    def __init__(self, *more: TransportSpec) -> None:
        class Own(Server):
            pass

        self.server = Own
        self.more = more

    @hookimpl
    def microkit_transports(self) -> list[TransportSpec]:
        spec = TransportSpec(
            "native",
            Kind.HTTP,
            "http",
            server=self.server,
            broker=lambda url: object(),  # type: ignore[arg-type, return-value]
            schemes=("native",),
            backends=("asyncio",),
            automatic=True,
        )
        return [spec, *self.more]


@pytest.fixture
def backend(anyio_backend: tuple[str, Any]) -> str:
    return anyio_backend[0]


def application(plugin: AsyncioOnly) -> App:
    app = App(plugins=[plugin], discover=False)

    @app.get("/")
    async def hello() -> str:
        return "hello"

    return app


async def serve(host: Host) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(host.serve)
        with anyio.fail_after(60):
            await host.opened.wait()
        host.stop()


@pytest.mark.parametrize("named", [True, False])
async def test_a_transport_is_refused_before_anything_is_started(backend: str, named: bool) -> None:
    plugin = AsyncioOnly()
    app = application(plugin)
    log: list[str] = []
    app.on_startup(lambda: log.append("up"))
    host = Host(app, ["native"] if named else [], backend=backend)
    if backend == "asyncio":
        await serve(host)
        assert (plugin.server.opened, log) == (True, ["up"])
        return
    with pytest.raises(StartupError) as refused:
        await host.serve()
    assert str(refused.value) == ("The transport 'native' runs on asyncio only, not on trio: run on --backend asyncio.")
    assert (plugin.server.opened, log) == (False, [])


async def test_another_transport_for_the_same_calls_takes_its_place(backend: str) -> None:
    class Other(Server):
        pass

    plugin = AsyncioOnly(TransportSpec("other", Kind.HTTP, "http", server=Other, automatic=True))
    await serve(Host(application(plugin), backend=backend))
    assert (plugin.server.opened, Other.opened) == (backend == "asyncio", backend == "trio")


async def test_the_refusal_names_what_fits(backend: str) -> None:
    plugin = AsyncioOnly(TransportSpec("other", Kind.HTTP, "http", server=Server))
    host = Host(application(plugin), ["native"], backend=backend)
    if backend == "asyncio":
        await serve(host)
        return
    with pytest.raises(StartupError, match="use other instead, or run on --backend asyncio"):
        await host.serve()


async def test_a_broker_is_refused_where_it_cannot_run(backend: str) -> None:
    app = application(AsyncioOnly())
    async with app.started():
        if backend == "asyncio":
            assert broker_for(app, "native://x") is not None
            return
        with pytest.raises(StartupError, match="native:// runs on asyncio only, not on trio"):
            broker_for(app, "native://x")


@pytest.mark.feature("FX-06")
@pytest.mark.parametrize("is_wanted", [True, False])
async def test_an_ingress_without_bindings_is_opened_where_it_is_wanted(backend: str, is_wanted: bool) -> None:
    class Own(Server):
        pass

    class Http(Server):
        pass

    asked: list[App] = []

    def wanted(app: App) -> bool:
        asked.append(app)
        return is_wanted

    class Plugin:
        @hookimpl
        def microkit_transports(self) -> list[TransportSpec]:
            return [
                TransportSpec("own", Kind(0), server=Own, wanted=wanted),
                TransportSpec("http", Kind.HTTP, server=Http, automatic=True),
            ]

    app = App(plugins=[Plugin()], discover=False)
    app.get("/")(lambda: "hello")
    await serve(Host(app, backend=backend))
    assert (Own.opened, asked) == (is_wanted, [app])
    Own.opened = False
    await serve(Host(app, only=["http"], backend=backend))
    assert not Own.opened
