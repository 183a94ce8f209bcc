"""What must hold at the wrong moment: while the application starts, changes or stops, and when a process is to end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import pytest

from microkit import (
    App,
    ConfigurationError,
    Depends,
    Event,
    Message,
    MicrokitError,
    Procedure,
    WebSocket,
)
from microkit.settlement import State
from microkit_testkit import TestClient
from tests.asgi_driver import request, socket

pytestmark = pytest.mark.anyio


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def app() -> App:
    return App(discover=False, settings={"app": {"log_level": "CRITICAL"}})


# -- start and stop ----------------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G1")
async def test_concurrent_first_calls_start_once(app: App, log: list[str]) -> None:
    @app.on_startup
    async def up() -> None:
        log.append("up")
        await anyio.lowlevel.checkpoint()

    @app.on(Procedure("a.b"))
    async def procedure() -> int:
        return 1

    results: list[int] = []

    async def call() -> None:
        results.append(await app.call("a.b"))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(call)
    await app.runtime.stop()
    assert (log, results) == (["up"], [1] * 10)


@pytest.mark.guarantee("G2")
async def test_every_caller_hears_of_a_start_that_failed_also_while_another_one_begins(
    app: App, log: list[str]
) -> None:
    @app.on_startup
    async def up() -> None:
        await anyio.wait_all_tasks_blocked()
        log.append("up")
        if len(log) == 1:
            raise ValueError("not yet")

    @app.on(Procedure("a.b"))
    async def procedure() -> int:
        return 1

    told: list[Any] = []

    async def call() -> None:
        for _ in range(2):
            try:
                told.append(await app.call("a.b"))
            except MicrokitError as exc:
                told.append("not yet" in str(exc) or str(exc))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(call)
    await app.runtime.stop()
    assert log == ["up", "up"]
    assert set(told) == {True}
    assert told.count(True) >= 1


@pytest.mark.guarantee("G11")
async def test_a_call_that_comes_while_the_application_stops_is_refused(app: App, log: list[str]) -> None:
    stopping, release = anyio.Event(), anyio.Event()

    class Service:
        async def aclose(self) -> None:
            log.append("closed")

    app.registry.register(Service, Service)

    @app.on(Procedure("a.b"))
    async def procedure(service: Service) -> int:
        log.append("ran")
        return 1

    @app.on_shutdown
    async def down() -> None:
        stopping.set()
        await release.wait()

    await app.runtime.start_detached()
    async with anyio.create_task_group() as group:
        group.start_soon(app.runtime.stop)
        await stopping.wait()
        with pytest.raises(MicrokitError, match="shutting down"):
            await app.call("a.b")
        release.set()
    assert log == ["closed"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_what_is_to_end_the_process_reaches_the_caller_and_leaves_the_scopes(
    app: App, log: list[str], error: type[BaseException]
) -> None:
    async def scope() -> AsyncIterator[None]:
        try:
            yield
        except BaseException as exc:
            log.append(type(exc).__name__)
            raise

    @app.on(Procedure("a.b"))
    async def procedure(scope: Annotated[None, Depends(scope)]) -> None:
        raise error

    @app.get("/")
    async def page(scope: Annotated[None, Depends(scope)]) -> None:
        raise error

    @app.websocket("/")
    async def chat(ws: WebSocket, scope: Annotated[None, Depends(scope)]) -> None:
        raise error

    async with app.started():
        with pytest.raises(error):
            await request(app)
        with pytest.raises(error):
            await socket(app)
        with pytest.raises(error):
            await app.call("a.b")
        assert app.runtime.running
    assert log == [error.__name__] * 3


# -- overrides ---------------------------------------------------------------------------------------------------------


async def test_overrides_can_be_changed_like_any_mapping(app: App) -> None:
    def dependency() -> str:
        return "real"

    @app.get("/")
    async def handler(value: Annotated[str, Depends(dependency)]) -> str:
        return value

    async def answer() -> bytes:
        return (await request(app)).body

    overrides = app.dependency_overrides
    async with app.started():
        overrides.update({dependency: lambda: "updated"})
        assert await answer() == b"updated"
        overrides.pop(dependency)
        assert await answer() == b"real"
        overrides.setdefault(dependency, lambda: "default")
        assert await answer() == b"default"
        overrides.clear()
        assert await answer() == b"real"


# -- deadlines ---------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G10")
@pytest.mark.parametrize("inline", [True, False])
def test_a_deadline_that_could_never_hold_fails_at_start_up(app: App, inline: bool) -> None:
    async def stream() -> AsyncIterator[str]:
        yield "a"

    def block() -> str:
        return "a"

    if inline:
        app.get("/", timeout=1, inline=True)(block)
    else:
        app.get("/", timeout=1)(stream)
    with pytest.raises(ConfigurationError, match="timeout that could never end it"):
        app.build()


# -- scopes ------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G8")
async def test_a_message_outside_of_a_batch_has_no_scope_of_its_own(app: App, log: list[str]) -> None:
    async def session() -> AsyncIterator[None]:
        yield
        log.append("committed")

    @app.on(Event("shop", "sold"))
    async def handler(message: Message, session: Annotated[None, Depends(session)]) -> None:
        with pytest.raises(RuntimeError, match="batch"):
            async with message:
                log.append("never")
        log.append("handled")

    async with TestClient(app) as client:
        done = await client.publish("shop", "sold", 1)
    assert done.states == [State.ACKED]
    assert log == ["handled", "committed"]


async def test_a_foreign_origin_is_refused_before_any_dependency_runs(app: App, log: list[str]) -> None:
    async def session() -> AsyncIterator[None]:
        log.append("opened")
        yield

    @app.websocket("/")
    async def chat(ws: WebSocket, session: Annotated[None, Depends(session)]) -> None:
        await ws.accept()

    async with app.started():
        denied = await socket(app, headers={"host": "a.com", "origin": "http://b.com", "cookie": "a=b"})
    assert not denied.accepted
    assert denied.close[0] == 1008
    assert log == []
