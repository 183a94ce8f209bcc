"""POST of about 1 KB of JSON through a pydantic model: microkit with microkit-pydantic against raw ASGI with pydantic.

Run it with `python tests/benchmarks/validation.py [requests]`. Both run in process, in turns, in one event loop; the
figures are the best CPU time of a request in nanoseconds. The raw application does the least that is right: it looks at
the content type, validates strictly, and writes the model back; `checked` has a return annotation, which is validated.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from pydantic import BaseModel, ValidationError

import microkit_pydantic.plugin
from microkit import App

_ROUNDS = 15


class Line(BaseModel):
    sku: str
    count: int
    price: float
    tags: list[str]


class Order(BaseModel):
    id: int
    customer: str
    note: str
    lines: list[Line]


_LINE = {"sku": "ABC-1234567890", "count": 3, "price": 12.5, "tags": ["new", "fragile", "gift"]}
_BODY = json.dumps({"id": 1, "customer": "somebody", "note": "x" * 120, "lines": [_LINE] * 8}).encode()
_JSON = (b"content-type", b"application/json")
_validate, _write = Order.__pydantic_validator__.validate_json, Order.__pydantic_serializer__.to_json


async def raw(scope: Any, receive: Any, send: Any) -> None:
    """The same service by hand."""
    pieces, more = [], True
    while more:
        event = await receive()
        pieces.append(event.get("body", b""))
        more = event.get("more_body", False)
    if dict(scope["headers"]).get(b"content-type") != b"application/json":
        status, body = 415, b""
    else:
        try:
            status, body = 200, _write(_validate(b"".join(pieces), strict=True))
        except ValidationError:
            status, body = 422, b""
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


app = App(plugins=[microkit_pydantic.plugin], discover=False)


@app.post("/plain")
async def plain(order: Order) -> Any:
    return order


@app.post("/checked")
async def checked(order: Order) -> Order:
    return order


async def _measure(asgi: Any, path: str, count: int) -> float:
    headers = [(b"host", b"127.0.0.1"), _JSON, (b"content-length", b"%d" % len(_BODY))]
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": _BODY, "more_body": False}

    async def send(event: Any) -> None:
        sent.append(event)

    start = time.process_time_ns()
    for _ in range(count):
        sent.clear()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": None,
            "server": None,
        }
        await asgi(scope, receive, send)
    taken = (time.process_time_ns() - start) / count
    assert sent[0]["status"] == 200, sent
    assert json.loads(sent[1]["body"]) == json.loads(_BODY)
    return taken


async def main() -> None:
    """Print one row per way."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    ways = {"raw ASGI + pydantic": (raw, "/"), "microkit": (app, "/plain"), "microkit, checked": (app, "/checked")}
    best = dict.fromkeys(ways, float("inf"))
    async with app.started():
        for _ in range(_ROUNDS):
            for name, (asgi, path) in ways.items():
                best[name] = min(best[name], await _measure(asgi, path, count))
    print(f"| {len(_BODY)} bytes | CPU ns | ratio |\n|---|---|---|")
    for name, taken in best.items():
        print(f"| {name} | {taken:,.0f} | {taken / best['raw ASGI + pydantic']:.2f} |")


if __name__ == "__main__":
    asyncio.run(main())
