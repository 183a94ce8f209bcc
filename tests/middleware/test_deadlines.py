"""Middleware that gives up on what is below it: the handler's dependencies are left at once, and see why.

Its deadline counts from the moment that the handler hangs, so that a slow machine does not give up before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, BackgroundTasks, Call, Container, Depends, Procedure, Reply, Request, Response, WebSocket
from microkit._bridge import current_backend
from tests.asgi_driver import Exchange, request, socket

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G5")]


@pytest.fixture
def log() -> list[str]:
    return []


@contextmanager
def bounded() -> Iterator[None]:
    """Give up on the block soon after it hangs."""
    with anyio.CancelScope() as scope:
        token = _BOUND.set(scope)
        try:
            yield
        finally:
            _BOUND.reset(token)


_BOUND: ContextVar[anyio.CancelScope] = ContextVar("_BOUND")


async def hang() -> None:
    """Until the middleware gives up."""
    _BOUND.get().deadline = anyio.current_time() + 0.02
    await anyio.sleep_forever()


@pytest.fixture
def app(log: list[str]) -> App:
    """`/slow` hangs in its first two runs; its dependencies wait in their teardown, one of them holds a task group."""
    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})
    runs: list[int] = []

    async def transaction() -> AsyncIterator[str]:
        log.append("open")
        try:
            yield "transaction"
        except BaseException:
            await anyio.sleep(0.001)
            log.append("rolled back")
            raise
        await anyio.sleep(0.001)
        log.append("committed")

    async def grouped() -> AsyncIterator[str]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            try:
                yield "group"
            finally:
                group.cancel_scope.cancel()

    async def work() -> str:
        runs.append(1)
        if len(runs) < 3:
            await hang()
        log.append("done")
        return "done"

    @app.get("/slow")
    async def slow(a: str = Depends(transaction), b: str = Depends(grouped)) -> str:
        return await work()

    @app.get("/contained")
    async def contained(container: Container, a: str = Depends(transaction)) -> str:
        return await work()

    return app


async def ask(app: App, target: str, around: str) -> Exchange:
    """Ask in a task with a scope around it, or in one without any, as those of servers on asyncio are."""
    if around == "scope" or current_backend() == "trio":
        return await request(app, target=target)
    import asyncio

    from tests.asgi_driver import body, http_scope

    exchange = Exchange(app, http_scope(target=target), [body(b"")])

    async def run() -> None:
        await app(exchange.scope, exchange._receive, exchange._send)

    await asyncio.wait_for(asyncio.create_task(run()), 60)
    return exchange


@pytest.mark.parametrize("around", ["scope", "no scope"])
@pytest.mark.parametrize("target", ["/slow", "/contained"])
async def test_what_a_middleware_cuts_short_is_rolled_back(app: App, log: list[str], target: str, around: str) -> None:
    async def gives_up(request: Request, call_next: Any) -> Reply:
        with bounded():
            return await call_next(request)
        log.append("given up")
        return Response("late", 504)

    app.add_middleware(gives_up)
    async with app.started():
        reply = await ask(app, target, around)
    assert (reply.status, reply.error) == (504, None)
    assert log == ["open", "rolled back", "given up"]


@pytest.mark.parametrize("around", ["scope", "no scope"])
@pytest.mark.parametrize("target", ["/slow", "/contained"])
async def test_each_try_that_a_middleware_cuts_short_is_rolled_back(
    app: App, log: list[str], target: str, around: str
) -> None:
    async def retries(request: Request, call_next: Any) -> Reply:
        while True:
            with bounded():
                return await call_next(request)

    app.add_middleware(retries)
    async with app.started():
        reply = await ask(app, target, around)
    assert (reply.status, reply.body) == (200, b"done")
    assert log == [*["open", "rolled back"] * 2, "open", "done", "committed"]


@pytest.mark.parametrize("around", ["scope", "no scope"])
async def test_a_middleware_that_goes_on_is_not_cut_by_the_bound_of_a_teardown(log: list[str], around: str) -> None:
    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL", "teardown_timeout": 0.05}})

    async def dependency() -> AsyncIterator[str]:
        yield "dependency"
        await anyio.lowlevel.checkpoint()
        log.append("left")

    async def goes_on(request: Request, call_next: Any) -> Reply:
        async with anyio.create_task_group():
            reply = await call_next(request)
            await anyio.sleep(0.1)
            log.append("went on")
        return reply

    app.add_middleware(goes_on)

    @app.get("/")
    async def handler(value: str = Depends(dependency)) -> str:
        return value

    async with app.started():
        reply = await ask(app, "/", around)
    assert (reply.status, log) == (200, ["left", "went on"])


@pytest.mark.guarantee("G7")
async def test_tasks_of_a_try_that_failed_are_dropped_and_those_of_the_last_one_run(log: list[str]) -> None:
    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})
    runs: list[int] = []

    async def retries(request: Request, call_next: Any, tasks: BackgroundTasks) -> Reply:
        tasks.add(log.append, "task of the middleware")
        reply = await call_next(request)
        return await call_next(request) if reply.error is not None else reply

    app.add_middleware(retries)

    @app.get("/")
    async def flaky(tasks: BackgroundTasks) -> str:
        runs.append(1)
        tasks.add(log.append, f"task of run {len(runs)}")
        if len(runs) == 1:
            raise ValueError
        return "done"

    assert (await request(app)).body == b"done"
    assert log == ["task of the middleware", "task of run 2"]


@pytest.mark.parametrize("kind", ["procedure", "socket"])
async def test_calls_of_other_kinds_are_rolled_back_too(log: list[str], kind: str) -> None:
    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})

    async def transaction() -> AsyncIterator[str]:
        try:
            yield "transaction"
        except BaseException:
            await anyio.sleep(0.001)
            log.append("rolled back")
            raise
        log.append("committed")

    async def gives_up(call: Call, call_next: Any) -> Reply:
        with bounded():
            return await call_next(call)
        return Reply("late", close_code=1001)

    app.add_middleware(gives_up)

    @app.on(Procedure("slow"))
    async def slow(value: str = Depends(transaction)) -> None:
        await hang()

    @app.websocket("/ws")
    async def silent(ws: WebSocket, value: str = Depends(transaction)) -> None:
        await ws.accept()
        await hang()

    async with app.started():
        if kind == "procedure":
            assert await app.call("slow") == "late"
        else:
            seen = await socket(app, "/ws")
            assert (seen.close, seen.error) == ((1001, ""), None)
    assert log == ["rolled back"]


async def test_a_stream_that_is_made_anew_stands_on_dependencies_of_its_own(log: list[str]) -> None:
    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})

    async def outer() -> AsyncIterator[str]:
        yield "outer"
        log.append("outer left")

    async def inner() -> AsyncIterator[str]:
        log.append("open")
        yield "inner"
        await anyio.lowlevel.checkpoint()
        log.append("left")

    async def twice(request: Request, call_next: Any, value: str = Depends(outer)) -> Reply:
        await call_next(request)
        return await call_next(request)

    app.add_middleware(twice)

    @app.get("/")
    async def stream(value: str = Depends(inner)) -> AsyncIterator[str]:
        yield value
        log.append("streamed")

    assert (await request(app)).body == b"inner"
    assert log == ["open", "left", "open", "streamed", "left", "outer left"]
