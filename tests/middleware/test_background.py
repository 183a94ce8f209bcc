"""Work after the reply: when it runs, in which order, and what cannot stop it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, BackgroundTasks, Depends, Request, Response
from tests.asgi_driver import Exchange, body, http_scope, request

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G7")]


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def app() -> App:
    return App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})


@pytest.mark.feature("F001-30")
@pytest.mark.feature("F001-31")
async def test_tasks_of_middleware_dependency_and_handler_run_in_order_after_the_reply(
    app: App, log: list[str]
) -> None:
    loop_thread = threading.get_ident()

    async def note(text: str, *, suffix: str = "") -> None:
        log.append(text + suffix)

    def sync(text: str) -> None:
        log.append(text if threading.get_ident() != loop_thread else "blocked the loop")

    async def middleware(request: Request, call_next: Any, background_tasks: BackgroundTasks) -> Any:
        background_tasks.add(note, "middleware")
        return await call_next(request)

    async def dependency(background_tasks: BackgroundTasks) -> int:
        background_tasks.add(note, "depend", suffix="ency")
        return 1

    app.add_middleware(middleware)

    @app.get("/")
    async def handler(tasks: BackgroundTasks, value: int = Depends(dependency)) -> str:
        tasks.add(sync, "handler")
        tasks.add(note, "last")
        log.append("handled")
        return "a"

    exchange = Exchange(app, http_scope(), [body(b"")])

    async def sent(event: dict[str, Any]) -> None:
        log.append(event["type"].rpartition(".")[2])

    exchange.on_send = sent
    await exchange.run()
    assert log == ["handled", "start", "body", "middleware", "dependency", "handler", "last"]


@pytest.mark.feature("F001-31")
async def test_a_failing_task_is_logged_and_touches_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    app = App(plugins=[], discover=False)
    log: list[str] = []

    def fails() -> None:
        raise ValueError("boom")

    @app.get("/")
    async def handler(tasks: BackgroundTasks) -> str:
        tasks.add(fails)
        tasks.add(log.append, "next")
        return "a"

    reply = await request(app)
    assert (reply.body, reply.complete, reply.error, log) == (b"a", True, None, ["next"])
    records = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(records) == 1
    assert "fails" in records[0].getMessage()


@pytest.mark.feature("F001-31")
@pytest.mark.parametrize("recovers", [False, True])
async def test_tasks_are_dropped_if_the_handler_raised_even_if_a_middleware_recovered(
    app: App, log: list[str], recovers: bool
) -> None:
    async def recovering(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        return Response("recovered") if recovers else reply

    app.add_middleware(recovering)

    @app.get("/")
    async def handler(tasks: BackgroundTasks) -> None:
        tasks.add(log.append, "task")
        raise ValueError

    assert (await request(app)).status == (200 if recovers else 500)
    assert log == []


@pytest.mark.feature("F001-31")
async def test_a_returned_error_status_keeps_the_tasks(app: App, log: list[str]) -> None:
    @app.get("/")
    async def handler(tasks: BackgroundTasks) -> Any:
        tasks.add(log.append, "task")
        return 409, "taken"

    assert (await request(app)).status == 409
    assert log == ["task"]


@pytest.mark.feature("F001-31")
async def test_a_dependency_of_background_scope_is_open_until_the_tasks_are_done(app: App, log: list[str]) -> None:
    async def connection() -> AsyncIterator[str]:
        log.append("open")
        yield "connection"
        log.append("closed")

    async def session() -> AsyncIterator[str]:
        yield "session"
        log.append("session closed")

    @app.get("/")
    async def handler(
        tasks: BackgroundTasks,
        value: str = Depends(connection, scope="background"),
        other: str = Depends(session),
    ) -> str:
        tasks.add(log.append, f"task with {value}")
        return "a"

    exchange = Exchange(app, http_scope(), [body(b"")])

    async def sent(event: dict[str, Any]) -> None:
        log.append(event["type"].rpartition(".")[2])

    exchange.on_send = sent
    await exchange.run()
    assert log == ["open", "session closed", "start", "body", "task with connection", "closed"]


@pytest.mark.feature("F001-32")
async def test_tasks_survive_the_cancellation_of_their_request(app: App, log: list[str]) -> None:
    running, go_on = anyio.Event(), anyio.Event()

    async def task() -> None:
        running.set()
        await go_on.wait()
        await anyio.lowlevel.checkpoint()
        log.append("done")

    @app.get("/")
    async def handler(tasks: BackgroundTasks) -> str:
        tasks.add(task)
        return "a"

    async with anyio.create_task_group() as group:
        group.start_soon(Exchange(app, http_scope(), [body(b"")]).run)
        await running.wait()
        group.cancel_scope.cancel()
        go_on.set()
    assert log == ["done"]


@pytest.mark.feature("F001-32")
@pytest.mark.guarantee("G11")
@pytest.mark.parametrize("in_time", [True, False])
async def test_shutdown_waits_for_tasks_until_its_deadline(log: list[str], in_time: bool) -> None:
    settings = {"app": {"shutdown_timeout": 20.0 if in_time else 0.01, "log_level": "CRITICAL"}}
    app = App(plugins=[], discover=False, settings=settings)
    running, go_on = anyio.Event(), anyio.Event()

    async def task() -> None:
        running.set()
        try:
            await go_on.wait()
            log.append("done")
        finally:
            log.append("over")

    @app.get("/")
    async def handler(tasks: BackgroundTasks) -> str:
        tasks.add(task)
        tasks.add(log.append, "second")
        return "a"

    async with anyio.create_task_group() as group:
        async with app.started():
            group.start_soon(request, app)
            await running.wait()
            if in_time:
                go_on.set()
        log.append("stopped")
    assert log == (["done", "over", "second", "stopped"] if in_time else ["over", "stopped"])


@pytest.mark.anyio
@pytest.mark.guarantee("G5")
async def test_a_background_dependency_sees_what_the_handler_raised() -> None:
    seen: list[str] = []

    async def session():
        try:
            yield "session"
        except ValueError as exc:
            seen.append(f"rolled back: {exc}")
            raise
        seen.append("committed")

    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})

    @app.get("/")
    async def root(fail: bool = False, session: str = Depends(session, scope="background")) -> str:
        if fail:
            raise ValueError("broken")
        return session

    async with app.started():
        assert (await app.handle(Request("GET", "/"))).body == b"session"
        assert seen == ["committed"]
        assert (await app.handle(Request("GET", "/?fail=1"))).http_status == 500
        assert seen == ["committed", "rolled back: broken"]
