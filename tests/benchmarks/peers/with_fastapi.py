"""FastAPI, with return annotations, by which it serialises fastest."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from tests.benchmarks.cases import CHUNK, CHUNKS, ROUTES, deep_routes
from tests.benchmarks.models import Order, current_user, open_session

DISTRIBUTION = "fastapi"
NOTES: dict[str, str] = {}


class Layer:
    """Pure ASGI."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def hello() -> Any:
    app = FastAPI(openapi_url=None)

    @app.get("/hello")
    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    return app


def parameter() -> Any:
    app = FastAPI(openapi_url=None)

    @app.get("/users/{id}")
    async def user(id: int) -> dict[str, int]:
        return {"id": id}

    return app


def query() -> Any:
    app = FastAPI(openapi_url=None)

    @app.get("/search")
    async def search(text: str, limit: int) -> dict[str, str | int]:
        return {"text": text, "limit": limit}

    return app


def layers() -> Any:
    app = FastAPI(openapi_url=None)
    for _ in range(3):
        app.add_middleware(Layer)

    @app.get("/layered")
    async def layered(
        user: Annotated[str, Depends(current_user)],
        # Of function scope: finished before the reply is sent.
        session: Annotated[dict[str, int], Depends(open_session, scope="function")],
    ) -> dict[str, str | int]:
        return {"user": user, "count": session["count"]}

    return app


def json() -> Any:
    app = FastAPI(openapi_url=None)

    @app.post("/json")
    async def echo(document: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        return document

    return app


def model() -> Any:
    app = FastAPI(openapi_url=None)

    @app.post("/model")
    async def echo(order: Order) -> Order:
        return order

    return app


def routes(count: int = ROUTES) -> Any:
    app = FastAPI(openapi_url=None)

    async def deep(id: str) -> dict[str, str]:
        return {"id": id}

    for path in deep_routes(count):
        app.get(path)(deep)
    return app


def echo() -> Any:
    app = FastAPI(openapi_url=None)

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                await ws.send_text(await ws.receive_text())
        except WebSocketDisconnect:
            pass

    return app


def stream() -> Any:
    app = FastAPI(openapi_url=None)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def chunks() -> Any:
            for _ in range(CHUNKS):
                yield CHUNK

        return StreamingResponse(chunks(), media_type="text/plain")

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
