"""microkit with the auto router: routes are methods, so deep paths take its own shape."""

from __future__ import annotations

from typing import Annotated, Any

from microkit_auto import App, handler

import microkit_pydantic.plugin
from microkit import Body, Call, Depends, Reply
from tests.benchmarks.cases import CHUNK, CHUNKS, ROUTES
from tests.benchmarks.models import Order, current_user, open_session

DISTRIBUTION = "microkit-auto"
_OWN_PATHS = "routes are methods: /resN/{id} instead of /api/v1/resN/{id}/actN"
NOTES = {"one_route": _OWN_PATHS, "routes": _OWN_PATHS}


async def layer(call: Call, call_next: Any) -> Reply:
    return await call_next(call)


class Root(App):
    async def hello(self) -> Any:
        return {"hello": "world"}

    async def users(self, id: int) -> Any:
        return {"id": id}

    async def search(self, text: str, limit: int) -> Any:
        return {"text": text, "limit": limit}

    async def layered(
        self, user: Annotated[str, Depends(current_user)], session: Annotated[dict[str, int], Depends(open_session)]
    ) -> Any:
        return {"user": user, "count": session["count"]}

    async def json(self) -> Any:
        return self.request.json()

    async def model(self, order: Annotated[Order, Body()]) -> Any:
        return order

    async def ws_echo(self, ws: Any) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send_text(message)

    async def stream(self) -> Any:
        async def chunks() -> Any:
            for _ in range(CHUNKS):
                yield CHUNK

        return 200, chunks(), [("Content-Type", "text/plain; charset=utf-8")]


@handler()
async def deep(self: Any, id: str) -> Any:
    return {"id": id}


def _app(cls: Any = Root, **options: Any) -> Any:
    return cls(plugins=[microkit_pydantic.plugin], discover=False, **options)


def routes(count: int = ROUTES) -> Any:
    return _app(type("Deep", (App,), {f"res{n}": deep for n in range(count)}))


CASES = {
    "hello": _app,
    "parameter": _app,
    "query": _app,
    "layers": lambda: _app(middlewares=[layer] * 3),
    "json": _app,
    "model": _app,
    "one_route": lambda: routes(1),
    "routes": routes,
    "echo": _app,
    "stream": _app,
}
