"""What results become, redirects, templates, and what surrounds the handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import microkit
from microkit import ConfigurationError, HttpMiddleware, Provider, RedirectResponse, Router, Templates
from microkit.inspect import inspect_app
from microkit_auto import App, Root, handler
from microkit_testkit import TestClient

pytestmark = pytest.mark.anyio
ClientFor = Callable[..., Awaitable[TestClient]]
HTML = "text/html; charset=utf-8"
SHARED = [("x-shared", "yes")]


class Results(App):
    async def text(self) -> Any:
        return "grüße <b>"

    async def data(self) -> Any:
        return b"\x00\x01"

    async def json(self) -> Any:
        return {"a": [1, None, True]}

    async def listed(self) -> Any:
        return ["a"]

    async def number(self) -> Any:
        return 5

    async def none(self) -> None: ...

    async def created(self) -> Any:
        return 201, "made"

    async def teapot(self) -> Any:
        return 418, {"short": True}, SHARED

    async def typed(self) -> Any:
        return 200, "a,b", {"content-type": "text/csv"}

    async def swapped(self) -> Any:
        return {"error": 1}, 400

    async def pair(self) -> Any:
        return 1, 2

    async def alone(self) -> Any:
        return (5,)

    async def plain(self) -> Any:
        return microkit.TextResponse("plain")


@pytest.mark.feature("F004-18")
@pytest.mark.feature("F004-19")
@pytest.mark.parametrize(
    ("path", "status", "media_type", "content"),
    [
        ("/text", 200, HTML, "grüße <b>".encode()),
        ("/data", 200, "application/octet-stream", b"\x00\x01"),
        ("/json", 200, "application/json", b'{"a":[1,null,true]}'),
        ("/listed", 200, "application/json", b'["a"]'),
        ("/number", 200, "application/json", b"5"),
        ("/none", 204, None, b""),
        ("/created", 201, HTML, b"made"),
        ("/teapot", 418, "application/json", b'{"short":true}'),
        ("/typed", 200, "text/csv", b"a,b"),
        ("/plain", 200, "text/plain; charset=utf-8", b"plain"),
    ],
)
async def test_results(client_for: ClientFor, path: str, status: int, media_type: str | None, content: bytes) -> None:
    client = await client_for(Results(discover=False))
    response = await client.get(path)
    assert (response.status_code, response.headers.get("content-type"), response.content) == (
        status,
        media_type,
        content,
    )
    assert len(response.headers.getlist("content-type")) <= 1


@pytest.mark.feature("F004-19")
@pytest.mark.parametrize("path", ["/swapped", "/pair", "/alone"])
async def test_a_tuple_that_is_no_reply_is_a_logged_error(client_for: ClientFor, path: str) -> None:
    client = await client_for(Results(discover=False), raise_server_exceptions=False)
    assert (await client.get(path)).status_code == 500


@pytest.mark.feature("F004-19")
async def test_shared_headers_are_left_alone(client_for: ClientFor) -> None:
    app = Results(discover=False)

    async def cookies(request: microkit.Request, call_next: Any) -> Any:
        reply = await call_next(request)
        reply.set_cookie("session_id", request.query["who"])
        return reply

    app.add_middleware(cookies)
    client = await client_for(app)
    for who in ("first", "second"):
        response = await client.get(f"/teapot?who={who}")
        (cookie,) = response.headers.getlist("set-cookie")
        assert cookie.startswith(f"session_id={who};")
    assert SHARED == [("x-shared", "yes")]


async def test_text_elsewhere_stays_plain(client_for: ClientFor) -> None:
    app = Results(discover=False)
    app.get("/elsewhere")(lambda: "<b>")
    client = await client_for(app)
    assert (await client.get("/elsewhere")).headers["content-type"] == "text/plain; charset=utf-8"
    assert (await client.get("/text")).headers["content-type"] == HTML


class Streams(App):
    closed: list[str] = []

    async def returned(self) -> Any:
        async def pieces() -> Any:
            for number in range(3):
                yield f"{number}\n"

        return pieces()

    async def yielded(self) -> Any:
        yield "a"
        yield b"b"

    def sync(self) -> Any:
        yield "a"
        yield "b"

    async def status(self) -> Any:
        return 202, (piece for piece in ("a", "b"))

    async def endless(self) -> Any:
        try:
            while True:
                yield "piece"
                await anyio.lowlevel.checkpoint()
        finally:
            self.closed.append(self.request.path)


@pytest.mark.feature("F004-20")
@pytest.mark.parametrize(
    ("path", "status", "chunks"),
    [
        ("/returned", 200, [b"0\n", b"1\n", b"2\n"]),
        ("/yielded", 200, [b"a", b"b"]),
        ("/sync", 200, [b"a", b"b"]),
        ("/status", 202, [b"a", b"b"]),
    ],
)
async def test_generators_stream(client_for: ClientFor, path: str, status: int, chunks: list[bytes]) -> None:
    client = await client_for(Streams(discover=False))
    async with client.stream("GET", path) as response:
        assert (response.status_code, response.headers["content-type"]) == (status, HTML)
        assert [chunk async for chunk in response.chunks()] == chunks


@pytest.mark.feature("F004-20")
async def test_a_stream_is_closed_when_the_client_leaves(client_for: ClientFor) -> None:
    Streams.closed.clear()
    client = await client_for(Streams(discover=False))
    async with client.stream("GET", "/endless") as response:
        assert await response.receive() == b"piece"
    assert Streams.closed == ["/endless"]


# -- redirects ---------------------------------------------------------------------------------------------------------


class Redirects(App):
    async def go(self, to: str, external: bool = False) -> Any:
        return self._redirect(to, [("x-why", "moved")], external=external)


@pytest.mark.feature("F004-22")
@pytest.mark.parametrize(
    ("to", "location"), [("/next?a=1#b", "/next?a=1#b"), ("next", "next"), ("/grüße", "/gr%C3%BC%C3%9Fe"), ("", "")]
)
async def test_redirects(client_for: ClientFor, to: str, location: str) -> None:
    client = await client_for(Redirects(discover=False))
    response = await client.get("/go", params={"to": to})
    assert (response.status_code, response.headers["location"], response.headers["x-why"]) == (302, location, "moved")


@pytest.mark.feature("F004-22")
@pytest.mark.parametrize(
    "to",
    [
        "//evil",
        "/\\evil",
        "\\\\evil",
        "javascript:alert(1)",
        "\t//evil",
        " //evil",
        "http://evil/",
        "/a\r\nx: y",
        "/\0",
        "mailto:a@b",
    ],
)
async def test_redirects_elsewhere_are_refused(client_for: ClientFor, to: str) -> None:
    client = await client_for(Redirects(discover=False), raise_server_exceptions=False)
    response = await client.get("/go", params={"to": to})
    assert response.status_code == 500
    assert isinstance(response.error, ValueError)
    if to == "http://evil/":
        assert (await client.get("/go", params={"to": to, "external": "1"})).headers["location"] == to


def test_a_redirect_is_made_without_a_call() -> None:
    assert isinstance(Redirects(discover=False)._redirect("/"), RedirectResponse)


# -- templates ---------------------------------------------------------------------------------------------------------


class Upper:
    """A renderer of templates as a plugin brings it."""

    async def render(self, name: str, values: Mapping[str, Any]) -> str:
        await anyio.lowlevel.checkpoint()
        return f"<h1>{name}: {sorted(values.items())}</h1>"


class Pages(App):
    async def index(self) -> Any:
        return await self._render_template("index.html", name="Al", self="me")

    def sync(self) -> Any:
        return anyio.from_thread.run(self._render_template, "sync.html")


class Part(Root):
    async def part(self) -> Any:
        return await self._render_template("part.html")


@pytest.mark.feature("F004-23")
async def test_templates_are_rendered_by_whoever_provides_that(client_for: ClientFor) -> None:
    app = Pages(discover=False, service_providers=[[Provider(Templates, Upper)]])
    app.include(Part())
    client = await client_for(app)
    response = await client.get("/")
    assert (response.text, response.headers["content-type"]) == (
        "<h1>index.html: [('name', 'Al'), ('self', 'me')]</h1>",
        HTML,
    )
    assert (await client.get("/part")).text == "<h1>part.html: []</h1>"
    assert (await client.get("/sync")).text == "<h1>sync.html: []</h1>"


@pytest.mark.feature("F004-23")
@pytest.mark.feature("F004-24")
async def test_without_templates_the_error_names_the_plugin(client_for: ClientFor) -> None:
    app = Pages(discover=False)
    client = await client_for(app, raise_server_exceptions=False)
    response = await client.get("/")
    assert response.status_code == 500
    assert isinstance(response.error, ConfigurationError)
    assert "microkit-jinja2" in str(response.error)
    assert "jinja" not in response.text
    with pytest.raises(RuntimeError, match="none is running"):
        await Part()._render_template("x")


# -- middleware, groups, mounts, life ----------------------------------------------------------------------------------


class Tracing(HttpMiddleware):
    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    async def before_request(self, request: microkit.Request) -> Any:
        self.log.append(f"{self.name} before {request.path}")
        return {"status_code": 401, "body": "stop"} if request.query.get("stop") == self.name else None

    async def after_request(self, request: Any, status_code: int, response_body: Any, extra_headers: Any) -> Any:
        self.log.append(f"{self.name} after {status_code}")
        return {"headers": [("x-last", self.name)]}


class Site(App):
    async def page(self, number: int = 1) -> Any:
        return number

    async def broken(self) -> Any:
        raise OSError


@pytest.mark.feature("F004-34")
@pytest.mark.feature("F004-35")
@pytest.mark.feature("F004-36")
@pytest.mark.feature("F004-46")
@pytest.mark.guarantee("G6")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/page", 200),
        ("/page/x", 400),
        ("/page/1/2", 404),
        ("/nowhere", 404),
        ("/broken", 500),
        ("/page?stop=outer", 401),
    ],
)
async def test_middlewares_wrap_every_reply_in_order(client_for: ClientFor, path: str, status: int) -> None:
    log: list[str] = []
    app = Site(discover=False)
    app.middlewares.append(Tracing(log, "outer"))
    app.middlewares.append(Tracing(log, "inner"))
    client = await client_for(app, raise_server_exceptions=False)
    response = await client.get(path)
    assert (response.status_code, response.headers["x-last"]) == (status, "outer")
    inner = [] if status == 401 else [f"inner before {path}", f"inner after {status}"]
    assert log == [f"outer before {path.partition('?')[0]}", *inner, f"outer after {status}"]
    with pytest.raises(ConfigurationError, match="running"):
        app.middlewares.append(Tracing(log, "late"))


@pytest.mark.guarantee("G6")
async def test_a_group_wraps_its_site_alone(client_for: ClientFor) -> None:
    log: list[str] = []
    app = Site(discover=False)
    admin = Router("/admin")
    admin.add_middleware(Tracing(log, "admin"))
    admin.include(Part())
    app.include(admin)
    client = await client_for(app, raise_server_exceptions=False)
    for path in ("/page", "/nowhere", "/part"):
        await client.get(path)
    assert log == []
    for path in ("/admin/part", "/admin/nowhere"):
        await client.get(path)
    assert log[0::2] == ["admin before /admin/part", "admin before /admin/nowhere"]


@pytest.mark.guarantee("G6")
def test_a_guard_that_misses_a_handler_stops_the_start() -> None:
    class Sockets(Site):
        async def ws_chat(self, ws: Any) -> None: ...

    async def auth(request: microkit.Request, call_next: Any) -> Any: ...

    app = Sockets(discover=False)
    app.add_middleware(auth, guard=True)
    app.build()

    @app.every(1)
    async def tick() -> None: ...

    with pytest.raises(ConfigurationError, match="guard"):
        _ = app.table


async def test_a_site_is_mounted_in_another(client_for: ClientFor) -> None:
    class Api(App):
        async def where(self, *path: Any) -> Any:
            return [self.request.path, self.request.scope["root_path"], list(path)]

        async def ws_where(self, ws: Any) -> None:
            await ws.accept()
            await ws.send_text(self.request.path)

    app = Site(discover=False)
    app.mount("/api", Api(discover=False))
    client = await client_for(app)
    assert (await client.get("/api/where/a")).json() == ["/where/a", "/api", ["a"]]
    assert (await client.get("/apix/where")).status_code == 404
    async with client.websocket("/api/where") as ws:
        assert await ws.receive_text() == "/where"


@pytest.mark.feature("F004-50")
async def test_startup_and_shutdown_handlers() -> None:
    log: list[str] = []
    app = Site(discover=False)

    def add(kind: str, name: str) -> Any:
        async def hook() -> None:
            log.append(f"{kind} {name}")

        return hook

    app.startup_handlers.extend([add("start", "1"), add("start", "2")])
    app.shutdown_handlers.extend([add("stop", "1"), add("stop", "2")])
    async with TestClient(app) as client:
        assert log == ["start 1", "start 2"]
        assert (await client.get("/page")).json() == 1
    assert log == ["start 1", "start 2", "stop 2", "stop 1"]


async def test_options_of_a_handler(client_for: ClientFor) -> None:
    class Optioned(App):
        @handler("POST", max_body_size=4, name="store")
        async def put(self, x: Any = None) -> Any:
            return await self.request.text()

        @handler(timeout=0.01)
        async def slow(self) -> None:
            await anyio.sleep_forever()

    app = Optioned(discover=False)
    client = await client_for(app)
    assert (await client.post("/put", content=b"1234")).text == "1234"
    assert (await client.post("/put", data={"x": "12345"})).status_code == 413
    assert (await client.get("/slow")).status_code == 504
    assert app.url_for("store") == "/put"


def test_the_two_plans_of_a_handler_are_told_apart_in_listings() -> None:
    info = inspect_app(Site(discover=False))
    rows = [(each.address, each.name) for each in info.bindings]
    assert rows[:2] == [("GET|DELETE /page", "page"), ("POST|PUT|PATCH /page", "page")]
