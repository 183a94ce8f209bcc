"""What a handler sees of a request, and what is refused before it sees anything."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse

import pytest

from microkit import App, BadRequest, Body, Cookie, Header, Query, Request
from tests.asgi_driver import body, request

pytestmark = pytest.mark.anyio


def application(**settings: Any) -> App:
    return App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL", **settings}})


@pytest.fixture
def app() -> App:
    app = application()

    @app.post("/body")
    async def whole(request: Request) -> dict[str, Any]:
        first, second = await request.body(), await request.body()
        return {"size": len(first), "same": first == second}

    return app


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F000-27")
@pytest.mark.feature("F001-06")
@pytest.mark.feature("F001-25")
@pytest.mark.feature("F001-39")
async def test_a_request_is_read_by_its_attributes(app: App) -> None:
    seen: dict[str, Any] = {}

    @app.get("/users/{id}")
    async def user(request: Request) -> None:
        request.state.mine = 1
        request.attributes["extra"] = 2
        seen.update(
            method=request.method,
            path=request.path,
            url=request.url.geturl(),
            ids=request.query.getlist("id"),
            first=request.query["id"],
            blank=request.query["blank"],
            header=request.headers["X-Thing"],
            both=request.headers.getlist("x-thing"),
            values=request.path_params,
            attributes=request.attributes,
            state=request.state.mine,
            client=request.client,
        )

    headers = [(b"host", b"shop.example:81"), (b"x-thing", b"a"), (b"x-thing", b"b")]
    reply = await request(app, "GET", "/users/J%C3%BCrg?id=1&id=2&blank=", headers)
    assert reply.status == 204
    assert seen == {
        "method": "GET",
        "path": "/users/J\u00fcrg",
        "url": "http://shop.example:81/users/J%C3%BCrg?id=1&id=2&blank=",
        "ids": ["1", "2"],
        "first": "1",
        "blank": "",
        "header": "a",
        "both": ["a", "b"],
        "values": {"id": "J\u00fcrg"},
        "attributes": {"id": "J\u00fcrg", "extra": 2},
        "state": 1,
        "client": ("127.0.0.1", 40000),
    }


@pytest.mark.feature("F001-25")
async def test_a_parameter_named_request_needs_no_annotation(app: App) -> None:
    @app.get("/")
    async def handler(request):  # type: ignore[no-untyped-def]
        return request.path

    assert (await request(app)).body == b"/"


@pytest.mark.feature("F001-39")
async def test_state_belongs_to_one_call(app: App) -> None:
    @app.get("/")
    async def handler(request: Request) -> dict[str, bool]:
        known = hasattr(request.state, "seen")
        request.state.seen = True
        return {"known": known}

    for _ in range(2):
        assert (await request(app)).body == b'{"known":false}'


@pytest.mark.feature("F000-26")
async def test_body_and_json_may_be_read_repeatedly(app: App) -> None:
    @app.post("/json")
    async def twice(request: Request) -> dict[str, Any]:
        raw = await request.body()
        return {"raw": raw.decode(), "values": [await request.json(), await request.json()]}

    reply = await request(app, "POST", "/json", events=[body(b'{"a"', more=True), body(b":1}")])
    assert reply.body == b'{"raw":"{\\"a\\":1}","values":[{"a":1},{"a":1}]}'
    assert (await request(app, "POST", "/body", data=b"\x00\xff" * 10)).body == b'{"size":20,"same":true}'


@pytest.mark.feature("F000-26")
@pytest.mark.feature("F001-40")
@pytest.mark.feature("FX-24")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1] x",
        b"NaN",
        b"[Infinity]",
        b"[" * 100_000,
        b'"\\ud800"',
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'{"a":1,}',
    ],
    ids=["empty", "cut", "junk", "nan", "infinity", "deep", "surrogate", "bom", "bytes", "comma"],
)
async def test_what_is_no_json_is_a_400(app: App, data: bytes) -> None:
    @app.post("/json")
    async def read(request: Request) -> Any:
        return await request.json()

    reply = await request(app, "POST", "/json", data=data)
    assert (reply.status, reply.headers["content-type"]) == (400, "application/problem+json")


async def test_a_handler_may_stream_the_body(app: App) -> None:
    pieces: list[bytes] = []

    @app.post("/stream")
    async def stream(request: Request) -> str:
        pieces.extend([piece async for piece in request.stream()])
        with pytest.raises(RuntimeError, match="already read"):
            await request.body()
        return "done"

    reply = await request(app, "POST", "/stream", events=[body(b"ab", more=True), body(b"", more=True), body(b"c")])
    assert (reply.body, pieces) == (b"done", [b"ab", b"c"])


@pytest.mark.feature("F004-33")
async def test_cookies_are_parsed_strictly(app: App) -> None:
    seen: dict[str, str] = {}

    @app.get("/")
    async def handler(request: Request) -> None:
        seen.update(request.cookies)

    header = 'a=1; b=x=y=z; quoted="v"; novalue; =noname; bad name=1; a=second; ctl=a\x01b; n\xe4me=1; e='
    headers = [(b"cookie", header.encode("latin-1")), (b"cookie", b"other=2; b=later")]
    assert (await request(app, headers=headers)).status == 204
    assert seen == {"a": "1", "b": "x=y=z", "quoted": "v", "e": "", "other": "2"}


@pytest.mark.feature("F004-33")
async def test_fifty_cookies_and_a_huge_one_are_read(app: App) -> None:
    @app.get("/")
    async def handler(request: Request) -> int:
        return len(request.cookies)

    many = "; ".join(f"c{i}={i}" for i in range(50)) + "; big=" + "x" * 10_000
    assert (await request(app, headers={"cookie": many})).body == b"51"


async def test_markers_read_headers_and_cookies(app: App) -> None:
    @app.get("/")
    async def handler(x_thing: str = Header(), session: str = Cookie("none"), q: list[int] = Query([])) -> Any:
        return [x_thing, session, q]

    reply = await request(app, target="/?q=1&q=2", headers={"x-thing": "t", "cookie": "session=s"})
    assert reply.body == b'["t","s",[1,2]]'


# -- made by hand ------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F000-30")
async def test_a_request_made_by_hand_runs_without_a_server() -> None:
    app = application()

    @app.get("/gr\u00fc\u00dfe/{name}")
    async def greet(name: str, q: str, request: Request) -> str:
        return f"{name} {q} {request.url.netloc}"

    made = Request()
    made.url = urlparse("https://user:secret@shop.example/gr\u00fc\u00dfe/\u4e16\u754c?q=\u00e4%20b")
    reply = await app.handle(made)
    assert reply.body == "\u4e16\u754c \u00e4 b shop.example".encode()
    assert made.url.scheme == "https"
    made.url = "http://other.example/"
    assert made.url.netloc == "other.example"


@pytest.mark.feature("F001-36")
async def test_two_applications_share_nothing() -> None:
    first, second = application(max_body_size=3), application()
    for app, text in ((first, "first"), (second, "second")):
        app.post("/only" + text)(lambda text=text: text)

        @app.post("/")
        async def size(data: bytes = Body()) -> int:
            return len(data)

    assert (await request(first, "POST", "/onlysecond")).status == 404
    assert (await request(second, "POST", "/onlyfirst")).status == 404
    assert (await request(first, "POST", data=b"1234")).status == 413
    assert (await request(second, "POST", data=b"1234")).body == b"4"


# -- headers, query, host ----------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G10")
@pytest.mark.feature("FX-24")
async def test_too_many_header_fields_are_a_431_that_middleware_sees(app: App) -> None:
    statuses: list[int] = []

    async def watching(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        statuses.append(reply.http_status)
        return reply

    app.add_middleware(watching)
    many = [(b"x-%d" % i, b"v") for i in range(201)]
    reply = await request(app, "POST", "/body", many)
    assert (reply.status, statuses) == (431, [431])
    assert reply.headers["content-type"] == "application/problem+json"
    assert (await request(app, "POST", "/body", many[:200])).status == 200


@pytest.mark.guarantee("G10")
async def test_headers_that_are_too_big_are_a_431_for_whoever_reads_them(app: App) -> None:
    @app.get("/")
    async def handler(request: Request) -> str:
        return request.headers["x-big"]

    reply = await request(app, headers={"x-big": "v" * 70_000, "accept": "text/html"})
    assert (reply.status, reply.headers["content-type"]) == (431, "text/html; charset=utf-8")


@pytest.mark.guarantee("G10")
async def test_too_many_query_fields_are_a_414() -> None:
    app = application(max_query_fields=3)

    @app.get("/")
    async def handler(a: str) -> str:
        return a

    assert (await request(app, target="/?a=1&b=2&c=3")).body == b"1"
    assert (await request(app, target="/?a=1&b=2&c=3&d=4")).status == 414


@pytest.mark.parametrize(
    "host", ["a/b?x", "evil@x", "[::1", "a b", "h" * 10 + "\u00e9", "a:port", "a:123456", "a#b", "\\a"]
)
async def test_a_malformed_host_is_a_400_where_the_address_is_asked_for(app: App, host: str) -> None:
    @app.get("/")
    async def handler(request: Request) -> str:
        return request.url.geturl()

    assert (await request(app, headers={"host": host})).status == 400


async def test_two_hosts_are_a_400(app: App) -> None:
    @app.get("/")
    async def handler(request: Request) -> str:
        return request.url.geturl()

    assert (await request(app, headers=[(b"host", b"a"), (b"host", b"b")])).status == 400


@pytest.mark.parametrize("host", ["a", "a.example:8080", "[::1]:8000", "127.0.0.1", "xn--bcher-kva.example"])
async def test_a_good_host_is_the_address(app: App, host: str) -> None:
    @app.get("/")
    async def handler(request: Request) -> str:
        return request.url.netloc

    assert (await request(app, headers={"host": host})).body == host.encode()
    assert (await request(app)).body == b"127.0.0.1:8000"  # HTTP/1.0 needs no Host
    assert (await request(app, headers={"x-forwarded-host": "evil.example"})).body == b"127.0.0.1:8000"


@pytest.mark.parametrize("target", ["//evil.example/", "@evil.example"])
async def test_a_path_never_becomes_the_origin(app: App, target: str) -> None:
    seen: list[Any] = []

    async def look(request: Request, call_next: Any) -> Any:
        seen.append(request.url.hostname)
        return await call_next(request)

    app.add_middleware(look)
    reply = await request(app, target=target, headers={"host": "own.example"})
    assert reply.status in (400, 404)
    assert seen == ["own.example"]


async def test_the_path_has_no_prefix_and_the_prefix_is_whole_segments() -> None:
    app = application()

    @app.get("/{rest:path}")
    async def handler(request: Request) -> str:
        return request.path

    assert (await request(app, target="/api/x", root_path="/api")).body == b"/x"
    assert (await request(app, target="/apix", root_path="/api")).body == b"/apix"


async def test_the_lifespan_state_is_there_without_a_server_that_keeps_it() -> None:
    async def lifespan() -> Any:
        yield {"pool": "connected"}

    app = App(plugins=[], discover=False, lifespan=lifespan)

    @app.get("/")
    async def handler(request: Request) -> dict[str, Any]:
        state = dict(request.scope_state)
        request.scope_state["mine"] = 1
        return state

    for _ in range(2):
        assert (await request(app)).body == b'{"pool":"connected"}'


async def test_a_public_error_of_a_dependency_reaches_the_client(app: App) -> None:
    @app.get("/")
    async def handler(request: Request) -> None:
        raise BadRequest("no such thing")

    assert b"no such thing" in (await request(app)).body
