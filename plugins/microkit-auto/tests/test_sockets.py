"""WebSocket handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import ConfigurationError, Kind
from microkit_auto import App, ConnectionClosed, WebSocket, WebSocketMiddleware, WebSocketRequest
from microkit_testkit import HandshakeRejected, TestClient

pytestmark = pytest.mark.anyio
ClientFor = Callable[..., Awaitable[TestClient]]


class Site(App):
    async def index(self) -> str:
        return "page"

    async def chat(self) -> str:
        return "page"

    async def ws_index(self, ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text("index")

    async def ws_chat(self, ws: WebSocket, room: Any = "lobby", *more: Any, nick: Any = None, **other: Any) -> None:
        await ws.accept()
        await ws.send_json([room, list(more), nick, other])

    async def ws_need(self, any_name: Any, room: Any, number: int = 1) -> None:
        await any_name.accept()
        await any_name.send_json([room, number])

    async def ws_view(self, ws: WebSocket, *path: Any) -> None:
        await ws.accept()
        while True:
            message = await ws.receive_text()
            request = self.request
            await ws.send_json(
                [
                    message,
                    type(request) is WebSocketRequest,
                    request.query("n"),
                    request.path_params,
                    [request.method, request.body_params, request.get_json, dict(request.files)],
                    request.headers["x-test"],
                ]
            )

    async def ws_broken(self, ws: WebSocket) -> None:
        await ws.accept()
        raise OSError("secret")

    async def _ws_private(self, ws: WebSocket) -> None:
        await ws.accept()


@pytest.mark.feature("F004-39")
@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("/", "index"),
        ("/index", "index"),
        ("/chat", ["lobby", [], None, {}]),
        ("/chat/a/b/?nick=n&x=1", ["a", ["b", ""], "n", {"x": "1"}]),
        ("/chat?room=q", ["q", [], None, {}]),
        ("/need/r", ["r", 1]),
        ("/need?room=r&number=2", ["r", 2]),
    ],
)
async def test_paths_reach_sockets_and_fill_their_parameters(client_for: ClientFor, path: str, first: Any) -> None:
    client = await client_for(Site(discover=False))
    async with client.websocket(path) as ws:
        assert await (ws.receive_text() if isinstance(first, str) else ws.receive_json()) == first


@pytest.mark.feature("F004-40")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/need", 400),
        ("/need/r/x", 400),
        ("/need/r/1/2", 404),
        ("/unknown", 404),
        ("/ws_chat", 404),
        ("/_ws_private", 404),
        ("/_private", 404),
        ("/private", 404),
        ("/index/x", 404),
        ("/%zz", 400),
    ],
)
async def test_what_does_not_fit_rejects_the_handshake(client_for: ClientFor, path: str, status: int) -> None:
    client = await client_for(Site(discover=False))
    with pytest.raises(HandshakeRejected) as caught:
        async with client.websocket(path):
            pass
    assert caught.value.response.status_code == status


@pytest.mark.feature("F004-39")
async def test_sockets_and_pages_of_one_name_are_two(client_for: ClientFor) -> None:
    client = await client_for(Site(discover=False))
    assert (await client.get("/chat")).text == "page"
    assert (await client.get("/need")).status_code == 404


@pytest.mark.feature("F004-40")
async def test_an_unknown_name_is_an_argument_of_ws_index(client_for: ClientFor) -> None:
    class Rooms(App):
        async def ws_index(self, ws: Any, room: Any) -> None:
            await ws.accept()
            await ws.send_text(room)

    client = await client_for(Rooms(discover=False))
    async with client.websocket("/blue") as ws:
        assert await ws.receive_text() == "blue"


@pytest.mark.feature("F004-40")
async def test_session_values_bind_where_switched_on(client_for: ClientFor) -> None:
    class Rooms(App):
        async def ws_room(self, ws: Any, user: Any = "nobody") -> None:
            await ws.accept()
            await ws.send_text(user)

    for on, expected in ((False, "nobody"), (True, "Al")):
        app = Rooms(discover=False, settings={"auto": {"session_values": on}})

        async def sessions(connection: Any, call_next: Any) -> Any:
            connection.session = {"user": "Al"}
            return await call_next(connection)

        app.add_middleware(sessions, kinds=Kind.HTTP | Kind.SOCKET)
        client = await client_for(app)
        async with client.websocket("/room") as ws:
            assert await ws.receive_text() == expected
        if on:
            with pytest.raises(HandshakeRejected):
                async with client.websocket("/room?user=admin"):
                    pass


@pytest.mark.feature("F004-41")
async def test_the_request_is_current_while_the_socket_lives(client_for: ClientFor) -> None:
    client = await client_for(Site(discover=False), headers={"x-test": "yes"})
    nothing = ["GET", {}, None, {}]
    async with client.websocket("/view/a?n=1") as one, client.websocket("/view/b?n=2") as two:
        for number, ws, path in ((1, one, "a"), (2, two, "b"), (1, one, "a")):
            await ws.send_text("hi")
            assert await ws.receive_json() == ["hi", True, str(number), [path], nothing, "yes"]


@pytest.mark.feature("F004-37")
async def test_websocket_middleware(client_for: ClientFor) -> None:
    log: list[str] = []

    class Gate(WebSocketMiddleware):
        async def before_websocket(self, request: WebSocket) -> Any:
            log.append(f"before {app.request.path} {type(app.request).__name__}")
            return {"code": 4001, "reason": "closed"} if "shut" in request.query else None

        async def after_websocket(self, request: WebSocket) -> None:
            log.append(f"after {request.path}")

    app = Site(discover=False)
    app.ws_middlewares.append(Gate())
    client = await client_for(app, raise_server_exceptions=False)
    async with client.websocket("/") as ws:
        assert await ws.receive_text() == "index"
        assert await ws.wait_closed() == 1000
    with pytest.raises(HandshakeRejected):
        async with client.websocket("/?shut"):
            pass
    async with client.websocket("/broken") as ws:
        assert (await ws.wait_closed(), ws.close_reason) == (1011, "internal error")
    assert log == [
        *("before / WebSocketRequest", "after /"),
        *("before / WebSocketRequest", "after /"),
        *("before /broken WebSocketRequest", "after /broken"),
    ]


@pytest.mark.feature("F004-44")
async def test_a_closed_connection_ends_the_handler(client_for: ClientFor) -> None:
    ended: list[str] = []

    class Echo(App):
        async def ws_echo(self, ws: WebSocket) -> None:
            await ws.accept()
            try:
                while True:
                    await ws.send_text(f"Echo: {await ws.receive_text()}")
            except ConnectionClosed:
                ended.append(self.request.path)
                raise

    client = await client_for(Echo(discover=False))
    async with client.websocket("/echo") as ws:
        await ws.send_text("hi")
        assert await ws.receive_text() == "Echo: hi"
    with anyio.fail_after(60):
        while not ended:
            await anyio.lowlevel.checkpoint()
    assert ended == ["/echo"]


def test_a_socket_handler_without_a_socket_stops_the_start() -> None:
    class Broken(App):
        async def ws_chat(self, *args: Any) -> None: ...

    with pytest.raises(ConfigurationError, match=r"ws_chat.*first parameter"):
        Broken(discover=False).build()
