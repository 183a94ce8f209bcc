"""ASGI applications below a path: what passes to them, what comes back, and what happens when one side gives up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, Request, WebSocket
from microkit.errors import StreamAborted
from tests.asgi_driver import HANG, Exchange, Socket, http_scope, request, socket

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F004-48")]


class Child:
    """An ASGI application written by hand; what it does is in its path."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["child"] = "ready"
            self.log.append("up")
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            self.log.append("down")
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            event = await receive()
            while event["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": f"{scope['root_path']} {event['text']}"})
                event = await receive()
            self.log.append(event["code"])
            return
        path = scope["path"].removeprefix(scope["root_path"])
        if path == "/fails":
            raise ValueError("secret")
        headers = [(b"x-root", scope["root_path"].encode()), (b"x-state", str(scope["state"]).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if path == "/breaks":
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            raise ValueError("secret")
        if path == "/endless":
            try:
                while True:
                    await send({"type": "http.response.body", "body": b"x", "more_body": True})
            except OSError:
                self.log.append("gone")
                raise
            finally:
                self.log.append("over")
        event = await receive()
        await send({"type": "http.response.body", "body": b"got ", "more_body": True})
        await send({"type": "http.response.body", "body": event["body"]})
        await anyio.lowlevel.checkpoint()
        self.log.append("after the reply")


@pytest.fixture
def child() -> Child:
    return Child()


@pytest.fixture
async def app(child: Child, anyio_backend: Any) -> AsyncIterator[App]:
    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})
    app.mount("/child", child)
    yield app
    await app.runtime.stop()  # trio would collect the lifespan of the child before its own tasks end


async def test_a_request_passes_and_the_reply_comes_back_in_pieces(app: App, child: Child) -> None:
    reply = await request(app, "POST", "/child/x", data=b"body")
    assert (reply.status, reply.pieces, reply.complete) == (200, [b"got ", b"body"], True)
    assert reply.headers["x-root"] == "/child"
    assert "after the reply" in child.log


@pytest.mark.parametrize("target", ["/children", "/chil", "/"])
async def test_the_prefix_is_whole_segments(app: App, target: str) -> None:
    assert (await request(app, target=target)).status == 404


async def test_head_has_no_body(app: App, child: Child) -> None:
    reply = await request(app, "HEAD", "/child/x")
    assert (reply.status, reply.body, reply.complete, reply.error) == (200, b"", True, None)
    assert "after the reply" in child.log


async def test_a_middleware_may_read_the_body_before(app: App) -> None:
    async def reads(request: Request, call_next: Any) -> Any:
        await request.body()
        return await call_next(request)

    app.add_middleware(reads)
    assert (await request(app, "POST", "/child/x", data=b"body")).body == b"got body"


@pytest.mark.guarantee("G9")
async def test_a_child_that_fails_before_its_reply_is_a_500(app: App) -> None:
    reply = await request(app, target="/child/fails")
    assert (reply.status, reply.error, b"secret" in reply.body) == (500, None, False)


@pytest.mark.guarantee("G9")
async def test_a_child_that_fails_in_its_reply_is_cut_off(app: App) -> None:
    reply = await request(app, target="/child/breaks")
    assert isinstance(reply.error, StreamAborted)
    assert (reply.pieces, reply.complete) == ([b"a"], False)


async def test_a_client_that_leaves_ends_the_child(app: App, child: Child) -> None:
    exchange = Exchange(app, http_scope(target="/child/endless"), [HANG])
    async with anyio.create_task_group() as group:
        group.start_soon(exchange.run)
        await exchange.started.wait()
        exchange.leave()
    assert exchange.error is None
    assert child.log[-1] == "over"


async def test_sockets_pass(app: App, child: Child) -> None:
    seen = Socket(app, "/child/ws")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        seen.say("hello")
        await seen.until(lambda: bool(seen.messages))
        seen.leave(4001)
    assert (seen.messages, child.log[-1], seen.error) == (["/child hello"], 4001, None)
    assert not (await socket(app, "/children")).accepted


async def test_the_lifespan_passes_with_its_state(child: Child) -> None:
    async def lifespan() -> AsyncIterator[dict[str, Any]]:
        yield {"own": 1}

    app = App(plugins=[], discover=False, lifespan=lifespan)
    app.mount("/child", child)
    async with app.started():
        assert child.log == ["up"]
        reply = await request(app, "POST", "/child/x")
        assert reply.headers["x-state"] == "{'child': 'ready', 'own': 1}"
    assert child.log[-1] == "down"


async def test_applications_of_ours_nest(app: App, child: Child) -> None:
    middle, inner = App(plugins=[], discover=False), App(plugins=[], discover=False)

    @inner.get("/hello/{name}")
    async def hello(name: str, request: Request) -> dict[str, Any]:
        return {"name": name, "path": request.path, "root": request.scope["root_path"]}

    @inner.websocket("/ws")
    async def ws(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text(ws.path)

    middle.mount("/inner", inner)
    app.mount("/middle", middle)
    reply = await request(app, target="/middle/inner/hello/Al")
    assert reply.body == b'{"name":"Al","path":"/hello/Al","root":"/middle/inner"}'
    assert (await request(app, target="/middle/inner/nowhere")).status == 404
    assert (await request(app, target="/middle/nowhere")).status == 404
    seen = await socket(app, "/middle/inner/ws")
    assert (seen.messages, seen.close) == (["/ws"], (1000, ""))
