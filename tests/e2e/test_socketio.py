"""A Socket.IO server around an application, and mounted in one, behind a real server and with a stock client."""

from __future__ import annotations

import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
import socketio
import uvicorn

from microkit import App
from microkit.host import Host
from microkit_serve import UvicornServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.feature("F004-49"),
    # The polling client never releases its last response, which aiohttp mentions when it is collected.
    pytest.mark.filterwarnings("ignore:.*Connection.__del__:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", params=[pytest.param(("asyncio", {}), id="asyncio")])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """asyncio alone: python-socketio and uvicorn are written for it, and so is the client."""
    return request.param


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What the client leaves behind is collected here, and not in the middle of somebody else's test."""
    yield
    gc.collect()


@pytest.fixture
def sio() -> socketio.AsyncServer:
    # A polling client that leaves waits until its last request is answered, which the server does after both times.
    server = socketio.AsyncServer(async_mode="asgi", ping_interval=0.5, ping_timeout=4.0)

    @server.event
    async def text(sid: str, data: str) -> str:
        await server.emit("pushed", data.upper(), to=sid)
        return f"heard {data}"

    @server.event
    async def binary(sid: str, data: bytes) -> dict[str, Any]:
        await server.emit("pushed", data[::-1], to=sid)
        return {"size": len(data), "same": data}

    return server


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def app(log: list[str]) -> App:
    app = App(discover=False)
    app.on_startup(lambda: log.append("up"))
    app.on_shutdown(lambda: log.append("down"))

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    return app


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """Any ASGI application behind uvicorn, which drives its lifespan; gives the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", lifespan="on", ws="websockets-sansio")
    opened = anyio.Event()

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            opened.set()

    server = Server(config)
    with listening:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listening])
            with anyio.fail_after(60):
                await opened.wait()
            try:
                yield listening.getsockname()[1]
            finally:
                server.should_exit = True


@contextlib.asynccontextmanager
async def hosted(app: App) -> AsyncIterator[int]:
    """An application served by the host with every ingress that it needs; gives the port."""
    found: list[socket.socket] = []

    class Server(UvicornServer):
        async def start(self, app: App, process: Any) -> None:
            await super().start(app, process)
            found.extend(each for sockets in process.sockets.values() for each in sockets)

    host = Host(app, [Server(port=0)])
    async with anyio.create_task_group() as group:
        group.start_soon(host.serve)
        with anyio.fail_after(60):
            await host.opened.wait()
        try:
            yield found[0].getsockname()[1]
        finally:
            host.stop()


async def get(port: int, path: str) -> bytes:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        return b"".join([piece async for piece in stream])


async def converse(port: int, path: str, transport: str) -> None:
    """Text and bytes in both directions, as events and as acknowledgements."""
    async with socketio.AsyncSimpleClient() as client:
        await client.connect(f"http://127.0.0.1:{port}", transports=[transport], socketio_path=path, wait_timeout=60)
        assert client.transport == transport
        assert await client.call("text", "grüße", timeout=60) == "heard grüße"
        assert await client.receive(timeout=60) == ["pushed", "GRÜSSE"]
        data = bytes(range(256)) * 300
        assert await client.call("binary", data, timeout=60) == {"size": len(data), "same": data}
        assert await client.receive(timeout=60) == ["pushed", data[::-1]]


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_socketio_wraps_the_app(sio: Any, app: App, log: list[str], transport: str) -> None:
    async with served(socketio.ASGIApp(sio, app)) as port:
        await converse(port, "socket.io", transport)
        assert (await get(port, "/hello")).endswith(b"\r\n\r\nhello")
        assert log == ["up"]
    assert log == ["up", "down"]


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_socketio_is_mounted_in_the_app(sio: Any, app: App, log: list[str], transport: str) -> None:
    app.mount("/socket.io-app", socketio.ASGIApp(sio, socketio_path="/socket.io-app/socket.io"))
    async with hosted(app) as port:
        await converse(port, "socket.io-app/socket.io", transport)
        assert (await get(port, "/hello")).endswith(b"\r\n\r\nhello")
        assert log == ["up"]
    assert log == ["up", "down"]


async def test_a_mounted_client_upgrades_from_polling_to_a_websocket(sio: Any, app: App) -> None:
    app.mount("/socket.io-app", socketio.ASGIApp(sio, socketio_path="/socket.io-app/socket.io"))
    async with hosted(app) as port, socketio.AsyncSimpleClient() as client:
        await client.connect(f"http://127.0.0.1:{port}", socketio_path="socket.io-app/socket.io", wait_timeout=60)
        assert client.transport == "websocket"
        assert await client.call("text", "upgraded", timeout=60) == "heard upgraded"
