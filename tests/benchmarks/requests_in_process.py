"""HTTP requests in process: microkit against raw ASGI callables that do the same work with the same JSON encoder.

Run it with `python tests/benchmarks/requests_in_process.py [requests]`. Both sides of a row answer the same bytes,
which is checked before anything is measured. They take turns in one event loop; printed is the best CPU time of a
request in nanoseconds, without that of the loop around it, and the ratio.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qsl

import microkit_trie.plugin
from microkit import App, Body, Call, Depends, Reply, Router
from microkit.codecs import json_dumps, json_loads

_ROUNDS = 25
_JSON = (b"content-type", b"application/json")
_DOCUMENT = {
    "id": 1,
    "customer": "somebody",
    "lines": [{"sku": f"ABC-{n:06}", "count": n, "price": 12.5} for n in range(20)],
}
_BODY = json.dumps(_DOCUMENT).encode()

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """One kind of request, and the callable that answers it without a framework."""

    name: str
    raw: Asgi
    path: str
    method: str = "GET"
    query: bytes = b""
    body: bytes = b""

    def scope(self) -> dict[str, Any]:
        headers = [(b"host", b"127.0.0.1"), (b"accept", b"*/*"), (b"user-agent", b"benchmark")]
        if self.body:
            headers += [_JSON, (b"content-length", b"%d" % len(self.body))]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }


# -- without a framework -----------------------------------------------------------------------------------------------


async def _answer(send: Any, value: Any) -> None:
    body = json_dumps(value)
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def raw_hello(scope: Any, receive: Any, send: Any) -> None:
    await _answer(send, {"hello": "world"})


async def raw_path(scope: Any, receive: Any, send: Any) -> None:
    await _answer(send, {"id": int(scope["path"].split("/")[2])})


async def raw_query(scope: Any, receive: Any, send: Any) -> None:
    given = dict(parse_qsl(scope["query_string"].decode()))
    await _answer(send, {"text": given["text"], "limit": int(given["limit"])})


async def raw_body(scope: Any, receive: Any, send: Any) -> None:
    pieces, more = [], True
    while more:
        event = await receive()
        pieces.append(event.get("body", b""))
        more = event.get("more_body", False)
    await _answer(send, json_loads(b"".join(pieces)))


async def _user() -> str:
    return "somebody"


async def _session() -> AsyncIterator[dict[str, int]]:
    yield {"count": 1}


async def raw_layers(scope: Any, receive: Any, send: Any) -> None:
    async def handler() -> dict[str, Any]:
        user, session = await _user(), _session()
        value = {"user": user, "count": (await anext(session))["count"]}
        await anext(session, None)
        return value

    async def inner() -> Any:
        return await handler()

    async def middle() -> Any:
        return await inner()

    async def outer() -> Any:
        return await middle()

    await _answer(send, await outer())


# -- with microkit -----------------------------------------------------------------------------------------------------

app = App(plugins=[microkit_trie.plugin], discover=False)


@app.get("/hello")
async def hello() -> Any:
    return {"hello": "world"}


@app.get("/users/{id:int}")
async def user(id: int) -> Any:
    return {"id": id}


@app.get("/search")
async def search(text: str, limit: int) -> Any:
    return {"text": text, "limit": limit}


@app.post("/echo")
async def echo(document: Annotated[dict[str, Any], Body()]) -> Any:
    return document


async def first(call: Call, call_next: Any) -> Reply:
    return await call_next(call)


async def second(call: Call, call_next: Any) -> Reply:
    return await call_next(call)


async def third(call: Call, call_next: Any) -> Reply:
    return await call_next(call)


layered = Router("/layered", middleware=[first, second, third])


@layered.get("/")
async def layers(user: Annotated[str, Depends(_user)], session: Annotated[dict[str, int], Depends(_session)]) -> Any:
    return {"user": user, "count": session["count"]}


app.include(layered)

CASES = (
    Case("hello, JSON", raw_hello, "/hello"),
    Case("path parameter (trie)", raw_path, "/users/12345"),
    Case("two query values", raw_query, "/search", query=b"text=tea+cup&limit=20"),
    Case("2 dependencies, 3 middleware", raw_layers, "/layered"),
    Case(f"JSON body, {len(_BODY)} bytes", raw_body, "/echo", "POST", body=_BODY),
)


# -- measuring ---------------------------------------------------------------------------------------------------------


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    return


async def _ask(asgi: Asgi, case: Case) -> tuple[int, Any]:
    """Status and value of one request."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": case.body, "more_body": False}

    async def send(event: Any) -> None:
        sent.append(event)

    await asgi(case.scope(), receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])


async def _measure(asgi: Asgi, case: Case, count: int) -> float:
    """Nanoseconds of CPU of one request. The scopes are made beforehand."""

    async def receive() -> Any:
        return {"type": "http.request", "body": case.body, "more_body": False}

    async def send(event: Any) -> None:
        return

    scopes = [case.scope() for _ in range(count)]
    start = time.thread_time_ns()
    for scope in scopes:
        await asgi(scope, receive, send)
    return (time.thread_time_ns() - start) / count


async def main() -> None:
    """Print one row per case."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("| request | raw ASGI (CPU ns) | microkit (CPU ns) | ratio |\n|---|---|---|---|")
    async with app.started():
        for case in CASES:
            status, expected = await _ask(case.raw, case)
            found = await _ask(app, case)
            if found != (status, expected):
                raise SystemExit(f"{case.name}: microkit answers {found}, raw ASGI {(status, expected)}")
            best = {way: float("inf") for way in (_nothing, case.raw, app)}
            for _ in range(_ROUNDS):
                for way in best:
                    best[way] = min(best[way], await _measure(way, case, count))
            loop, raw, ours = best.values()
            print(f"| {case.name} | {raw - loop:,.0f} | {ours - loop:,.0f} | {(ours - loop) / (raw - loop):.2f}x |")


if __name__ == "__main__":
    asyncio.run(main())
