"""MicroPie: routes are methods, so deep paths take its own shape; dependencies are called by the handler."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

from micropie import App, ConnectionClosed, HttpMiddleware

from tests.benchmarks.cases import CHUNK, CHUNKS, ROUTES
from tests.benchmarks.models import Order, current_user, open_session

DISTRIBUTION = "micropie"
_OWN_PATHS = "routes are methods: /resN/{id} instead of /api/v1/resN/{id}/actN"
NOTES = {
    "parameter": "no typed parameters: the handler converts",
    "query": "no typed parameters: the handler converts",
    "layers": "no dependency injection: the handler calls its dependencies; middleware is a pair of hooks",
    "model": "the body is parsed as JSON before the model sees it",
    "one_route": _OWN_PATHS,
    "routes": _OWN_PATHS,
}

_session = asynccontextmanager(open_session)


class Layer(HttpMiddleware):
    async def before_request(self, request: Any) -> None:
        return None

    async def after_request(self, request: Any, status_code: int, response_body: Any, extra_headers: Any) -> None:
        return None


class Root(App):
    async def hello(self) -> Any:
        return {"hello": "world"}

    async def users(self, id: str) -> Any:
        return {"id": int(id)}

    async def search(self, text: str, limit: str) -> Any:
        return {"text": text, "limit": int(limit)}

    async def layered(self) -> Any:
        user = await current_user()
        async with _session() as session:
            return {"user": user, "count": session["count"]}

    async def json(self) -> Any:
        return self.request.json()

    async def model(self) -> Any:
        order = Order.model_validate(self.request.json())
        body = order.__pydantic_serializer__.to_json(order)
        return 200, body, [("Content-Type", "application/json")]

    async def ws_echo(self, ws: Any) -> None:
        await ws.accept()
        try:
            while True:
                await ws.send_text(await ws.receive_text())
        except ConnectionClosed:
            pass

    async def stream(self) -> Any:
        async def chunks() -> Any:
            for _ in range(CHUNKS):
                yield CHUNK

        return 200, chunks(), [("Content-Type", "text/plain; charset=utf-8")]


async def _deep(self: Any, id: str) -> Any:
    return {"id": id}


def layers() -> Any:
    app = Root()
    app.middlewares += [Layer(), Layer(), Layer()]
    return app


def routes(count: int = ROUTES) -> Any:
    return type("Deep", (App,), {f"res{n}": _deep for n in range(count)})()


CASES = {
    "hello": Root,
    "parameter": Root,
    "query": Root,
    "layers": layers,
    "json": Root,
    "model": Root,
    "one_route": lambda: routes(1),
    "routes": routes,
    "echo": Root,
    "stream": Root,
}
