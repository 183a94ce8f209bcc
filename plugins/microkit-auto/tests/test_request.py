"""`self.request`: what it offers, and that nobody sees another call's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import microkit
from microkit import ConfigurationError, Depends, HttpMiddleware
from microkit_auto import App, Request, Root, WebSocketRequest
from microkit_testkit import TestClient

pytestmark = pytest.mark.anyio
ClientFor = Callable[..., Awaitable[TestClient]]


class Site(App):
    async def all(self, *args: Any) -> Any:
        request = self.request
        return {
            "method": request.method,
            "path": request.scope["path"],
            "path_params": request.path_params,
            "query_params": request.query_params,
            "body_params": request.body_params,
            "get_json": request.get_json,
            "files": sorted(request.files),
            "header": request.headers["X-Test"],
            "names": [name for name in request.headers if name == "x-test"],
        }

    async def ask(self) -> Any:
        request = self.request
        return [
            [request.query("q"), request.query("nothing", "d")],
            [request.form("f"), request.form("nothing", "d")],
            [request.json("j"), request.json("nothing", "d"), request.json()],
        ]

    async def raw(self) -> Any:
        return [len(piece) async for piece in self.request.stream()]


@pytest.mark.feature("F004-15")
async def test_what_it_offers(client_for: ClientFor) -> None:
    client = await client_for(Site(discover=False), headers={"X-Test": "yes"})
    common = {"method": "POST", "path": "/all/a/b", "path_params": ["a", "b"], "files": [], "header": "yes"}
    common |= {"names": ["x-test"], "query_params": {"q": ["1", ""], "r": ["2"]}}
    form = await client.post("/all/a/b?q=1&q=&r=2", data={"f": ["x", "y"], "g": ""})
    assert form.json() == common | {"body_params": {"f": ["x", "y"], "g": [""]}, "get_json": None}
    document = await client.post("/all/a/b?q=1&q=&r=2", json={"a": [1]})
    assert document.json() == common | {"body_params": {}, "get_json": {"a": [1]}}
    get = await client.get("/all/a/b?q=1&q=&r=2")
    assert get.json() == common | {"method": "GET", "body_params": {}, "get_json": None}


@pytest.mark.feature("F004-16")
async def test_accessors(client_for: ClientFor) -> None:
    client = await client_for(Site(discover=False))
    nothing = [None, "d"]
    assert (await client.post("/ask?q=1", data={"f": "2"})).json() == [["1", "d"], ["2", "d"], [None, "d", None]]
    assert (await client.post("/ask", json={"j": 3})).json() == [nothing, nothing, [3, "d", {"j": 3}]]
    assert (await client.post("/ask", json=[3])).json() == [nothing, nothing, [None, "d", [3]]]
    assert (await client.get("/ask")).json() == [nothing, nothing, [None, "d", None]]


@pytest.mark.feature("F004-16")
async def test_a_session_is_given_a_new_id_by_what_manages_it(client_for: ClientFor) -> None:
    class Session(dict[str, Any]):
        id = "old"

        def regenerate(self) -> None:
            self.id = "new"

    kept: list[Any] = [Session(user="Al"), {}]

    class Login(App):
        async def login(self, which: int) -> Any:
            self.request.session = kept[which]
            self.request.regenerate_session()
            return self.request.session.id

    client = await client_for(Login(discover=False), raise_server_exceptions=False)
    assert (await client.get("/login/0")).text == "new"
    assert kept[0] == {"user": "Al"}
    assert isinstance((await client.get("/login/1")).error, ConfigurationError)


async def test_a_raw_body_is_left_to_the_handler(client_for: ClientFor) -> None:
    async def pieces() -> Any:
        yield b"12"
        yield b"345"

    client = await client_for(Site(discover=False))
    response = await client.post("/raw", content=pieces(), headers={"content-type": "application/octet-stream"})
    assert response.json() == [2, 3]


async def test_a_call_without_a_body_reads_nothing() -> None:
    class Quiet(App):
        async def page(self) -> str:
            return "page"

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(event: Any) -> None:
        statuses.append(event.get("status"))

    statuses: list[Any] = []
    app = Quiet(discover=False)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"5")]
    scope = {"type": "http", "path": "/page", "query_string": b"", "headers": headers}
    await app({**scope, "method": "GET"}, receive, send)
    assert statuses == [200, None]
    await app.runtime.stop()


# -- whose request it is -----------------------------------------------------------------------------------------------


class Slow(App):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.waiting = 0
        self.all_here = anyio.Event()

    async def _meet(self) -> None:
        self.waiting += 1
        if self.waiting == 20:
            self.all_here.set()
        await self.all_here.wait()

    async def page(self, number: Any) -> Any:
        before = self.request.query("n")
        await self._meet()
        return [number, before, self.request.query("n")]

    async def stream(self, number: Any) -> Any:
        async def pieces() -> Any:
            yield f"{number} {self.request.query('n')}"
            await self._meet()
            yield f" {self.request.query('n')}"

        return pieces()

    def sync(self, number: Any) -> Any:
        anyio.from_thread.run(self._meet)
        yield f"{number} {self.request.query('n')}"
        yield f" {self.request.query('n')}"


@pytest.mark.feature("F004-14")
async def test_concurrent_calls_never_see_each_others(client_for: ClientFor) -> None:
    app = Slow(discover=False)
    client = await client_for(app)
    got: dict[int, Any] = {}

    async def ask(number: int) -> None:
        kind = "stream" if number % 2 else "page"
        response = await client.get(f"/{kind}/{number}?n={number}")
        got[number] = response.json() if kind == "page" else response.text

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(ask, number)
    assert got == {n: f"{n} {n} {n}" if n % 2 else [str(n)] * 3 for n in range(20)}


@pytest.mark.feature("F004-14")
async def test_sync_handlers_have_it_in_their_thread(client_for: ClientFor) -> None:
    class Plain(App):
        def page(self) -> Any:
            return [self.request.query("n"), self.request.method]

    client = await client_for(Plain(discover=False))
    got: list[Any] = []

    async def ask(number: int) -> None:
        got.append((await client.get(f"/page?n={number}")).json())

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(ask, number)
    assert sorted(got) == [[str(number), "GET"] for number in range(10)]


@pytest.mark.feature("F004-14")
async def test_sync_generators_have_it_in_their_thread(client_for: ClientFor) -> None:
    app = Slow(discover=False)
    app.waiting = 19
    client = await client_for(app)
    assert (await client.get("/sync/1?n=7")).text == "1 7 7"


@pytest.mark.feature("F004-14")
async def test_a_call_within_a_call_gives_it_back(client_for: ClientFor) -> None:
    class Nested(App):
        async def outer(self) -> Any:
            seen = [self.request.query("n")]
            inner = await self.handle(microkit.Request("GET", "/inner?n=2"))
            seen.append(self.request.query("n"))
            stream = await self.handle(microkit.Request("GET", "/stream?n=3"))
            async for piece in stream.body:  # type: ignore[union-attr]
                seen += [piece.decode(), self.request.query("n")]
            return [*seen, inner.body.decode()]

        async def inner(self) -> Any:
            return self.request.query("n")

        async def stream(self) -> Any:
            yield self.request.query("n")
            yield self.request.query("n")

    app = Nested(discover=False)
    client = await client_for(app)
    assert (await client.get("/outer?n=1")).json() == ["1", "1", "3", "1", "3", "1", "2"]
    with pytest.raises(RuntimeError, match="no current request"):
        _ = app.request


@pytest.mark.feature("F004-14")
async def test_middleware_dependencies_explicit_routes_and_errors_have_it(client_for: ClientFor) -> None:
    seen: list[str] = []

    class Watching(HttpMiddleware):
        async def before_request(self, request: microkit.Request) -> None:
            seen.append(f"before {app.request.method} {app.request == Request(request)}")

        async def after_request(self, request: Any, status_code: int, response_body: Any, extra_headers: Any) -> None:
            seen.append(f"after {app.request.path} {status_code}")

    def user() -> Any:
        return app.request.query("user")

    class Shop(App):
        async def page(self, user: Any = Depends(user)) -> Any:
            return user

        async def broken(self) -> Any:
            raise OSError(self.request.path)

    app = Shop(discover=False)
    app.middlewares.append(Watching())

    @app.get("/explicit/{x}")
    async def explicit(x: str) -> Any:
        return [app.request.path, app.request.path_params]

    client = await client_for(app, raise_server_exceptions=False)
    assert (await client.get("/page?user=Al")).text == "Al"
    assert (await client.get("/explicit/1")).json() == ["/explicit/1", ["1"]]
    for path in ("/broken", "/nowhere"):
        await client.get(path)
    assert seen == [
        *("before GET True", "after /page 200"),
        *("before GET True", "after /explicit/1 200"),
        *("before GET True", "after /broken 500"),
        *("before GET True", "after /nowhere 404"),
    ]


async def test_what_is_set_on_one_view_all_views_have(client_for: ClientFor) -> None:
    async def authenticate(request: microkit.Request, call_next: Any) -> Any:
        Request(request).user = "Al"
        reply = await call_next(request)
        reply.headers["x-seen"] = request.seen  # type: ignore[attr-defined]
        return reply

    class Home(App):
        async def index(self, request: Request, again: microkit.Request) -> Any:
            self.request.seen = "yes"
            return [self.request.user, request == self.request == Request(again), hash(request) == hash(self.request)]

    app = Home(discover=False)
    app.add_middleware(authenticate)
    response = await (await client_for(app)).get("/")
    assert (response.json(), response.headers["x-seen"]) == (["Al", True, True], "yes")


async def test_middleware_parses_the_body_before_it_asks_for_fields(client_for: ClientFor) -> None:
    class Csrf(HttpMiddleware):
        async def before_request(self, request: microkit.Request) -> Any:
            view = Request(request)
            if request.method == "POST":
                if view.query("early"):
                    with pytest.raises(RuntimeError, match="parse"):
                        _ = view.body_params
                await view.parse()
            return None if view.form("token") == "t" else {"status_code": 403, "body": "no token"}

    class Forms(App):
        async def save(self, name: Any) -> Any:
            return name

    app = Forms(discover=False)
    app.middlewares.append(Csrf())
    client = await client_for(app)
    assert (await client.post("/save?early=1", data={"token": "t", "name": "n"})).text == "n"
    assert (await client.post("/save", data={"name": "n"})).status_code == 403
    assert (await client.get("/save")).status_code == 403


async def test_a_root_has_the_request_of_the_application_that_runs_it(client_for: ClientFor) -> None:
    class Part(Root):
        async def page(self) -> Any:
            return self.request.path

    part = Part()
    app = App(discover=False)
    app.include(part, prefix="/a")
    app.include(part, prefix="/b")
    client = await client_for(app)
    assert [(await client.get(path)).text for path in ("/a/page", "/b/page")] == ["/a/page", "/b/page"]


async def test_a_class_is_made_per_call_with_what_it_needs(client_for: ClientFor) -> None:
    class Repository:
        name = "repository"

    class Part(Root):
        def __init__(self, repository: Repository) -> None:
            self.repository = repository

        async def page(self, x: Any, *args: Any, **more: Any) -> Any:
            return [self.repository.name, self.request.path, x, list(args), more]

        async def ws_page(self, socket: Any, x: Any) -> None:
            await socket.accept()
            await socket.send_json([self.repository.name, x])

    app = App(discover=False, services=[Part])
    app.registry.add_services([Repository])
    client = await client_for(app)
    assert (await client.get("/page/1/2?y=3&self=4")).json() == ["repository", "/page/1/2", "1", ["2"], {"y": "3"}]
    async with client.websocket("/page/1") as ws:
        assert await ws.receive_json() == ["repository", "1"]


def test_a_websocket_request_is_a_request() -> None:
    assert issubclass(WebSocketRequest, Request)
