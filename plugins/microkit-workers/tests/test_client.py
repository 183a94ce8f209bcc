"""Calling any service by name: the injected proxy of all services, and clients outside of a worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import anyio
import anyio.to_thread
import pytest

from microkit import App, NotFound, Procedure, PublicError, RpcRequest, StartupError, StatusCode, inject
from microkit.broker import RpcWire
from microkit_workers import (
    BrokerProcedure,
    Route,
    RpcClient,
    RPCListener,
    RPCProxyProvider,
    RPCSystemProxyProvider,
    RunnerContext,
    ServiceProxy,
    SystemProxy,
)

MakeApp = Callable[..., App]
pytestmark = pytest.mark.feature("F002-48")


def add(a: int, b: int = 0) -> int:
    """Adds."""
    return a + b


class Calculator:
    def times(self, a: int, b: int) -> int:
        return a * b


async def slow() -> None:
    await anyio.sleep_forever()


def service(app: App) -> App:
    app.include(RunnerContext([Route(add, RPCListener()), Route(Calculator, RPCListener(), method_name="times")]))
    app.on(BrokerProcedure("slow-svc.slow"))(slow)
    return app


@pytest.fixture(params=["memory", "sqlite"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a broker that others than its application reach."""
    return f"memory://{tmp_path.name}" if request.param == "memory" else f"sqlite:///{tmp_path}/broker.db"


def shared_app(url: str) -> App:
    return service(App(name="svc", settings={"workers": {"broker": url}, "app": {"shutdown_timeout": 0.2}}))


async def status(awaitable: Any) -> StatusCode | None:
    try:
        await awaitable
    except PublicError as exc:
        return exc.status
    return None


@pytest.mark.anyio
async def test_an_injected_proxy_reaches_every_service(make_app: MakeApp, serving: Any) -> None:
    app = service(make_app(app={"shutdown_timeout": 0.2}))

    @app.on(Procedure("ask.awaiting"))
    @inject(system=RPCSystemProxyProvider(timeout=60), hurried=RPCSystemProxyProvider(timeout=0.3))
    async def awaiting(system: Any, hurried: Any) -> list[Any]:
        future = system.svc.add.call_async(1, b=2)
        found = [await system.svc.add(1), await system.svc.Calculator.times(2, 3), await future]
        found += [await system["svc"]["Calculator.times"](4, 5), len(await system.svc.targets)]
        failing = (system.nobody.add(1), system.svc.nothing(), hurried["slow-svc"].slow())
        return [*found, *[(await status(each)) for each in failing]]

    @app.on(Procedure("ask.waiting"))
    def waiting(system: Annotated[SystemProxy, RPCSystemProxyProvider()]) -> list[Any]:
        return [system.svc.add(1), system.svc.add.info.doc, system.svc.add.call_async(5).result(timeout=60)]

    @app.on(Procedure("ask.one"))
    def one(svc: Annotated[ServiceProxy, RPCProxyProvider("svc")]) -> Any:
        return svc.add(7)

    async with serving(app):
        assert await app.call("ask.waiting") == [1, "Adds.", 5]
        assert await app.call("ask.one") == 7
        assert await app.call("ask.awaiting") == [
            *(1, 6, 3, 20, 2),
            *(StatusCode.NOT_FOUND, StatusCode.NOT_FOUND, StatusCode.DEADLINE_EXCEEDED),
        ]


@pytest.mark.anyio
async def test_headers_of_a_call_over_the_broker_go_along(make_app: MakeApp, serving: Any) -> None:
    app, seen = make_app(), list[Any]()

    @app.on(BrokerProcedure("svc.first"))
    @inject(system=RPCSystemProxyProvider())
    async def first(system: Any) -> None:
        await system.svc.second()

    @app.on(BrokerProcedure("svc.second"))
    async def second(request: RpcRequest) -> None:
        seen.append(request.headers.get("trail"))

    async with serving(app):
        wire = await app.container.get(RpcWire)
        await wire.call("svc", "first", timeout=5, headers={"trail": "a"})
    assert seen == ["a"]


@pytest.mark.anyio
async def test_a_client_in_coroutines(shared_url: str, serving: Any) -> None:
    async with serving(shared_app(shared_url)):
        async with RpcClient(shared_url, timeout=60) as system:
            future = system.svc.add.call_async(2)
            assert (await system.svc.add(1, b=2), await system.svc.Calculator.times(2, 3), await future) == (3, 6, 2)
            assert (await system.svc.add.info).doc == "Adds."
            assert await anyio.to_thread.run_sync(lambda: system.svc.add(4)) == 4  # from a worker thread
            with anyio.fail_after(30):
                assert await status(system.nobody.add(1)) is StatusCode.NOT_FOUND
                assert await status(system.svc.__getitem__("__class__")()) is StatusCode.NOT_FOUND
        async with RpcClient(shared_url, timeout=0.2) as system:
            assert await status(system["slow-svc"].slow()) is StatusCode.DEADLINE_EXCEEDED


@pytest.mark.anyio
async def test_a_client_in_synchronous_code(tmp_path: Path, serving: Any) -> None:
    url = f"sqlite:///{tmp_path}/broker.db"

    def work() -> list[Any]:
        with RpcClient(url, timeout=60) as system:
            future = system.svc.add.call_async(2)
            found = [system.svc.add(1, b=2), system.svc.Calculator.times(2, 3), future.result(timeout=60)]
            with pytest.raises(PublicError, match="no service nobody") as missing:
                system.nobody.add(1)
            return [*found, system.svc.targets, missing.value.status]

    async with serving(shared_app(url)):
        found = await anyio.to_thread.run_sync(work)
    assert found[:3] == [3, 6, 2]
    assert sorted(found[3]) == ["Calculator.times", "add"]
    assert found[4] is StatusCode.NOT_FOUND


@pytest.mark.anyio
async def test_what_a_block_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/broker.db"
    client = RpcClient(url)
    with pytest.raises(ZeroDivisionError):
        async with client:
            raise ZeroDivisionError
    async with client:
        with pytest.raises(RuntimeError, match="open already"):
            await client.__aenter__()
    async with client as system:  # once more
        assert await status(system.nobody.add()) is StatusCode.NOT_FOUND

    def work() -> None:
        with RpcClient(url) as system:
            raise NotFound(repr(system))

    with pytest.raises(NotFound, match="<SystemProxy>"):
        await anyio.to_thread.run_sync(work)


@pytest.mark.anyio
async def test_calls_that_wait_when_a_client_is_closed_are_given_up(shared_url: str, serving: Any) -> None:
    async with serving(shared_app(shared_url)):
        with anyio.fail_after(60):
            async with RpcClient(shared_url, timeout=3600) as system:
                future = system["slow-svc"].slow.call_async()
                await anyio.sleep(0.05)
            with pytest.raises(RuntimeError, match="closed before its result came"):
                await future


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "text"), [("memory://", "belongs to its application"), ("amqq://localhost", "No active plugin brings")]
)
async def test_a_url_that_leads_nowhere_is_refused(url: str, text: str) -> None:
    with pytest.raises(StartupError, match=text):
        async with RpcClient(url):
            pass

    def work() -> None:
        with RpcClient(url):
            pass

    with pytest.raises(StartupError, match=text):
        await anyio.to_thread.run_sync(work)
