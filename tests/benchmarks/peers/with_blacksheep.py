"""BlackSheep, with orjson; its services cannot be async generators, so the handler calls its dependencies."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import orjson
from blacksheep import Application, Content, Request, Response, Router, StreamedContent, WebSocket
from blacksheep import json as json_response
from blacksheep.server.websocket import WebSocketDisconnectError
from blacksheep.settings.json import json_settings

from tests.benchmarks.cases import CHUNK, CHUNKS, ROUTES, deep_routes
from tests.benchmarks.models import Order, current_user, open_session

DISTRIBUTION = "blacksheep"
NOTES = {"layers": "services cannot be async generators: the handler calls its dependencies"}

json_settings.use(loads=orjson.loads, dumps=lambda value: orjson.dumps(value).decode())
_session = asynccontextmanager(open_session)


def _app() -> Any:
    return Application(router=Router())


async def layer(request: Request, handler: Any) -> Response:
    return await handler(request)


def hello() -> Any:
    app = _app()

    @app.router.get("/hello")
    async def hello() -> Any:
        return json_response({"hello": "world"})

    return app


def parameter() -> Any:
    app = _app()

    @app.router.get("/users/{id}")
    async def user(id: int) -> Any:
        return json_response({"id": id})

    return app


def query() -> Any:
    app = _app()

    @app.router.get("/search")
    async def search(text: str, limit: int) -> Any:
        return json_response({"text": text, "limit": limit})

    return app


def layers() -> Any:
    app = _app()
    app.middlewares.extend([layer] * 3)

    @app.router.get("/layered")
    async def layered() -> Any:
        user = await current_user()
        async with _session() as session:
            return json_response({"user": user, "count": session["count"]})

    return app


def json() -> Any:
    app = _app()

    @app.router.post("/json")
    async def echo(request: Request) -> Any:
        return json_response(await request.json())

    return app


def model() -> Any:
    app = _app()

    @app.router.post("/model")
    async def echo(request: Request) -> Any:
        order = Order.model_validate_json(await request.read())
        return Response(200, content=Content(b"application/json", order.__pydantic_serializer__.to_json(order)))

    return app


def routes(count: int = ROUTES) -> Any:
    app = _app()

    async def deep(id: str) -> Any:
        return json_response({"id": id})

    for path in deep_routes(count):
        app.router.get(path)(deep)
    return app


def echo() -> Any:
    app = _app()

    @app.router.ws("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnectError:
            pass

    return app


def stream() -> Any:
    app = _app()

    @app.router.get("/stream")
    async def stream() -> Any:
        async def chunks() -> Any:
            for _ in range(CHUNKS):
                yield CHUNK

        return Response(200, content=StreamedContent(b"text/plain", chunks))

    return app


CASES = {
    "hello": hello,
    "parameter": parameter,
    "query": query,
    "layers": layers,
    "json": json,
    "model": model,
    "one_route": lambda: routes(1),
    "routes": routes,
    "echo": echo,
    "stream": stream,
}
