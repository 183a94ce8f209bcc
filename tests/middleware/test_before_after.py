"""Middleware in two halves, and the lists that take it."""

from __future__ import annotations

from typing import Any

import pytest

from microkit import App, HTMLResponse, HttpMiddleware, Kind, Request, WebSocket, WebSocketMiddleware
from microkit.errors import ConfigurationError
from tests.asgi_driver import Socket, request, socket

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G6")]


@pytest.fixture
def app() -> App:
    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})

    @app.get("/")
    async def handler() -> HTMLResponse:
        return HTMLResponse("page", headers={"x-a": "handler"})

    @app.get("/fails")
    async def fails() -> None:
        raise ValueError("secret")

    @app.websocket("/ws")
    async def ws(ws: WebSocket) -> None:
        await ws.accept()
        if "fail" in ws.query:
            raise ValueError("secret")
        await ws.send_text("hello")

    return app


class Before(HttpMiddleware):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def before_request(self, request: Request) -> Any:
        return self.answer


class After(HttpMiddleware):
    def __init__(self, change: Any = None) -> None:
        self.change = change
        self.seen: list[tuple[int, Any, list[tuple[str, str]]]] = []

    async def after_request(self, request: Request, status_code: int, response_body: Any, extra_headers: Any) -> Any:
        self.seen.append((status_code, response_body, list(extra_headers)))
        extra_headers.append(("x-lost", "the list is a copy"))
        return self.change


@pytest.mark.feature("F004-34")
@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (None, 200, b"page"),
        ({}, 200, b""),
        ({"status_code": 403}, 403, b""),
        ({"body": {"a": 1}}, 200, b'{"a":1}'),
        ({"status_code": 429, "body": "slow", "headers": {"Retry-After": "1"}}, 429, b"slow"),
        ({"body": "a", "headers": [("set-cookie", "a=1"), ("set-cookie", "b=2")]}, 200, b"a"),
    ],
)
async def test_a_dict_before_the_handler_answers_at_once(app: App, answer: Any, status: int, body: bytes) -> None:
    after = After()
    app.add_middleware(after)
    app.add_middleware(Before(answer))
    reply = await request(app)
    assert (reply.status, reply.body, after.seen[0][0]) == (status, body, status)
    if status == 429:
        assert reply.headers["retry-after"] == "1"
    if body == b"a":
        assert reply.all_headers("set-cookie") == ["a=1", "b=2"]


@pytest.mark.feature("F004-34")
@pytest.mark.parametrize(
    "answer", [{"status": 403}, {"status_code": 99}, {"status_code": "200"}, {"headers": {"x": "a\r\nb: c"}}]
)
async def test_a_dict_that_makes_no_sense_is_a_500(app: App, answer: Any) -> None:
    app.add_middleware(Before(answer))
    assert (await request(app)).status == 500


@pytest.mark.feature("F004-35")
@pytest.mark.parametrize(
    ("change", "status", "body", "content_type", "x_a"),
    [
        (None, 200, b"page", "text/html; charset=utf-8", "handler"),
        ({"status_code": 201}, 201, b"page", "text/html; charset=utf-8", "handler"),
        ({"body": "other"}, 200, b"other", "text/html; charset=utf-8", "handler"),
        ({"body": {"a": 1}}, 200, b'{"a":1}', "application/json", "handler"),
        ({"headers": {"X-A": "after"}}, 200, b"page", "text/html; charset=utf-8", "after"),
        ({"body": "x", "headers": {"content-type": "text/x"}}, 200, b"x", "text/x", "handler"),
        ({"status_code": 500, "body": None}, 500, b"", "text/html; charset=utf-8", "handler"),
    ],
)
async def test_a_dict_after_the_handler_changes_the_reply(
    app: App, change: Any, status: int, body: bytes, content_type: str, x_a: str
) -> None:
    after = After(change)
    app.add_middleware(after)
    reply = await request(app)
    assert (reply.status, reply.body) == (status, body)
    assert (reply.headers["content-type"], reply.headers["x-a"]) == (content_type, x_a)
    assert reply.headers["content-length"] == str(len(body))
    assert "x-lost" not in reply.headers
    assert after.seen[0][:2] == (200, b"page")
    assert ("x-a", "handler") in after.seen[0][2]


