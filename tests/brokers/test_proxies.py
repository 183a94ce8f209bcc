"""Calling services over RabbitMQ by the proxies of microkit-workers, on the wires of nameko and of micro-framework."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from microkit import App, Procedure, PublicError, StatusCode, inject
from microkit.host import Host
from microkit_amqp import RemoteError
from microkit_workers import (
    BrokerProcedure,
    Route,
    RpcClient,
    RPCListener,
    RPCProxyProvider,
    RPCSystemProxyProvider,
    RunnerContext,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.feature("F002-48"),
    pytest.mark.parametrize("wire", ["nameko", pytest.param("ufw", marks=pytest.mark.feature("F002-47"))]),
]


def hello(name: str, *, greeting: str = "hi") -> str:
    """Greets."""
    return f"{greeting} {name}"


class Deep:
    def name(self) -> str:
        return "deep"


def fails() -> None:
    raise ZeroDivisionError("secret of the house")


async def slow() -> None:
    await anyio.sleep(30)


@asynccontextmanager
async def serving(app: App) -> AsyncGenerator[None]:
    host = Host(app)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.serve)
        with anyio.fail_after(60):
            await host.opened.wait()
        try:
            yield
        finally:
            host.stop()


@pytest.fixture
def settings(url: str, wire: str) -> dict[str, Any]:
    return {"workers": {"broker": url}, "amqp": {"rpc_wire": wire}, "app": {"shutdown_timeout": 0.2}}


@pytest.fixture
def ours(settings: dict[str, Any]) -> App:
    app = App(name="ours", settings=settings)
    routes = [Route(hello, RPCListener()), Route(Deep, RPCListener(), method_name="name"), Route(fails, RPCListener())]
    app.include(RunnerContext(routes))
    app.on(BrokerProcedure("stock.slow"))(slow)
    return app


async def error(awaitable: Any) -> PublicError:
    with pytest.raises(PublicError) as caught:
        await awaitable
    return caught.value


@pytest.mark.feature("F002-44")
@pytest.mark.feature("F002-45")
async def test_a_client_in_coroutines(ours: App, url: str, wire: str) -> None:
    async with serving(ours), RpcClient(url, timeout=60, settings={"amqp": {"rpc_wire": wire}}) as system:
        future = system.ours.hello.call_async("Eve")
        assert await system.ours.hello("Bob", greeting="hey") == "hey Bob"
        assert (await system.ours.Deep.name(), await future) == ("deep", "hi Eve")
        assert sorted(await system.ours.targets) == ["Deep.name", "fails", "hello"]
        assert (await system["ours"]["hello"].info).kwargs == ("greeting",)
        with anyio.fail_after(30):
            for missing in (system.nowhere.hello("Bob"), system.ours.nope(), system.ours["__class__"]()):
                assert (await error(missing)).status is StatusCode.NOT_FOUND
        failed = await error(system.ours.fails())
        assert isinstance(failed, RemoteError)
        assert (failed.type, failed.status) == ("ZeroDivisionError", StatusCode.INTERNAL)
        assert "secret" not in str(failed)
    async with serving(ours), RpcClient(url, timeout=0.2, settings={"amqp": {"rpc_wire": wire}}) as system:
        assert (await error(system.stock.slow())).status is StatusCode.DEADLINE_EXCEEDED


@pytest.mark.feature("F002-42")
async def test_a_client_in_synchronous_code(ours: App, url: str, wire: str) -> None:
    def work() -> list[Any]:
        with RpcClient(url, timeout=60, settings={"amqp": {"rpc_wire": wire}}) as system:
            future = system.ours.hello.call_async("Eve")
            found = [system.ours.hello("Bob"), system.ours.Deep.name(), future.result(timeout=60)]
            with pytest.raises(PublicError) as missing:
                system.nowhere.hello.call_async("Bob").result()
            return [*found, system.ours.hello.info.doc, missing.value.status]

    async with serving(ours):
        found = await anyio.to_thread.run_sync(work)
    assert found == ["hi Bob", "deep", "hi Eve", "Greets.", StatusCode.NOT_FOUND]


@pytest.mark.feature("F002-42")
async def test_injected_proxies_go_to_the_one_broker_of_the_application(ours: App, settings: dict[str, Any]) -> None:
    caller = App(name="caller", settings=settings)

    @caller.on(Procedure("caller.waiting"))
    @inject(ours=RPCProxyProvider("ours"), system=RPCSystemProxyProvider())
    def waiting(ours: Any, system: Any) -> list[str]:
        return [ours.hello("Bob"), system.ours.hello.call_async("Eve").result(timeout=60)]

    @caller.on(Procedure("caller.awaiting"))
    @inject(system=RPCSystemProxyProvider())
    async def awaiting(system: Any) -> str:
        return await system.ours.hello("Ann")

    async with serving(ours), caller.started():
        assert await caller.call("caller.waiting") == ["hi Bob", "hi Eve"]
        assert await caller.call("caller.awaiting") == "hi Ann"
