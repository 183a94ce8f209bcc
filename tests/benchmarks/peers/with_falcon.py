"""Falcon, with orjson; it has no dependency injection, so the responder calls its dependencies."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import falcon.asgi
import falcon.media
import orjson
from falcon import WebSocketDisconnected

from tests.benchmarks.cases import CHUNK, CHUNKS, ROUTES, deep_routes
from tests.benchmarks.models import Order, current_user, open_session

DISTRIBUTION = "falcon"
NOTES = {"layers": "no dependency injection: the responder calls its dependencies; middleware is a pair of hooks"}

_session = asynccontextmanager(open_session)


class Layer:
    async def process_request(self, req: Any, resp: Any) -> None:
        return

    async def process_response(self, req: Any, resp: Any, resource: Any, req_succeeded: bool) -> None:
        return


class Hello:
    async def on_get(self, req: Any, resp: Any) -> None:
        resp.media = {"hello": "world"}


class User:
    async def on_get(self, req: Any, resp: Any, id: int) -> None:
        resp.media = {"id": id}


class Search:
    async def on_get(self, req: Any, resp: Any) -> None:
        resp.media = {"text": req.get_param("text"), "limit": req.get_param_as_int("limit")}


class Layered:
    async def on_get(self, req: Any, resp: Any) -> None:
        user = await current_user()
        async with _session() as session:
            resp.media = {"user": user, "count": session["count"]}


class Json:
    async def on_post(self, req: Any, resp: Any) -> None:
        resp.media = await req.get_media()


class Model:
    async def on_post(self, req: Any, resp: Any) -> None:
        order = Order.model_validate_json(await req.stream.read())
        resp.data = order.__pydantic_serializer__.to_json(order)


class Deep:
    async def on_get(self, req: Any, resp: Any, id: str) -> None:
        resp.media = {"id": id}


class Echo:
    async def on_websocket(self, req: Any, ws: Any) -> None:
        await ws.accept()
        try:
            while True:
                await ws.send_text(await ws.receive_text())
        except WebSocketDisconnected:
            pass


class Stream:
    async def on_get(self, req: Any, resp: Any) -> None:
        async def chunks() -> Any:
            for _ in range(CHUNKS):
                yield CHUNK

        resp.content_type = falcon.MEDIA_TEXT
        resp.stream = chunks()


def _app(path: str = "", resource: Any = None, **options: Any) -> Any:
    app = falcon.asgi.App(**options)
    handler = falcon.media.JSONHandler(dumps=orjson.dumps, loads=orjson.loads)
    app.req_options.media_handlers[falcon.MEDIA_JSON] = handler
    app.resp_options.media_handlers[falcon.MEDIA_JSON] = handler
    if path:
        app.add_route(path, resource)
    return app


def routes(count: int = ROUTES) -> Any:
    app, deep = _app(), Deep()
    for path in deep_routes(count):
        app.add_route(path, deep)
    return app


CASES = {
    "hello": lambda: _app("/hello", Hello()),
    "parameter": lambda: _app("/users/{id:int}", User()),
    "query": lambda: _app("/search", Search()),
    "layers": lambda: _app("/layered", Layered(), middleware=[Layer(), Layer(), Layer()]),
    "json": lambda: _app("/json", Json()),
    "model": lambda: _app("/model", Model()),
    "one_route": lambda: routes(1),
    "routes": routes,
    "echo": lambda: _app("/echo", Echo()),
    "stream": lambda: _app("/stream", Stream()),
}
