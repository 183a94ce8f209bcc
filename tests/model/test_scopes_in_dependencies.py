"""Dependencies that hold task groups and cancel scopes: no scope of the kernel may cross theirs, on either backend."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, Depends, Procedure, Reply, Request
from microkit._bridge import current_backend
from microkit._deadline import current_scope
from microkit.errors import PublicError, StatusCode

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G2"), pytest.mark.guarantee("G5")]


def application(log: list[str], **options: Any) -> App:
    """An app whose dependency owns a task group with a worker, and waits in its teardown."""

    async def worker() -> AsyncIterator[str]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            try:
                yield "worker"
            finally:
                log.append("stopping")
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.001)
                group.cancel_scope.cancel()
                log.append("stopped")

    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL", **options}})

    @app.get("/plain")
    async def plain(worker: str = Depends(worker)) -> str:
        await anyio.lowlevel.checkpoint()
        return worker

    @app.get("/fails")
    async def fails(worker: str = Depends(worker)) -> str:
        await anyio.lowlevel.checkpoint()
        raise ValueError("secret")

    @app.get("/late", timeout=0.01)
    async def late(worker: str = Depends(worker)) -> str:
        await anyio.sleep_forever()
        return worker

    @app.get("/stream")
    async def stream(worker: str = Depends(worker)) -> AsyncIterator[str]:
        yield "one"
        await anyio.lowlevel.checkpoint()
        log.append("streamed")
        yield "two"

    @app.get("/endless")
    async def endless(worker: str = Depends(worker)) -> AsyncIterator[str]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            while True:
                yield "again"
                await anyio.sleep(0.001)

    @app.on(Procedure("count.to"))
    async def count(number: int, worker: str = Depends(worker)) -> AsyncIterator[int]:
        for each in range(number):
            yield each

    async def with_worker(request: Request, call_next: Any, worker: str = Depends(worker)) -> Reply:
        return await call_next(request)

    app.add_middleware(with_worker)
    return app


async def ask(app: App, path: str, *, leave_after: int | None = None) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    left = anyio.Event()
    asked: list[bool] = []

    async def receive() -> dict[str, Any]:
        if not asked:
            asked.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)
        if leave_after is not None and len(sent) >= leave_after:
            left.set()
        await anyio.lowlevel.checkpoint()

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await app(scope, receive, send)
    return sent


@pytest.mark.feature("F001-23")
@pytest.mark.feature("F001-24")
@pytest.mark.parametrize(("path", "status"), [("/plain", 200), ("/fails", 500), ("/late", 504)])
async def test_a_task_group_in_a_dependency_ends_before_the_reply(path: str, status: int) -> None:
    log: list[str] = []
    async with application(log).started() as app:
        sent = await ask(app, path)
    assert sent[0]["status"] == status
    # The middleware and the handler share the dependency: it is entered and left once.
    assert log == ["stopping", "stopped"]


@pytest.mark.feature("F004-20")
async def test_a_stream_keeps_its_dependencies_until_its_end() -> None:
    log: list[str] = []
    async with application(log).started() as app:
        sent = await ask(app, "/stream")
        assert [event.get("body") for event in sent[1:]] == [b"one", b"two", b""]
        assert log == ["streamed", "stopping", "stopped"]


@pytest.mark.feature("F004-20")
@pytest.mark.feature("F001-24")
async def test_a_client_that_leaves_ends_an_endless_stream_and_its_dependencies() -> None:
    log: list[str] = []
    async with application(log).started() as app:
        sent = await ask(app, "/endless", leave_after=4)
    assert not any(event.get("more_body") is False for event in sent)
    assert log == ["stopping", "stopped"]


async def test_an_in_process_stream_may_be_left_early() -> None:
    log: list[str] = []
    async with application(log).started() as app:
        items = await app.call("count.to", 3)
        assert [item async for item in items] == [0, 1, 2]
        assert log == ["stopping", "stopped"]
        items = await app.call("count.to", 1000)
        assert await anext(items) == 0
        await items.aclose()
        reply = await app.handle(Request("GET", "/stream"))
        assert b"".join([piece async for piece in reply.body]) == b"onetwo"
    assert log.count("stopped") == 3


@pytest.mark.parametrize("how", ["teardown", "cancelled"])
async def test_a_teardown_that_hangs_is_cut(how: str) -> None:
    log: list[str] = []

    async def stuck() -> AsyncIterator[str]:
        try:
            yield "stuck"
        finally:
            log.append("hanging")
            try:
                await anyio.sleep_forever()
            finally:
                log.append("cut")

    async def other() -> AsyncIterator[str]:
        yield "other"
        log.append("other left")

    app = App(plugins=[], discover=False, settings={"app": {"teardown_timeout": 0.02, "log_level": "CRITICAL"}})

    @app.get("/")
    async def root(other: str = Depends(other), stuck: str = Depends(stuck)) -> str:
        if how == "cancelled":
            scope.cancel()
            await anyio.sleep_forever()
        return "done"

    sent: list[dict[str, Any]] = []
    scope = anyio.CancelScope()
    async with app.started():
        if how == "cancelled":
            with scope:
                sent = await ask(app, "/")
            assert sent == []
        else:
            sent = await ask(app, "/")
            assert sent[0]["status"] == 500
    assert log[:2] == ["hanging", "cut"]


@pytest.mark.parametrize("outer", ["a scope around the call", "no scope"])
@pytest.mark.parametrize("hangs", ["in its task group", "after its task group", "nowhere"])
async def test_a_teardown_with_scopes_of_its_own_is_bounded(outer: str, hangs: str) -> None:
    """Whether the server's task is in a cancel scope or in none, as uvicorn's are: there is a way for either."""
    log: list[str] = []

    async def first() -> AsyncIterator[str]:
        yield "first"
        await anyio.lowlevel.checkpoint()
        log.append("first left")

    async def grouped() -> AsyncIterator[str]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            yield "grouped"
            await anyio.sleep(60 if hangs == "in its task group" else 0.001)
            group.cancel_scope.cancel()
        await anyio.sleep(60 if hangs == "after its task group" else 0.001)
        log.append("grouped left")

    patience = 30.0 if hangs == "nowhere" else 0.05
    app = App(plugins=[], discover=False, settings={"app": {"teardown_timeout": patience, "log_level": "CRITICAL"}})

    @app.get("/")
    async def root(first: str = Depends(first), grouped: str = Depends(grouped)) -> str:
        return "done"

    with anyio.fail_after(30):
        async with app.started():
            if outer == "no scope":
                sent = await in_a_task_without_scopes(app)
            else:
                with anyio.CancelScope():
                    sent = await ask(app, "/")
    assert sent[0]["status"] == (200 if hangs == "nowhere" else 500)
    assert log == (["grouped left", "first left"] if hangs == "nowhere" else [])


async def in_a_task_without_scopes(app: App) -> list[dict[str, Any]]:
    """Ask in a task that is in no scope, as those of servers on asyncio are; trio's tasks always are in one."""
    if current_backend() == "trio":
        return await ask(app, "/")
    import asyncio

    assert await asyncio.create_task(innermost_scope()) is None
    return await asyncio.create_task(ask(app, "/"))


async def innermost_scope() -> object:
    return current_scope()


@pytest.mark.feature("F003-21")
async def test_a_deadline_cancels_the_handler_and_is_told_to_the_caller() -> None:
    app = App(plugins=[], discover=False, timeout=0.01)
    ended: list[str] = []

    @app.on(Procedure("slow.one"))
    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    @app.on(Procedure("slow.two"), timeout=None)
    async def unlimited() -> str:
        await anyio.sleep(0.02)
        return "in peace"

    async with app.started():
        with pytest.raises(PublicError) as caught:
            await app.call("slow.one")
        assert caught.value.status is StatusCode.DEADLINE_EXCEEDED
        assert ended == ["cancelled"]
        assert await app.call("slow.two") == "in peace"
