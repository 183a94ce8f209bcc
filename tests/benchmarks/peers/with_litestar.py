"""Litestar, with its own JSON (msgspec) and its pydantic plugin."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, WebSocket, get, post, websocket
from litestar.di import Provide
from litestar.exceptions import WebSocketDisconnect
from litestar.response import Stream

from tests.benchmarks.cases import CHUNK, CHUNKS, ROUTES, deep_routes
from tests.benchmarks.models import Order, current_user, open_session

DISTRIBUTION = "litestar"
NOTES: dict[str, str] = {}


def _app(*handlers: Any, **options: Any) -> Any:
    return Litestar(route_handlers=handlers, openapi_config=None, **options)


def layer(app: Any) -> Any:
    """Pure ASGI."""

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return middleware


@get("/hello")
async def hello() -> dict[str, str]:
    return {"hello": "world"}


@get("/users/{id:int}")
async def user(id: int) -> dict[str, int]:
    return {"id": id}


@get("/search")
async def search(text: str, limit: int) -> dict[str, Any]:
    return {"text": text, "limit": limit}


@get("/layered", dependencies={"user": Provide(current_user), "session": Provide(open_session)})
async def layered(user: str, session: dict[str, int]) -> dict[str, Any]:
    return {"user": user, "count": session["count"]}


@post("/json", status_code=200)
async def json(data: dict[str, Any]) -> dict[str, Any]:
    return data


@post("/model", status_code=200)
async def model(data: Order) -> Order:
    return data


async def _deep(id: str) -> dict[str, str]:
    return {"id": id}


def routes(count: int = ROUTES) -> Any:
    return _app(*(get(path)(_deep) for path in deep_routes(count, "{id:str}")))


@websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


@get("/stream")
async def stream() -> Stream:
    async def chunks() -> Any:
        for _ in range(CHUNKS):
            yield CHUNK

    return Stream(chunks(), media_type="text/plain")


CASES = {
    "hello": lambda: _app(hello),
    "parameter": lambda: _app(user),
    "query": lambda: _app(search),
    "layers": lambda: _app(layered, middleware=[layer] * 3),
    "json": lambda: _app(json),
    "model": lambda: _app(model),
    "one_route": lambda: routes(1),
    "routes": routes,
    "echo": lambda: _app(echo),
    "stream": lambda: _app(stream),
}
