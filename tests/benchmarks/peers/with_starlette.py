"""Starlette: pure ASGI middleware; it has no dependency injection, so the handler calls its dependencies."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.benchmarks.cases import CHUNK, CHUNKS, ROUTES, deep_routes
from tests.benchmarks.models import Order, current_user, open_session

DISTRIBUTION = "starlette"
NOTES = {"layers": "no dependency injection: the handler calls its dependencies"}

_session = asynccontextmanager(open_session)


class JsonResponse(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class Layer:
    """Pure ASGI; BaseHTTPMiddleware would cost many times as much."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def hello() -> Any:
    async def hello(request: Request) -> Response:
        return JsonResponse({"hello": "world"})

    return Starlette(routes=[Route("/hello", hello)])


def parameter() -> Any:
    async def user(request: Request) -> Response:
        return JsonResponse({"id": request.path_params["id"]})

    return Starlette(routes=[Route("/users/{id:int}", user)])


def query() -> Any:
    async def search(request: Request) -> Response:
        given = request.query_params
        return JsonResponse({"text": given["text"], "limit": int(given["limit"])})

    return Starlette(routes=[Route("/search", search)])


def layers() -> Any:
    async def layered(request: Request) -> Response:
        user = await current_user()
        async with _session() as session:
            return JsonResponse({"user": user, "count": session["count"]})

    return Starlette(routes=[Route("/layered", layered)], middleware=[Middleware(Layer)] * 3)


def json() -> Any:
    async def echo(request: Request) -> Response:
        return JsonResponse(orjson.loads(await request.body()))

    return Starlette(routes=[Route("/json", echo, methods=["POST"])])


def model() -> Any:
    async def echo(request: Request) -> Response:
        order = Order.model_validate_json(await request.body())
        return Response(order.__pydantic_serializer__.to_json(order), media_type="application/json")

    return Starlette(routes=[Route("/model", echo, methods=["POST"])])


def routes(count: int = ROUTES) -> Any:
    async def deep(request: Request) -> Response:
        return JsonResponse({"id": request.path_params["id"]})

    return Starlette(routes=[Route(path, deep) for path in deep_routes(count)])


def echo() -> Any:
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws.iter_text():
            await ws.send_text(message)

    return Starlette(routes=[WebSocketRoute("/echo", echo)])


def stream() -> Any:
    async def stream(request: Request) -> Response:
        async def chunks() -> Any:
            for _ in range(CHUNKS):
                yield CHUNK

        return StreamingResponse(chunks(), media_type="text/plain")

    return Starlette(routes=[Route("/stream", stream)])


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
