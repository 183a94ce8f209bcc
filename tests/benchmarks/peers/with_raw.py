"""No framework: one ASGI callable per case, in the plainest code that does the work, with microkit's JSON functions.

Each handles only its own path, so it does not route; the case of 1,000 routes looks its own up in one dict.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from microkit.codecs import json_dumps, json_loads
from tests.benchmarks.cases import CHUNK, CHUNKS, ROUTES
from tests.benchmarks.models import Order, current_user, open_session

DISTRIBUTION = ""
NOTES: dict[str, str] = {}

_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_validate, _write = Order.__pydantic_validator__.validate_json, Order.__pydantic_serializer__.to_json


async def hello(scope: Any, receive: Any, send: Any) -> None:
    body = json_dumps({"hello": "world"})
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def parameter(scope: Any, receive: Any, send: Any) -> None:
    body = json_dumps({"id": int(scope["path"].split("/")[2])})
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def query(scope: Any, receive: Any, send: Any) -> None:
    given = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
    body = json_dumps({"text": given["text"], "limit": int(given["limit"])})
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _handler(user: str, session: dict[str, int]) -> dict[str, Any]:
    return {"user": user, "count": session["count"]}


async def _endpoint(scope: Any) -> bytes:
    user = await current_user()
    generator = open_session()
    session = await anext(generator)
    try:
        value = json_dumps(await _handler(user, session))
    except BaseException as exc:
        await generator.athrow(exc)
        raise
    try:
        await anext(generator)
    except StopAsyncIteration:
        return value
    raise RuntimeError("the generator yielded more than once")


async def _inner(scope: Any) -> bytes:
    return await _endpoint(scope)


async def _middle(scope: Any) -> bytes:
    return await _inner(scope)


async def _outer(scope: Any) -> bytes:
    return await _middle(scope)


async def layers(scope: Any, receive: Any, send: Any) -> None:
    body = await _outer(scope)
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Any) -> bytes:
    event = await receive()
    if not event.get("more_body", False):
        return event.get("body", b"")
    pieces = [event.get("body", b"")]
    while event.get("more_body", False):
        event = await receive()
        pieces.append(event.get("body", b""))
    return b"".join(pieces)


async def json(scope: Any, receive: Any, send: Any) -> None:
    body = json_dumps(json_loads(await _read(receive)))
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def model(scope: Any, receive: Any, send: Any) -> None:
    body = _write(_validate(await _read(receive), strict=True))
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _deep(id: str) -> dict[str, str]:
    return {"id": id}


def routes(count: int = ROUTES) -> Any:
    table = {("api", "v1", f"res{n}", f"act{n}"): _deep for n in range(count)}

    async def deep(scope: Any, receive: Any, send: Any) -> None:
        _, api, version, resource, id, action = scope["path"].split("/")
        body = json_dumps(await table[api, version, resource, action](id))
        headers = [_JSON, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return deep


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


async def stream(scope: Any, receive: Any, send: Any) -> None:
    async def chunks() -> Any:
        for _ in range(CHUNKS):
            yield CHUNK

    await send({"type": "http.response.start", "status": 200, "headers": [_TEXT]})
    async for chunk in chunks():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


CASES = {
    "hello": lambda: hello,
    "parameter": lambda: parameter,
    "query": lambda: query,
    "layers": lambda: layers,
    "json": lambda: json,
    "model": lambda: model,
    "one_route": lambda: routes(1),
    "routes": routes,
    "echo": lambda: echo,
    "stream": lambda: stream,
}
