"""Stores of microkit-kv remember the messages that microkit-workers has handled: neither of them knows the other."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from microkit import App, Event, Kind
from microkit.broker import Broker, OutgoingMessage
from microkit.host import Host
from microkit_kv import PrefixStore, Store, store_from_url
from microkit_workers import Idempotent
from tests.servers import missing, private_server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if shutil.which("redis-server") is None:
        missing("redis-server", "install it by the system's packages, or run `make test` as root")
    command = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--port"]
    with private_server(lambda port, folder: [*command, str(port)], tmp_path_factory.mktemp("redis")) as server:
        yield f"redis://127.0.0.1:{server.port}"


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "redis":
        # A part of its own for each test: they share the server.
        return PrefixStore(store_from_url(request.getfixturevalue("redis")), f"{tmp_path.name}:")
    return store_from_url("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/kv.db")


@asynccontextmanager
async def serving(app: App) -> AsyncGenerator[Any]:
    host = Host(app)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.serve)
        with anyio.fail_after(60):
            await host.opened.wait()
        try:
            yield await app.container.get(Broker)
        finally:
            host.stop()


@pytest.mark.anyio
@pytest.mark.feature("FX-13")
async def test_two_services_share_what_they_have_seen(store: Store) -> None:
    seen: list[tuple[str, int]] = []

    def service(name: str) -> App:
        async def lifespan(app: App) -> AsyncGenerator[None]:
            async with store:
                yield

        app = App(name="svc", lifespan=lifespan)
        app.add_middleware(Idempotent(store), kinds=Kind.MESSAGE)

        @app.on(Event("shop", "order_placed"))
        async def handle(payload: int) -> None:
            seen.append((name, payload))

        return app

    async def deliver(broker: Broker, number: int) -> None:
        message = OutgoingMessage(b"%d" % number, message_id=f"order-{number}")
        await broker.publish("shop", "order_placed", message)
        with anyio.fail_after(60):
            while True:
                state = await broker.state("shop.order_placed__svc.handle")
                if not (state.ready or state.unsettled or state.delayed):
                    break
                await anyio.sleep(0.01)
        assert state.dead == 0

    async with store, serving(service("first")) as first, serving(service("second")) as second:
        for broker, number in ((first, 1), (first, 1), (second, 1), (second, 2), (first, 2), (first, 3)):
            await deliver(broker, number)
    assert seen == [("first", 1), ("second", 2), ("first", 3)]
