"""microkit with the trie router and pydantic."""

from __future__ import annotations

from typing import Annotated, Any

import microkit_pydantic.plugin
import microkit_trie.plugin
from microkit import App, Body, Call, Depends, Reply, StreamingResponse, WebSocket
from tests.benchmarks.cases import CHUNK, CHUNKS, ROUTES, deep_routes
from tests.benchmarks.models import Order, current_user, open_session

DISTRIBUTION = "microkit"
NOTES: dict[str, str] = {}


def _app() -> App:
    return App(plugins=[microkit_trie.plugin, microkit_pydantic.plugin], discover=False)


def hello() -> App:
    app = _app()

    @app.get("/hello")
    async def hello() -> Any:
        return {"hello": "world"}

    return app


def parameter() -> App:
    app = _app()

    @app.get("/users/{id:int}")
    async def user(id: int) -> Any:
        return {"id": id}

    return app


def query() -> App:
    app = _app()

    @app.get("/search")
    async def search(text: str, limit: int) -> Any:
        return {"text": text, "limit": limit}

    return app


async def first(call: Call, call_next: Any) -> Reply:
    return await call_next(call)


async def second(call: Call, call_next: Any) -> Reply:
    return await call_next(call)


async def third(call: Call, call_next: Any) -> Reply:
    return await call_next(call)


def layers() -> App:
    app = _app()
    for each in (first, second, third):
        app.add_middleware(each)

    @app.get("/layered")
    async def layered(
        user: Annotated[str, Depends(current_user)], session: Annotated[dict[str, int], Depends(open_session)]
    ) -> Any:
        return {"user": user, "count": session["count"]}

    return app


def json() -> App:
    app = _app()

    @app.post("/json")
    async def echo(document: Annotated[dict[str, Any], Body()]) -> Any:
        return document

    return app


def model() -> App:
    app = _app()

    @app.post("/model")
    async def echo(order: Order) -> Any:
        return order

    return app


def routes(count: int = ROUTES) -> App:
    app = _app()

    async def deep(id: str) -> Any:
        return {"id": id}

    for path in deep_routes(count):
        app.get(path)(deep)
    return app


def echo() -> App:
    app = _app()

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send_text(message)

    return app


def stream() -> App:
    app = _app()

    @app.get("/stream")
    async def stream() -> Any:
        async def chunks() -> Any:
            for _ in range(CHUNKS):
                yield CHUNK

        return StreamingResponse(chunks(), media_type="text/plain; charset=utf-8")

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