@pytest.mark.feature("F004-35")
@pytest.mark.feature("F004-46")
@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/nowhere", 404), ("POST", "/", 405), ("GET", "/fails", 500), ("GET", "/%z", 400)],
)
async def test_the_second_half_runs_for_errors_too_in_reverse_order(
    app: App, method: str, target: str, status: int
) -> None:
    order: list[str] = []

    class Named(HttpMiddleware):
        def __init__(self, name: str) -> None:
            self.name = name

        def after_request(self, request: Request, status_code: int, response_body: Any, extra_headers: Any) -> Any:
            order.append(f"{self.name} {status_code}")
            return {"headers": {"x-frame-options": "DENY"}}

    app.middlewares.append(Named("first"))
    app.middlewares.append(Named("second"))
    reply = await request(app, method, target)
    assert order == [f"second {status}", f"first {status}"]
    assert (reply.status, reply.headers["x-frame-options"]) == (status, "DENY")


@pytest.mark.feature("F004-46")
async def test_errors_are_customised_in_the_second_half(app: App) -> None:
    class Pages(HttpMiddleware):
        def after_request(self, request: Request, status_code: int, response_body: Any, extra_headers: Any) -> Any:
            if status_code >= 400:
                return {"body": f"<h1>{status_code}</h1>", "headers": {"content-type": "text/html"}}
            return None

    app.middlewares.append(Pages())
    reply = await request(app, target="/nowhere")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (404, b"<h1>404</h1>", "text/html")


@pytest.mark.feature("F004-36")
async def test_the_lists_are_closed_once_the_application_runs(app: App) -> None:
    first, second = After(), After()
    app.middlewares.append(first)
    app.middlewares += [second]
    assert list(app.middlewares) == [first, second]
    await request(app)
    for change in (
        lambda: app.middlewares.append(After()),
        lambda: app.middlewares.extend([After()]),
        lambda: app.ws_middlewares.append(WebSocketMiddleware()),
        lambda: app.add_middleware(After()),
    ):
        with pytest.raises(ConfigurationError, match="cannot be added any more: the application is running"):
            change()
    assert len(app.middlewares) == 2
    with pytest.raises(AttributeError):
        app.middlewares.clear()  # type: ignore[attr-defined]


@pytest.mark.feature("FX-03")
async def test_a_guard_in_two_halves_says_what_it_leaves_open(app: App) -> None:
    app.add_middleware(Before(None), guard=True)
    with pytest.raises(ConfigurationError, match="does not protect"):
        app.build()
    narrowed = App(plugins=[], discover=False)
    narrowed.add_middleware(Before(None), guard=True, kinds=Kind.HTTP)
    narrowed.websocket("/")(_accepts)
    narrowed.build()


async def _accepts(ws: WebSocket) -> None:
    await ws.accept()


# -- sockets -----------------------------------------------------------------------------------------------------------


class Gate(WebSocketMiddleware):
    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.log: list[str] = []

    async def before_websocket(self, request: WebSocket) -> Any:
        self.log.append("before")
        return self.answer

    async def after_websocket(self, request: WebSocket) -> None:
        self.log.append(f"after {request.close_code}")


@pytest.mark.feature("F004-37")
async def test_the_halves_surround_a_socket(app: App) -> None:
    gate = Gate()
    app.ws_middlewares.append(gate)
    seen = await socket(app, "/ws")
    assert (seen.messages, seen.close) == (["hello"], (1000, ""))
    assert gate.log[0] == "before"
    assert len(gate.log) == 2


@pytest.mark.feature("F004-37")
@pytest.mark.parametrize(("answer", "close"), [({}, (1008, "")), ({"code": 4001, "reason": "no"}, (4001, "no"))])
async def test_a_dict_rejects_a_socket(app: App, answer: Any, close: Any) -> None:
    gate = Gate(answer)
    app.ws_middlewares.append(gate)
    seen = await socket(app, "/ws")
    assert (seen.accepted, seen.close) == (False, close)
    assert gate.log == ["before", f"after {close[0]}"]


@pytest.mark.feature("F004-37")
async def test_the_second_half_runs_after_an_exception_and_for_unknown_paths(app: App) -> None:
    gate = Gate()
    app.ws_middlewares.append(gate)
    assert (await socket(app, "/ws?fail=1")).close[0] == 1011
    await socket(app, "/nowhere")
    assert len(gate.log) == 4


@pytest.mark.feature("F004-37")
async def test_the_second_half_runs_after_the_client_left(app: App) -> None:
    import anyio

    gate = Gate()
    app.ws_middlewares.append(gate)

    @app.websocket("/busy")
    async def busy(ws: WebSocket) -> None:
        await ws.accept()
        await anyio.sleep_forever()

    seen = Socket(app, "/busy")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        await seen.until(lambda: seen.accepted)
        seen.leave(4003)
    assert gate.log == ["before", "after 4003"]
