"""What every framework is asked, and what it must answer: the same for all, and checked before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

JSON = b"application/json"
IDS = 20_000  # different ids, so that no cache of paths helps
ROUTES = 1_000
CHUNKS, CHUNK = 1_000, b"x" * 64
MESSAGE = "m" * 32

_LINE = '{"sku":"ABC-1234567890","count":3,"price":12.5,"tags":["new","fragile","gift"]}'
DOCUMENT = f'{{"id":1,"customer":"somebody","note":"{"x" * 140}","lines":[{",".join([_LINE] * 10)}]}}'.encode()


@dataclass(frozen=True)
class Case:
    """One kind of request.

    Attributes:
        name: short, for options and figures.
        title: for people.
        path: with `{id}` where an id goes.
        answer: the body that must come back, `{id}` likewise.
        kind: `http`, or `socket` for messages of one WebSocket.
        per: what is counted.
    """

    name: str
    title: str
    path: str
    answer: bytes
    method: str = "GET"
    body: bytes = b""
    kind: str = "http"
    media_type: bytes = JSON
    per: str = "request"

    def path_of(self, number: int, shape: str | None = None) -> str:
        """The path of one request; `shape` is a framework's own, where it cannot route the usual one."""
        return (shape or self.path).replace("{id}", str(number))

    def answer_to(self, number: int) -> bytes:
        """The body of its reply."""
        return self.answer.replace(b"{id}", b"%d" % number)


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("hello", "hello, JSON", "/hello", b'{"hello":"world"}'),
        Case("parameter", "int path parameter", "/users/{id}", b'{"id":{id}}'),
        Case("query", "two query values", "/search?text=tea+cup&limit=20", b'{"text":"tea cup","limit":20}'),
        Case("layers", "2 dependencies, 3 middleware", "/layered", b'{"user":"somebody","count":1}'),
        Case("json", f"JSON body, {len(DOCUMENT)} bytes, parsed", "/json", DOCUMENT, "POST", DOCUMENT),
        Case("model", f"JSON body, {len(DOCUMENT)} bytes, pydantic model", "/model", DOCUMENT, "POST", DOCUMENT),
        Case("one_route", "one deep route, varying ids", "/api/v1/res0/{id}/act0", b'{"id":"{id}"}'),
        Case("routes", "1,000 routes, the last, varying ids", "/api/v1/res999/{id}/act999", b'{"id":"{id}"}'),
        Case("echo", "WebSocket echo", "/echo", MESSAGE.encode(), kind="socket", per="message"),
        Case("stream", "stream of 1,000 chunks", "/stream", CHUNK * CHUNKS, media_type=b"text/plain", per="stream"),
    )
}

# Where `{n}` is a route's number; what the peers register.
DEEP_ROUTE = "/api/v1/res{n}/{id}/act{n}"

PEERS = (
    "raw",
    "microkit_trie",
    "microkit_auto",
    "lihil",
    "muffin",
    "falcon",
    "blacksheep",
    "starlette",
    "micropie",
    "litestar",
    "fastapi",
)

# Their routes are methods of a class, so they cannot be given the usual deep paths.
OWN_PATHS = {name: {"one_route": "/res0/{id}", "routes": "/res999/{id}"} for name in ("micropie", "microkit_auto")}


def deep_routes(count: int, id_part: str = "{id}") -> list[str]:
    """The paths of a table of routes.

    Args:
        count: how many; the last one is asked for.
        id_part: how the framework writes a text parameter.
    """
    return [DEEP_ROUTE.replace("{id}", id_part).replace("{n}", str(n)) for n in range(count)]


def scope_of(case: Case, path: str) -> dict[str, Any]:
    """A scope of its own, as uvicorn makes it; frameworks write into it."""
    headers = [(b"host", b"127.0.0.1:8000"), (b"accept", b"*/*"), (b"user-agent", b"benchmark")]
    if case.body:
        headers += [(b"content-type", JSON), (b"content-length", b"%d" % len(case.body))]
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50_000),
        "scheme": "http",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": headers,
        "state": {},
    }
    if case.kind == "socket":
        return scope | {"type": "websocket", "scheme": "ws", "subprotocols": [], "extensions": {}}
    return scope | {"method": case.method}


def chosen(names: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """The known names among the given ones, in the usual order; all of them if none is given.

    Raises:
        SystemExit: a name is unknown.
    """
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"There is no {what} {', '.join(unknown)}. There are: {', '.join(known)}.")
    return [name for name in known if not names or name in names]
