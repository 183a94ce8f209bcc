"""Streams by whoever made them: what middleware sees of them, and how they end when a teardown fails or hangs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, Depends, Request, Response, StreamingResponse
from tests.asgi_driver import Exchange, body, http_scope, request

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F004-20"), pytest.mark.guarantee("G5")]
Log = list[str]


@pytest.fixture
def log() -> Log:
    return []


@pytest.fixture
def app() -> App:
    return App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})


async def test_an_iterator_that_is_no_iterable_streams_too(app: App) -> None:
    class Cursor:
        left = 2

        async def __anext__(self) -> str:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return f"{self.left}"

    class Rows:
        def __aiter__(self) -> Cursor:
            return Cursor()

    app.get("/rows")(lambda: StreamingResponse(Rows()))
    reply = await request(app, target="/rows")
    assert (reply.status, reply.body, reply.complete) == (200, b"10", True)


@pytest.mark.parametrize("where", ["handler", "middleware"])
async def test_middleware_reads_bytes_whoever_made_the_stream(app: App, where: str) -> None:
    seen: list[Any] = []

    async def text() -> AsyncIterator[str]:
        yield "gr\u00fcn"

    async def outer(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        seen.extend([piece async for piece in reply.body])
        reply.body = b"".join(seen)
        return reply

    async def inner(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        return StreamingResponse(text()) if where == "middleware" else reply

    app.add_middleware(outer)
    app.add_middleware(inner)
    app.get("/text")(lambda: StreamingResponse(text()))
    reply = await request(app, target="/text")
    assert (reply.status, seen) == (200, ["gr\u00fcn".encode()])


@pytest.mark.parametrize("how", ["wrapped", "replaced"])
async def test_a_forgotten_stream_that_holds_a_task_group_is_closed(app: App, log: Log, how: str) -> None:
    async def forgets(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        pieces = reply.body

        async def wrapped() -> AsyncIterator[bytes]:
            async for piece in pieces:
                yield piece

        if how == "wrapped":
            reply.body = wrapped()
            return reply
        return Response(await anext(pieces))

    app.add_middleware(forgets)

    @app.get("/grouped")
    async def grouped() -> AsyncIterator[bytes]:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                while True:
                    yield b"x"
                    await anyio.lowlevel.checkpoint()
        finally:
            log.append("closed")

    exchange = Exchange(app, http_scope(target="/grouped"), [body(b"")])
    async with anyio.create_task_group() as group:
        group.start_soon(exchange.run)
        await exchange.started.wait()
        exchange.leave()
    assert (exchange.error, log) == (None, ["closed"])
    if how == "replaced":
        assert (exchange.status, exchange.body) == (200, b"x")


async def test_a_teardown_that_hangs_after_a_stream_ends_it_without_a_second_start(log: Log) -> None:
    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL", "teardown_timeout": 0.02}})

    async def stuck() -> AsyncIterator[str]:
        try:
            yield "stuck"
        finally:
            await anyio.sleep_forever()

    @app.get("/stream")
    async def stream(value: str = Depends(stuck)) -> AsyncIterator[str]:
        yield value

    reply = await request(app, target="/stream")
    assert (reply.status, reply.complete) == (200, False)
    assert [event["type"] for event in reply.sent] == ["http.response.start", "http.response.body"]


async def test_a_commit_that_fails_after_a_stream_is_told_to_whoever_handles_it_in_process(app: App) -> None:
    def connection() -> Iterator[str]:
        yield "connection"
        raise ValueError("no commit")

    @app.get("/handed")
    async def handed(value: str = Depends(connection)) -> StreamingResponse:
        return StreamingResponse([value])

    async with app.started():
        with pytest.raises(ValueError, match="no commit"):
            await app.handle(Request("GET", "/handed"))


async def test_a_teardown_that_hangs_before_a_head_reply_is_an_error() -> None:
    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL", "teardown_timeout": 0.02}})

    async def stuck() -> AsyncIterator[str]:
        yield "stuck"
        await anyio.sleep_forever()

    @app.get("/stream")
    async def stream(value: str = Depends(stuck)) -> AsyncIterator[str]:
        yield value

    reply = await request(app, "HEAD", "/stream")
    assert (reply.status, reply.body, reply.complete) == (500, b"", True)
