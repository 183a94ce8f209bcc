"""Muffin (ASGI-Tools); it has no dependency injection, so the handler calls its dependencies."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import muffin
from asgi_tools.errors import ASGIConnectionClosedError

from tests.benchmarks.cases import CHUNK, CHUNKS, ROUTES, deep_routes
from tests.benchmarks.models import Order, current_user, open_session

DISTRIBUTION = "muffin"
NOTES = {"layers": "no dependency injection: the handler calls its dependencies"}

_session = asynccontextmanager(open_session)


def hello() -> Any:
    app = muffin.Application()

    @app.route("/hello")
    async def hello(request: Any) -> Any:
        return {"hello": "world"}

    return app


def parameter() -> Any:
    app = muffin.Application()

    @app.route("/users/{id:int}")
    async def user(request: Any) -> Any:
        return {"id": request.path_params["id"]}

    return app


def query() -> Any:
    app = muffin.Application()

    @app.route("/search")
    async def search(request: Any) -> Any:
        given = request.query
        return {"text": given["text"], "limit": int(given["limit"])}

    return app


def layers() -> Any:
    app = muffin.Application()

    def layer() -> None:
        @app.middleware
        async def layer(handler: Any, request: Any, receive: Any, send: Any) -> Any:
            return await handler(request, receive, send)

    for _ in range(3):
        layer()

    @app.route("/layered")
    async def layered(request: Any) -> Any:
        user = await current_user()
        async with _session() as session:
            return {"user": user, "count": session["count"]}

    return app


def json() -> Any:
    app = muffin.Application()

    @app.route("/json", methods=["POST"])
    async def echo(request: Any) -> Any:
        return await request.json()

    return app


def model() -> Any:
    app = muffin.Application()

    @app.route("/model", methods=["POST"])
    async def echo(request: Any) -> Any:
        order = Order.model_validate_json(await request.body())
        return muffin.Response(order.__pydantic_serializer__.to_json(order), content_type="application/json")

    return app


def routes(count: int = ROUTES) -> Any:
    app = muffin.Application()

    async def deep(request: Any) -> Any:
        return {"id": request.path_params["id"]}

    for path in deep_routes(count):
        app.route(path)(deep)
    return app


def echo() -> Any:
    app = muffin.Application()

    @app.route("/echo")
    async def echo(request: Any) -> Any:
        async with muffin.ResponseWebSocket(request) as ws:
            try:
                while True:
                    await ws.send(await ws.receive())
            except ASGIConnectionClosedError:
                pass
        return ws

    return app


def stream() -> Any:
    app = muffin.Application()

    @app.route("/stream")
    async def stream(request: Any) -> Any:
        async def chunks() -> Any:
            for _ in range(CHUNKS):
                yield CHUNK

        return muffin.ResponseStream(chunks(), content_type="text/plain")

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
