"""Streamed replies: piece by piece, with their dependencies open, ended only after these were left."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, BackgroundTasks, Depends, Request, Response, StreamingResponse
from microkit.errors import StreamAborted
from tests.asgi_driver import Exchange, body, http_scope, request

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F004-20"), pytest.mark.guarantee("G5")]
Log = list[str]


@pytest.fixture
def log() -> Log:
    return []


@pytest.fixture
def app(log: Log) -> App:
    """`/stream` stands on a dependency, and writes down what happens."""
    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})

    async def connection() -> AsyncIterator[str]:
        log.append("open")
        try:
            yield "connection"
        except BaseException as exc:
            log.append(f"sees {type(exc).__name__}")
            raise
        finally:
            log.append("left")

    @app.get("/stream")
    async def stream(tasks: BackgroundTasks, value: str = Depends(connection)) -> AsyncIterator[str]:
        tasks.add(log.append, "task")
        try:
            for i in range(3):
                log.append(f"make {i}")
                yield f"{i}"
        finally:
            log.append("closed")

    @app.get("/endless")
    async def endless(tasks: BackgroundTasks, value: str = Depends(connection)) -> AsyncIterator[bytes]:
        tasks.add(log.append, "task")
        try:
            while True:
                yield b"x"
                await anyio.lowlevel.checkpoint()
        finally:
            log.append("closed")

    @app.get("/fails")
    async def fails(tasks: BackgroundTasks, value: str = Depends(connection)) -> AsyncIterator[bytes]:
        tasks.add(log.append, "task")
        yield b"x"
        raise ValueError("secret")

    return app


async def test_a_stream_goes_piece_by_piece_and_its_dependencies_stay_open_until_its_end(app: App, log: Log) -> None:
    exchange = Exchange(app, http_scope(target="/stream"), [body(b"")])

    async def note(event: dict[str, Any]) -> None:
        end = not event.get("more_body", True)
        log.append("end" if end else f"sent {event.get('body', b'start').decode()}")

    exchange.on_send = note
    await exchange.run()
    assert (exchange.pieces, exchange.complete, exchange.error) == ([b"0", b"1", b"2"], True, None)
    steps = ["make 0", "sent 0", "make 1", "sent 1", "make 2", "sent 2"]
    assert log == ["open", "sent start", *steps, "closed", "left", "end", "task"]


@pytest.mark.parametrize("form", ["generator", "returned", "response", "list"])
async def test_a_sync_generator_streams_without_blocking_the_loop(app: App, form: str) -> None:
    loop_thread = threading.get_ident()
    threads: list[int] = []
    closed: list[int] = []

    def pieces() -> Iterator[str]:
        try:
            for i in range(3):
                threads.append(threading.get_ident())
                yield str(i)
        finally:
            closed.append(threading.get_ident())

    if form == "generator":
        app.get("/sync")(pieces)
    elif form == "returned":
        app.get("/sync")(lambda: pieces())
    elif form == "response":
        app.get("/sync")(lambda: StreamingResponse(pieces(), media_type="text/csv"))
    else:
        app.get("/sync")(lambda: StreamingResponse(["0", b"1", bytearray(b"2")]))
    reply = await request(app, target="/sync")
    assert (reply.pieces, reply.complete) == ([b"0", b"1", b"2"], True)
    if form == "response":
        assert reply.headers["content-type"] == "text/csv"
    assert loop_thread not in threads + closed
    assert len(closed) == (form != "list")


async def test_a_client_that_leaves_closes_the_stream_and_its_dependencies(app: App, log: Log) -> None:
    exchange = Exchange(app, http_scope(target="/endless"), [body(b"")])
    async with anyio.create_task_group() as group:
        group.start_soon(exchange.run)
        await exchange.started.wait()
        exchange.leave()
    assert exchange.error is None
    assert not exchange.complete
    assert log[0] == "open"
    assert log[-3:] == ["sees ClientDisconnect", "left", "task"]
    assert "closed" in log


async def test_a_server_that_raises_when_the_client_left_does_the_same(app: App, log: Log) -> None:
    exchange = Exchange(app, http_scope(target="/endless"), [body(b"")])

    async def gone(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.body":
            raise ConnectionResetError

    exchange.on_send = gone
    await exchange.run()
    assert exchange.error is None
    assert log == ["open", "closed", "sees ClientDisconnect", "left", "task"]


@pytest.mark.parametrize("at", ["http.response.start", "http.response.body"])
async def test_background_tasks_survive_a_client_that_left_before_a_plain_reply(app: App, log: Log, at: str) -> None:
    @app.get("/plain")
    async def plain(tasks: BackgroundTasks) -> str:
        tasks.add(log.append, "task")
        return "a"

    exchange = Exchange(app, http_scope(target="/plain"), [body(b"")])

    async def gone(event: dict[str, Any]) -> None:
        if event["type"] == at:
            raise ConnectionResetError

    exchange.on_send = gone
    await exchange.run()
    assert (exchange.error, log) == (None, ["task"])


async def test_a_sync_stream_is_closed_when_the_client_leaves(app: App) -> None:
    closed = threading.Event()

    @app.get("/sync")
    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    exchange = Exchange(app, http_scope(target="/sync"), [body(b"")])
    async with anyio.create_task_group() as group:
        group.start_soon(exchange.run)
        await exchange.started.wait()
        exchange.leave()
    assert closed.is_set()


async def test_a_client_that_leaves_is_noticed_after_its_body_was_streamed_in(app: App) -> None:
    @app.post("/before")
    async def before(request: Request) -> StreamingResponse:
        seen = [piece async for piece in request.stream()]

        async def answer() -> AsyncIterator[bytes]:
            yield b"".join(seen)
            await anyio.sleep_forever()

        return StreamingResponse(answer())

    exchange = Exchange(app, http_scope("POST", "/before", {"content-length": "1"}), [body(b"x")])
    async with anyio.create_task_group() as group:
        group.start_soon(exchange.run)
        await exchange.started.wait()
        exchange.leave()
    assert (exchange.error, exchange.complete) == (None, False)


async def test_a_body_may_be_read_while_the_reply_is_sent(app: App) -> None:
    @app.post("/echo")
    async def echo(request: Request) -> AsyncIterator[bytes]:
        async for piece in request.stream():
            yield piece.upper()

    events = [body(b"a", more=True), body(b"b", more=True), body(b"c")]
    reply = await request(app, "POST", "/echo", [(b"transfer-encoding", b"chunked")], events=events)
    assert (reply.pieces, reply.complete) == ([b"A", b"B", b"C"], True)


@pytest.mark.guarantee("G9")
async def test_a_stream_that_fails_is_cut_off_without_an_end(app: App, log: Log) -> None:
    reply = await request(app, target="/fails")
    assert isinstance(reply.error, StreamAborted)
    assert (reply.pieces, reply.complete) == ([b"x"], False)
    assert "secret" not in str(reply.sent) + str(reply.error)
    assert reply.error.__cause__ is None
    assert log == ["open", "sees ValueError", "left"]


async def test_a_failing_commit_withholds_the_end(app: App, log: Log) -> None:
    async def commits() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("commit failed")

    @app.get("/commit")
    async def handler(tasks: BackgroundTasks, value: int = Depends(commits)) -> AsyncIterator[bytes]:
        tasks.add(log.append, "task")
        yield b"all"

    @app.get("/length")
    async def with_length(value: int = Depends(commits)) -> StreamingResponse:
        return StreamingResponse([b"a", b"bc"], headers={"content-length": "3"})

    reply = await request(app, target="/commit")
    assert isinstance(reply.error, StreamAborted)
    assert (reply.pieces, reply.complete, log) == ([b"all"], False, [])
    # A client counts the bytes of a known length, so the last ones wait for the commit.
    reply = await request(app, target="/length")
    assert isinstance(reply.error, StreamAborted)
    assert (reply.pieces, reply.complete) == ([b"a"], False)


async def test_a_stream_of_known_length_runs_to_its_end_before_its_last_piece_is_sent(app: App, log: Log) -> None:
    @app.get("/known")
    async def handler() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"
            log.append("ran on")

        return StreamingResponse(pieces(), headers={"content-length": "2"})

    reply = await request(app, target="/known")
    assert (reply.body, reply.complete, log) == (b"ab", True, ["ran on"])


@pytest.mark.parametrize("pieces", [[b"a"], [b"a", b"bcd"], [b"ab", b"c", b"d"]])
async def test_a_stream_of_another_length_than_it_says_is_cut_off(app: App, pieces: list[bytes]) -> None:
    app.get("/lies")(lambda: StreamingResponse(pieces, headers={"content-length": "3"}))
    reply = await request(app, target="/lies")
    assert isinstance(reply.error, StreamAborted)
    assert len(reply.body) <= 3


@pytest.mark.feature("F001-08")
async def test_head_never_starts_the_stream_but_leaves_its_scope(app: App, log: Log) -> None:
    got = await request(app, target="/stream")
    log.clear()
    head = await request(app, "HEAD", "/stream")
    assert log == ["open", "left"]
    assert (head.headers, head.body, head.complete) == (got.headers, b"", True)


async def test_a_commit_that_fails_before_a_head_reply_is_an_error(app: App) -> None:
    async def commits() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("commit failed")

    @app.get("/commit")
    async def handler(value: int = Depends(commits)) -> AsyncIterator[bytes]:
        yield b"all"

    reply = await request(app, "HEAD", "/commit")
    assert (reply.status, reply.body, reply.error) == (500, b"", None)


async def test_a_middleware_may_wrap_a_stream(app: App, log: Log) -> None:
    async def shouting(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        pieces = reply.body

        async def wrapped() -> AsyncIterator[bytes]:
            try:
                yield b"<"
                async for piece in pieces:
                    yield piece + b"!"
                yield b">"
            finally:
                log.append("wrapper closed")

        reply.body = wrapped()
        return reply

    app.add_middleware(shouting)
    reply = await request(app, target="/stream")
    assert reply.body == b"<0!1!2!>"
    assert log[-4:] == ["closed", "wrapper closed", "left", "task"]
    log.clear()
    exchange = Exchange(app, http_scope(target="/endless"), [body(b"")])
    async with anyio.create_task_group() as group:
        group.start_soon(exchange.run)
        await exchange.started.wait()
        exchange.leave()
    # The stream below stands on the dependency, so it is closed before that is left, though its wrapper forgot it.
    assert log.index("closed") < log.index("left")


@pytest.mark.parametrize("replacement", ["complete", "stream", "dropped"])
async def test_a_middleware_may_replace_a_stream(app: App, log: Log, replacement: str) -> None:
    async def replaces(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        log.append("replaced")
        if replacement == "complete":
            return Response("instead")
        if replacement == "stream":
            return StreamingResponse(["in", "stead"])
        reply.body = b"instead"
        return reply

    app.add_middleware(replaces)
    reply = await request(app, target="/stream")
    assert (reply.body, reply.complete) == (b"instead", True)
    assert log == ["open", "replaced", "left"]


async def test_a_middleware_that_sets_no_possible_body_is_an_error(app: App) -> None:
    async def breaks(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        reply.body = {"a": 1}
        return reply

    app.add_middleware(breaks)
    app.get("/plain")(lambda: "a")
    assert (await request(app, target="/plain")).status == 500


async def test_a_middleware_may_set_text_as_the_body(app: App) -> None:
    async def sets(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        reply.body = "caf\u00e9"
        return reply

    app.add_middleware(sets)
    app.get("/plain")(lambda: "a")
    reply = await request(app, target="/plain")
    assert (reply.body, reply.headers["content-length"]) == ("caf\u00e9".encode(), "5")


async def test_a_stream_yields_nothing_but_text_and_bytes(app: App) -> None:
    app.get("/numbers")(lambda: StreamingResponse([1, 2]))
    reply = await request(app, target="/numbers")
    assert isinstance(reply.error, StreamAborted)
    assert not reply.complete


@pytest.mark.feature("F004-20")
async def test_a_stream_of_text_is_bytes_to_whoever_handles_a_request_in_process() -> None:
    app = App(plugins=[], discover=False)

    @app.get("/generator")
    async def generator() -> Any:
        yield "grün"
        yield b"!"

    @app.get("/returned")
    async def returned() -> Any:
        return generator()

    async with app.started():
        for path in ("/generator", "/returned"):
            reply = await app.handle(Request("GET", path))
            body = reply.body
            pieces = [body] if isinstance(body, bytes) else [piece async for piece in body]  # type: ignore[union-attr]
            assert b"".join(pieces) == "grün!".encode()
