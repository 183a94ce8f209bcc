"""WebSockets as a client sees them, from handshake to close."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from microkit import App, Forbidden, Response, WebSocket
from microkit.errors import ConnectionClosed
from tests.asgi_driver import Socket, socket
from tests.websocket.support import DENIAL, application, talk

pytestmark = pytest.mark.anyio


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


@pytest.mark.guarantee("G10")
@pytest.mark.feature("FX-24")
async def test_a_handshake_with_too_many_headers_is_denied() -> None:
    app = application(max_headers=3)

    @app.websocket("/")
    async def never(ws: WebSocket) -> None:
        raise AssertionError("the handler must not run")

    headers = {f"x-{number}": "1" for number in range(4)}
    seen = await talk(app, "/", headers=headers, **DENIAL)
    assert seen.sent[0]["type"] == "websocket.http.response.start"
    assert seen.sent[0]["status"] == 431
