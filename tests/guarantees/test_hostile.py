"""What must hold although everything around it goes wrong: cancellation, failures of the wrong kind, wrong moments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import pytest

from microkit import (
    App,
    Container,
    Depends,
    NotFound,
    PluginInfo,
    Procedure,
    PublicError,
    Reply,
    StatusCode,
    StreamingResponse,
    WebSocket,
    hookimpl,
)
from microkit.observe import Observer
from tests.asgi_driver import HANG, Exchange, Socket, body, http_scope, request
from tests.guarantees.support import noted

pytestmark = pytest.mark.anyio


def watched(log: list[str], **options: Any) -> App:
    """An app with an observer."""

    class Watching(Observer):
        def call_started(self, call: Any) -> None:
            log.append("started")

        def call_finished(self, call: Any, reply: Reply, duration: float) -> None:
            log.append(f"finished {reply.status.name}")

    class Plugin:
        microkit_plugin_info = PluginInfo("watching")

        @hookimpl
        def microkit_observers(self, app: App) -> Observer:
            return Watching()

    return App(plugins=[Plugin()], discover=False, **options)


# -- observers ---------------------------------------------------------------------------------------------------------


async def test_an_observer_hears_the_end_of_a_cancelled_call(log: list[str]) -> None:
    app = watched(log)
    begun = anyio.Event()

    @app.get("/")
    async def slow() -> None:
        begun.set()
        await anyio.sleep_forever()

    async with app.started(), anyio.create_task_group() as group:
        group.start_soon(request, app)
        await begun.wait()
        group.cancel_scope.cancel()
    assert log == ["started", "finished CANCELLED"]


async def test_an_observer_hears_the_end_of_a_stream_that_broke(
    log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    app = watched(log)

    @app.get("/")
    async def stream() -> AsyncIterator[str]:
        yield "a"
        raise ValueError("broken on purpose")

    async with app.started():
        exchange = await request(app)
    assert not exchange.complete
    assert log == ["started", "finished INTERNAL"]


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G5")
async def test_a_stream_that_is_cancelled_does_not_commit(app: App, log: list[str]) -> None:
    begun = anyio.Event()

    @app.get("/")
    async def stream(scope: Annotated[str, Depends(noted(log))]) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            begun.set()
            await anyio.sleep_forever()

        return StreamingResponse(pieces())

    exchange = Exchange(app, http_scope(), [body(b""), HANG])
    async with app.started(), anyio.create_task_group() as group:
        group.start_soon(exchange.run)
        await begun.wait()
        group.cancel_scope.cancel()
    assert log == ["scope saw cancellation"]


@pytest.mark.guarantee("G9")
@pytest.mark.parametrize("leaves", [True, False])
async def test_a_teardown_that_fails_after_a_broken_stream_is_logged(
    app: App, caplog: pytest.LogCaptureFixture, leaves: bool
) -> None:
    begun = anyio.Event()

    async def dependency() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise LookupError("the teardown failed")

    @app.get("/")
    async def stream(scope: Annotated[int, Depends(dependency)]) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            begun.set()
            if not leaves:
                raise ValueError("the stream failed")
            await anyio.sleep_forever()

        return StreamingResponse(pieces())

    exchange = Exchange(app, http_scope(), [body(b""), HANG])
    async with app.started(), anyio.create_task_group() as group:
        group.start_soon(exchange.run)
        await begun.wait()
        if leaves:
            exchange.leave()
    assert not exchange.complete
    assert "the teardown failed" in caplog.text
    assert ("the stream failed" in caplog.text) is not leaves


# -- scopes ------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G7")
async def test_a_background_scope_made_by_a_container_is_left(app: App, log: list[str]) -> None:
    class Session:
        pass

    async def session() -> AsyncIterator[Session]:
        yield Session()
        log.append("left")

    app.registry.register(Session, session, scope="background")

    @app.get("/")
    async def handler(container: Container) -> str:
        await container.get(Session)
        log.append("handled")
        return "done"

    async with app.started():
        exchange = await request(app)
    assert exchange.body == b"done"
    assert log == ["handled", "left"]


# -- groups of exceptions ----------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G9")
async def test_a_public_error_that_is_alone_in_a_group_is_told(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/")
    async def handler() -> str:
        async with anyio.create_task_group() as outer:

            async def child() -> None:
                async with anyio.create_task_group():
                    raise NotFound("There is no such order.")

            outer.start_soon(child)
        return "never"

    async with app.started():
        exchange = await request(app)
    assert exchange.status == 404
    assert b"There is no such order." in exchange.body
    assert caplog.text == ""


@pytest.mark.guarantee("G9")
async def test_several_errors_in_a_group_are_internal(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/")
    async def handler() -> str:
        raise ExceptionGroup("two", [NotFound("first secret"), NotFound("second secret")])

    async with app.started():
        exchange = await request(app)
    assert exchange.status == 500
    assert b"secret" not in exchange.body
    assert len([each for each in caplog.records if each.levelno >= logging.ERROR]) == 1


async def test_a_procedure_tells_the_only_public_error_of_a_group(app: App) -> None:
    @app.on(Procedure("a.b"))
    async def handler() -> None:
        async with anyio.create_task_group():
            raise PublicError("Come back later.", status=StatusCode.UNAVAILABLE)

    async with app.started():
        with pytest.raises(PublicError, match="Come back later") as told:
            await app.call("a.b")
    assert told.value.status is StatusCode.UNAVAILABLE


async def test_a_socket_whose_tasks_find_it_closed_ends_without_an_error(
    app: App, log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    @app.websocket("/")
    async def chat(ws: WebSocket) -> None:
        await ws.accept()

        async def read() -> None:
            while True:
                await ws.receive_text()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(read)
        finally:
            log.append("left")

    socket = Socket(app)
    async with app.started(), anyio.create_task_group() as group:
        group.start_soon(socket.run)
        await socket.until(lambda: socket.accepted)
        await anyio.wait_all_tasks_blocked()
        socket.leave()
    assert socket.error is None
    assert log == ["left"]
    assert caplog.text == ""


# -- moments -----------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G1")
async def test_a_startup_hook_can_call_the_application(app: App, log: list[str]) -> None:
    @app.on(Procedure("cache.warm"))
    async def warm(scope: Annotated[str, Depends(noted(log))]) -> str:
        return "warm"

    @app.on_startup
    async def up() -> None:
        log.append(await app.call("cache.warm"))

    @app.on_shutdown
    async def down() -> None:
        log.append(await app.call("cache.warm"))

    with anyio.fail_after(60):
        async with app.started():
            pass
    assert log == ["scope committed", "warm"] * 2


async def test_an_override_that_cannot_be_built_changes_nothing(app: App) -> None:
    async def dependency() -> str:
        return "real"

    @app.get("/")
    async def handler(value: Annotated[str, Depends(dependency)]) -> str:
        return value

    class Unknown:
        pass

    def bad(unknown: Unknown) -> str:
        return "bad"

    async with app.started():
        with pytest.raises(Exception, match="unknown"):
            with app.override(dependency, bad):
                raise AssertionError
        assert (await request(app)).body == b"real"
        assert dict(app.dependency_overrides) == {}


async def test_an_override_does_not_touch_calls_that_run(app: App, log: list[str]) -> None:
    begun, release = anyio.Event(), anyio.Event()

    @app.get("/")
    async def handler(scope: Annotated[str, Depends(noted(log, "real"))]) -> str:
        begun.set()
        await release.wait()
        return scope

    dependency = noted(log, "first")

    @app.get("/other")
    async def other(scope: Annotated[str, Depends(dependency)]) -> str:
        begun.set()
        await release.wait()
        return scope

    running = Exchange(app, http_scope(target="/other"), [body(b"")])
    async with app.started():
        async with anyio.create_task_group() as group:
            group.start_soon(running.run)
            await begun.wait()
            with app.override(dependency, lambda: "fake"):
                release.set()
                assert (await request(app, target="/other")).body == b"fake"
    assert running.body == b"first"
    assert log == ["first committed"]


@pytest.mark.parametrize("last", ["asyncio", "trio"])
def test_an_application_is_used_again_on_another_event_loop(log: list[str], last: str) -> None:
    app = App(discover=False)
    app.on_startup(lambda: log.append("up"))
    app.on_shutdown(lambda: log.append("down"))

    @app.on(Procedure("a.b"))
    async def procedure(scope: Annotated[str, Depends(noted(log))]) -> int:
        return 1

    async def main() -> None:
        assert await app.call("a.b") == 1

    asyncio.run(main())
    asyncio.run(main())
    anyio.run(main, backend=last)
    assert log == ["up", "scope committed", "down"] * 3


@pytest.mark.guarantee("G11")
async def test_many_sockets_leave_no_tasks(app: App, log: list[str]) -> None:
    @app.websocket("/")
    async def chat(ws: WebSocket, scope: Annotated[str, Depends(noted(log))]) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send_text(str(message))

    async with app.started():
        before = anyio.get_current_task(), set(_tasks())
        sockets = [Socket(app) for _ in range(100)]
        async with anyio.create_task_group() as group:
            for each in sockets:
                group.start_soon(each.run)
            for each in sockets:
                each.say("hello")
            for each in sockets:
                await each.until(lambda each=each: bool(each.messages))
                each.leave()
        assert set(_tasks()) == before[1]
    assert [each.error for each in sockets] == [None] * 100
    assert len(log) == 100


def _tasks() -> list[int]:
    return [task.id for task in anyio.get_running_tasks()] if _on_asyncio() else []


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
