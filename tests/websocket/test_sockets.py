"""WebSockets as a client sees them, from handshake to close."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from microkit import App, BackgroundTasks, Depends, Forbidden, Response, WebSocket
from microkit.errors import ConnectionClosed
from tests.asgi_driver import Socket, socket

pytestmark = pytest.mark.anyio
DENIAL = {"extensions": {"websocket.http.response": {}}}


def application(**settings: Any) -> App:
    return App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL", **settings}})


@pytest.fixture
def app() -> App:
    app = application()

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            if isinstance(message, str):
                await ws.send_text(message)
            else:
                await ws.send_bytes(message)

    return app


async def talk(app: App, target: str, *messages: Any, headers: dict[str, str] | None = None, **changes: Any) -> Socket:
    """A client that says all `messages` at once and goes away when the app has said nothing more to come."""
    seen = Socket(app, target, headers, **changes)
    for message in messages:
        if isinstance(message, dict):
            seen.give(message)
        else:
            seen.say(message)
    return await seen.run()


# -- handshake ---------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F004-42")
async def test_accept_takes_subprotocol_headers_and_session(app: App) -> None:
    states: list[Any] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        states.append((ws.accepted, ws.session_id, ws.subprotocols))
        await ws.accept("chat.v2", session_id="abc", headers={"X-A": "b"})
        states.append((ws.accepted, ws.session_id))
        with pytest.raises(RuntimeError, match="already"):
            await ws.accept()

    seen = await socket(app, "/ws", subprotocols=["chat.v1", "chat.v2"], scheme="wss")
    assert seen.sent[0] == {
        "type": "websocket.accept",
        "subprotocol": "chat.v2",
        "headers": [
            (b"x-a", b"b"),
            (b"set-cookie", b"session_id=abc; Path=/; SameSite=Lax; HttpOnly; Secure"),
        ],
    }
    assert states == [(False, None, ["chat.v1", "chat.v2"]), (True, "abc")]


@pytest.mark.feature("F004-42")
async def test_accept_refuses_what_the_client_did_not_offer_and_headers_that_split(app: App) -> None:
    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(ValueError, match="does not offer"):
            await ws.accept("other")
        with pytest.raises(ValueError, match="header"):
            await ws.accept(headers={"x": "a\r\nb: c"})
        with pytest.raises(ValueError, match="cookie"):
            await ws.accept(session_id="a;b")
        await ws.accept()

    assert (await socket(app, "/ws")).close == (1000, "")


@pytest.mark.feature("F004-43")
async def test_nothing_is_sent_or_received_before_accept(app: App) -> None:
    failed: list[str] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        for attempt in (ws.send_text("a"), ws.send_bytes(b"a"), ws.send_json({}), ws.receive(), ws.receive_text()):
            try:
                await attempt
            except RuntimeError as exc:
                failed.append(str(exc))

    seen = await socket(app, "/ws")
    assert len(failed) == 5
    assert not seen.messages


@pytest.mark.feature("F004-44")
@pytest.mark.parametrize("denial", [False, True])
@pytest.mark.parametrize(
    ("target", "status"), [("/nowhere", 404), ("/forbidden", 403), ("/fails", 500), ("/returns", 403), ("/reply", 401)]
)
async def test_a_handshake_is_denied_with_a_reply_where_the_server_can_send_one(
    app: App, denial: bool, target: str, status: int
) -> None:
    @app.websocket("/forbidden")
    async def forbidden(ws: WebSocket) -> None:
        raise Forbidden("members only")

    @app.websocket("/fails")
    async def fails(ws: WebSocket) -> None:
        raise ValueError("secret")

    @app.websocket("/returns")
    async def returns(ws: WebSocket) -> None: ...

    @app.websocket("/reply")
    async def reply(ws: WebSocket) -> Response:
        return Response("who?", 401, {"www-authenticate": "Bearer"})

    seen = await socket(app, target, **(DENIAL if denial else {}))
    assert (seen.accepted, seen.error) == (False, None)
    assert "secret" not in str(seen.sent)
    if not denial:
        assert [event["type"] for event in seen.sent] == ["websocket.close"]
        return
    start, end = seen.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    headers = dict(start["headers"])
    assert headers[b"content-length"] == str(len(end["body"])).encode()
    assert not end["more_body"]
    if target == "/reply":
        assert (end["body"], headers[b"www-authenticate"]) == (b"who?", b"Bearer")


async def test_a_middleware_may_answer_before_accept(app: App) -> None:
    async def refuses(request: Any, call_next: Any) -> Any:
        return Response("no", 401)

    app.add_middleware(refuses)
    seen = await socket(app, "/echo", **DENIAL)
    assert (seen.sent[0]["status"], seen.sent[1]["body"]) == (401, b"no")


@pytest.mark.feature("F004-45")
@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({}, True),
        ({"cookie": "a=b"}, True),
        ({"origin": "http://own.example", "cookie": "a=b"}, True),
        ({"origin": "HTTP://OWN.example", "cookie": "a=b"}, True),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "https://evil.example", "cookie": "a=b"}, False),
        ({"origin": "null", "cookie": "a=b"}, False),
        ({"origin": "https://own.example", "cookie": "a=b"}, False),
        ({"origin": "http://own.example.evil.example", "cookie": "a=b"}, False),
    ],
)
async def test_a_foreign_page_with_cookies_is_refused(app: App, headers: dict[str, str], accepted: bool) -> None:
    seen = await talk(
        app, "/echo", {"type": "websocket.disconnect"}, headers={"host": "own.example", **headers}, **DENIAL
    )
    assert seen.accepted is accepted
    if not accepted:
        assert seen.sent[0]["status"] == 403


@pytest.mark.feature("F004-45")
@pytest.mark.parametrize(
    ("allowed", "origin", "accepted"),
    [
        (("https://own.example",), "https://own.example", True),
        (("https://own.example",), "https://evil.example", False),
        (("*",), "https://evil.example", True),
        ((), "https://evil.example", False),
    ],
)
async def test_allowed_origins_are_a_literal_list(allowed: tuple[str, ...], origin: str, accepted: bool) -> None:
    app = application(allowed_origins=allowed)

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()

    @app.websocket("/public", check_origin=False)
    async def public(ws: WebSocket) -> None:
        await ws.accept()

    assert (await socket(app, "/", {"origin": origin, "host": "h"})).accepted is accepted
    assert (await socket(app, "/public", {"origin": origin, "host": "h"})).accepted


# -- messages ----------------------------------------------------------------------------------------------------------


async def echoed(app: App, *events: dict[str, Any]) -> list[Any]:
    """What a client gets back that leaves when everything was answered."""
    seen = Socket(app, "/echo")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        for event in events:
            seen.give({"type": "websocket.receive", **event})
        await seen.until(lambda: len(seen.messages) == len(events))
        seen.leave()
    assert seen.error is None
    return seen.messages


@pytest.mark.feature("F004-43")
async def test_messages_go_both_ways_until_the_client_leaves(app: App) -> None:
    assert await echoed(app, {"text": "text"}, {"bytes": b"\x00"}, {"text": ""}) == ["text", b"\x00", ""]


@pytest.mark.feature("F004-43")
async def test_receiving_is_typed(app: App) -> None:
    seen_by_handler: list[Any] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        for receive in (ws.receive_text, ws.receive_bytes, ws.receive_text, ws.receive_bytes, ws.receive_json):
            try:
                seen_by_handler.append(await receive())
            except ValueError as exc:
                seen_by_handler.append(type(exc))
        with pytest.raises(ValueError):
            await ws.receive_json()
        with pytest.raises(ConnectionClosed) as closed:
            await ws.receive_text()
        seen_by_handler.append((closed.value.code, closed.value.reason))

    end = {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}
    await talk(app, "/ws", "a", b"b", b"c", "d", '{"e":1}', "{", end)
    assert seen_by_handler == ["a", b"b", ValueError, ValueError, {"e": 1}, (4000, "bye")]


async def test_an_event_with_both_keys_is_read_by_the_one_that_is_not_none(app: App) -> None:
    events = {"text": None, "bytes": b"raw"}, {"text": "text", "bytes": None}
    assert await echoed(app, *events) == [b"raw", "text"]


@pytest.mark.feature("F004-45")
@pytest.mark.feature("FX-24")
@pytest.mark.guarantee("G10")
@pytest.mark.parametrize("message", ["x" * 11, b"x" * 11, "\u4e16" * 4], ids=["text", "bytes", "wide"])
async def test_a_message_that_is_too_big_closes_with_1009(message: Any) -> None:
    app = application(max_websocket_message=10)
    got: list[Any] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                got.append(await ws.receive())
        except ConnectionClosed as exc:
            got.append(exc.code)

    seen = await talk(app, "/", "x" * 10, message)
    assert (seen.close[0], got) == (1009, ["x" * 10, 1009])


# -- closing -----------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F004-44")
@pytest.mark.guarantee("G9")
@pytest.mark.parametrize(
    ("how", "close"),
    [
        ("returns", (1000, "")),
        ("raises", (1011, "internal error")),
        ("public", (1008, "members only")),
        ("long", (1008, "\u4e16" * 41)),
        ("closes", (4001, "done")),
    ],
)
async def test_how_a_handler_ends_is_how_the_socket_is_closed(app: App, how: str, close: tuple[int, str]) -> None:
    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        if how == "raises":
            raise ValueError("secret")
        if how == "public":
            raise Forbidden("members only")
        if how == "long":
            raise Forbidden("\u4e16" * 100)
        if how == "closes":
            await ws.close(4001, "done")
            await ws.close(4002)
            with pytest.raises(ConnectionClosed):
                await ws.send_text("late")

    seen = await socket(app, "/ws")
    assert (seen.close, seen.error) == (close, None)


@pytest.mark.feature("F004-44")
@pytest.mark.parametrize(
    ("code", "reason"), [*((code, "") for code in (0, 999, 1005, 1006, 1015, 2999, 5000)), (1000, "\u4e16" * 42)]
)
async def test_a_close_that_cannot_be_sent_is_an_error(app: App, code: int, reason: str) -> None:
    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        with pytest.raises(ValueError, match="close"):
            await ws.close(code, reason)

    assert (await socket(app, "/ws")).close == (1000, "")


@pytest.mark.feature("F004-44")
async def test_the_end_of_a_reading_handler_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    app = App(plugins=[], discover=False)
    log: list[str] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket, tasks: BackgroundTasks) -> None:
        tasks.add(log.append, "task")
        await ws.accept()
        while True:
            await ws.receive_text()

    seen = await talk(app, "/ws", "a", {"type": "websocket.disconnect", "code": 1001})
    assert (seen.error, log) == (None, ["task"])
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@pytest.mark.guarantee("G5")
async def test_a_disconnect_cancels_a_busy_handler_and_leaves_its_dependencies(app: App) -> None:
    log: list[str] = []

    async def connection() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            log.append("left")

    @app.websocket("/busy")
    async def busy(ws: WebSocket, value: int = Depends(connection)) -> None:
        await ws.accept()
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    seen = Socket(app, "/busy")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        await seen.until(lambda: seen.accepted)
        seen.leave()
    assert (log, seen.error) == (["cancelled", "left"], None)


async def test_messages_that_came_before_the_disconnect_can_still_be_read(app: App) -> None:
    got: list[Any] = []
    go_on = anyio.Event()

    @app.websocket("/slow")
    async def slow(ws: WebSocket) -> None:
        await ws.accept()
        await go_on.wait()
        got.extend([message async for message in ws])

    seen = Socket(app, "/slow")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        await seen.until(lambda: seen.accepted)
        for i in range(3):
            seen.say(str(i))
        seen.leave()
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert got == ["0", "1", "2"]


async def test_a_handler_that_never_reads_what_came_is_cancelled_after_a_grace() -> None:
    app = application(teardown_timeout=0.01)
    log: list[str] = []

    @app.websocket("/deaf")
    async def deaf(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    await talk(app, "/deaf", "never read", {"type": "websocket.disconnect"})
    assert log == ["cancelled"]


@pytest.mark.guarantee("G5")
@pytest.mark.parametrize("fails", [False, True])
async def test_dependencies_are_left_before_the_close(app: App, fails: bool) -> None:
    log: list[str] = []

    async def commits() -> AsyncIterator[int]:
        yield 1
        log.append("left")
        if fails:
            raise RuntimeError("secret")

    @app.websocket("/ws")
    async def handler(ws: WebSocket, value: int = Depends(commits)) -> None:
        await ws.accept()

    seen = Socket(app, "/ws")

    async def note(event: dict[str, Any]) -> None:
        log.append(event["type"])

    seen.on_send = note
    await seen.run()
    assert log == ["websocket.accept", "left", "websocket.close"]
    assert seen.close == ((1011, "internal error") if fails else (1000, ""))


async def test_a_server_that_raises_when_the_client_is_gone_closes_the_socket(app: App) -> None:
    caught: list[Any] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.send_text("a")
        except ConnectionClosed as exc:
            caught.append(exc.code)
            raise

    seen = Socket(app, "/ws")

    async def gone(event: dict[str, Any]) -> None:
        if event["type"] != "websocket.accept":
            raise ConnectionResetError

    seen.on_send = gone
    await seen.run()
    assert (seen.error, caught) == (None, [1006])


async def test_a_client_that_leaves_in_the_handshake_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    app = App(plugins=[], discover=False)
    reached = anyio.Event()

    async def slow(request: Any, call_next: Any) -> Any:
        reached.set()
        await anyio.wait_all_tasks_blocked()
        return await call_next(request)

    app.add_middleware(slow)

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text("a")

    seen = await talk(app, "/ws", {"type": "websocket.disconnect", "code": 1006})
    assert (seen.error, seen.messages) == (None, [])
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_no_task_is_left_behind(app: App) -> None:
    before = len(anyio.get_running_tasks())
    await socket(app, "/nowhere")  # starts the application's own tasks
    running = len(anyio.get_running_tasks())
    for _ in range(5):
        await talk(app, "/echo", "a", {"type": "websocket.disconnect"})
        await socket(app, "/nowhere")
    assert len(anyio.get_running_tasks()) == running >= before


@pytest.mark.feature("F004-42")
async def test_a_websocket_made_by_hand_needs_no_application() -> None:
    events = [
        {"type": "websocket.receive", "text": "a"},
        {"type": "websocket.disconnect", "code": 1001},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return events.pop(0)

    async def send(event: Any) -> None:
        sent.append(event)

    ws = WebSocket(receive, send)
    await ws.accept()
    assert await ws.receive_text() == "a"
    for _ in range(2):
        with pytest.raises(ConnectionClosed):
            await ws.receive_text()
    assert (ws.close_code, sent[0]["type"]) == (1001, "websocket.accept")
