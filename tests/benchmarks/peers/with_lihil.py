"""lihil, with its own JSON (msgspec) and its dependency injection."""

# Annotations are values here: lihil reads those of nested functions as they are.
from typing import Annotated, Any, AsyncGenerator  # noqa: UP035 - it tells generators by this name

from lihil import Lihil, Route, WebSocket, WebSocketRoute, use
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from tests.benchmarks.cases import CHUNK, CHUNKS, ROUTES, deep_routes
from tests.benchmarks.models import Order, current_user

DISTRIBUTION = "lihil"
NOTES = {
    "layers": "finishes the async generator after the reply is sent; the others before",
    "stream": "a starlette response: its own streams are for event-stream",
}


def layer(app: Any) -> Any:
    """Pure ASGI."""

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return middleware


class Session(dict[str, int]):
    """A type of its own: dependencies are told apart by type."""


class User(str):
    """Likewise."""


async def open_session() -> AsyncGenerator[Session, None]:
    session = Session(count=1)
    try:
        yield session
    finally:
        session["count"] = 0


async def user_of_call() -> User:
    return User(await current_user())


def hello() -> Any:
    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    route = Route("/hello")
    route.get(hello)
    return Lihil(route)


def parameter() -> Any:
    async def user(id: int) -> dict[str, int]:
        return {"id": id}

    route = Route("/users/{id}")
    route.get(user)
    return Lihil(route)


def query() -> Any:
    async def search(text: str, limit: int) -> dict[str, Any]:
        return {"text": text, "limit": limit}

    route = Route("/search")
    route.get(search)
    return Lihil(route)


def layers() -> Any:
    async def layered(
        user: Annotated[User, use(user_of_call, reuse=False)],
        session: Annotated[Session, use(open_session, reuse=False)],
    ) -> dict[str, Any]:
        return {"user": str(user), "count": session["count"]}

    route = Route("/layered")
    route.get(layered)
    return Lihil(route, middlewares=[layer] * 3)


def json() -> Any:
    async def echo(document: dict[str, Any]) -> dict[str, Any]:
        return document

    route = Route("/json")
    route.post(echo)
    return Lihil(route)


def model() -> Any:
    async def echo(order: Order) -> Order:
        return order

    route = Route("/model")
    route.post(echo)
    return Lihil(route)


def routes(count: int = ROUTES) -> Any:
    async def deep(id: str) -> dict[str, str]:
        return {"id": id}

    made = []
    for path in deep_routes(count):
        route = Route(path)
        route.get(deep)
        made.append(route)
    return Lihil(*made)


def echo() -> Any:
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                await ws.send_text(await ws.receive_text())
        except WebSocketDisconnect:
            pass

    route = WebSocketRoute("/echo")
    route.endpoint(echo)
    return Lihil(route)


def stream() -> Any:
    async def stream() -> StreamingResponse:
        async def chunks() -> Any:
            for _ in range(CHUNKS):
                yield CHUNK

        return StreamingResponse(chunks(), media_type="text/plain")

    route = Route("/stream")
    route.get(stream)
    return Lihil(route)


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
