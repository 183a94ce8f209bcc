"""Re-routing by middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import pytest

import microkit
from microkit import Depends, HttpMiddleware, Kind, Router
from microkit_auto import App, Root, handler, reroute, reroute_to_app
from microkit_testkit import HandshakeRejected, TestClient

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F004-38")]
ClientFor = Callable[..., Awaitable[TestClient]]
LOG: list[str] = []


async def session(name: Any = "nobody"):
    LOG.append(f"open {name}")
    try:
        yield name
    finally:
        await anyio.lowlevel.checkpoint()
        LOG.append("closed")


class Site(App):
    async def index(self) -> str:
        return "index"

    async def greet(self, name: Any, times: int = 1) -> Any:
        return {"hello": [name] * times, "path": self.request.path, "segments": self.request.path_params}

    @handler()
    async def _secret(self, level: int = 0) -> str:
        return f"secret {level}"

    @handler("POST")
    async def _posted(self, name: Any) -> str:
        return f"posted {name}"

    @handler()
    async def _scoped(self, session: Annotated[str, Depends(session)]) -> Any:
        return session

    @handler()
    async def _stream(self, session: Annotated[str, Depends(session)]) -> Any:
        yield session
        yield self.request.path

    async def _helper(self, anything: object = None) -> str:
        return "never"

    async def ws_chat(self, ws: Any, room: Any) -> None:
        await ws.accept()
        await ws.send_json([room, self.request.path])

    @handler()
    async def _ws_secret(self, ws: Any, room: Any = "none") -> None:
        await ws.accept()
        await ws.send_json(["secret", room])


class Table(HttpMiddleware):
    """Explicit routes, as a middleware."""

    routes: dict[str, tuple[Any, ...]] = {
        "/hello": ("greet", "Al"),
        "/twice": ("greet", "Al", "2"),
        "/vault": ("_secret", "7"),
        "/vault/bad": ("_secret", "x"),
        "/surplus": ("_secret", "1", "2"),
        "/post": ("_posted",),
        "/scoped": ("_scoped",),
        "/stream": ("_stream",),
        "/helper": ("_helper", "x"),
        "/typo": ("gret",),
        "/greet/ignored": ("index",),
        "/function": (Site._secret,),
        "/explicit": ("_secret", "9"),
    }

    async def before_request(self, request: microkit.Request) -> None:
        if request.path in self.routes:
            reroute(request, *self.routes[request.path])


class Outcome(HttpMiddleware):
    async def before_request(self, request: microkit.Request) -> Any:
        return {"status_code": 403} if "forbid" in request.query else None

    async def after_request(self, request: Any, status_code: int, response_body: Any, extra_headers: Any) -> Any:
        return {"headers": [("x-status", str(status_code))]}


def _app(**options: Any) -> Site:
    app = Site(discover=False, **options)
    app.middlewares.append(Table())
    app.middlewares.append(Outcome())
    app.get("/explicit")(app._helper)
    return app


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/hello", 200, '{"hello":["Al"],"path":"/hello","segments":["Al"]}'),
        ("POST", "/hello", 200, '{"hello":["Al"],"path":"/hello","segments":["Al"]}'),
        ("GET", "/twice", 200, '{"hello":["Al","Al"],"path":"/twice","segments":["Al","2"]}'),
        ("GET", "/vault", 200, "secret 7"),
        ("HEAD", "/vault", 200, ""),
        ("GET", "/function", 200, "secret 0"),
        ("GET", "/greet/ignored", 200, "index"),
        ("POST", "/post?name=n", 200, "posted n"),
        ("GET", "/vault/bad", 400, None),
        ("GET", "/surplus", 404, None),
        ("GET", "/post?name=n", 405, None),
        ("GET", "/hello?forbid", 403, ""),  # the middleware inside of the one that re-routes
        ("GET", "/_secret", 404, None),
        ("GET", "/nowhere", 404, None),
        ("OPTIONS", "/post", 204, ""),
        ("GET", "/explicit", 200, "secret 9"),
        ("GET", "/", 200, "index"),
    ],
)
async def test_a_middleware_sends_a_call_to_a_handler(
    client_for: ClientFor, method: str, path: str, status: int, text: str | None
) -> None:
    client = await client_for(_app())
    response = await client.request(method, path)
    assert (response.status_code, response.headers["x-status"]) == (status, str(status))
    assert text is None or response.text == text


async def test_bodies_reach_the_handler(client_for: ClientFor) -> None:
    client = await client_for(_app())
    assert (await client.post("/post", data={"name": "form"})).text == "posted form"
    assert (await client.post("/post", json={"name": "json"})).text == "posted json"


@pytest.mark.parametrize("path", ["/typo", "/helper"])
async def test_what_is_no_handler_is_not_reached(client_for: ClientFor, path: str) -> None:
    client = await client_for(_app(), raise_server_exceptions=False)
    response = await client.get(path)
    assert response.status_code == 500
    assert "handler()" in str(response.error)


@pytest.mark.guarantee("G5")
@pytest.mark.parametrize(("path", "text"), [("/scoped?name=n", "n"), ("/stream?name=n", "n/stream")])
async def test_dependencies_of_the_handler_are_left(client_for: ClientFor, path: str, text: str) -> None:
    LOG.clear()
    client = await client_for(_app())
    assert (await client.get(path)).text == text
    assert LOG == ["open n", "closed"]


@pytest.mark.guarantee("G6")
async def test_no_middleware_is_gone_round(client_for: ClientFor) -> None:
    ran: list[str] = []

    class Admin(Root):
        @handler()
        async def _panel(self) -> str:
            return "panel"

    async def auth(request: microkit.Request, call_next: Any) -> Any:
        ran.append(request.path)
        return await call_next(request)

    async def to_panel(request: microkit.Request, call_next: Any) -> Any:
        if request.path.endswith("/panel"):
            reroute(request, "_panel")
        return await call_next(request)

    app = Site(discover=False)
    app.add_middleware(to_panel)
    admin = Router("/admin", middleware=[auth])
    admin.include(Admin())
    app.include(admin)
    client = await client_for(app, raise_server_exceptions=False)
    response = await client.get("/panel")
    assert response.status_code == 500
    assert "go round the middleware" in str(response.error)
    assert (await client.get("/admin/panel")).text == "panel"
    assert ran == ["/admin/panel"]


async def test_equal_names_of_several_sites(client_for: ClientFor) -> None:
    class One(Root):
        @handler()
        async def _page(self, tenant: str = "") -> str:
            return f"one {tenant}"

    class Two(Root):
        @handler()
        async def _page(self) -> str:
            return "two"

    one, two = One(), Two()
    chosen: list[Any] = []

    async def choose(request: microkit.Request, call_next: Any) -> Any:
        reroute(request, chosen[-1])
        return await call_next(request)

    app = App(discover=False)
    app.add_middleware(choose)
    app.include(one)
    app.include(two, prefix="/two")
    client = await client_for(app, raise_server_exceptions=False)
    for target, text in ((one._page, "one "), (Two._page, "two")):
        chosen.append(target)
        assert (await client.get("/x")).text == text
    chosen.append("_page")
    assert "several" in str((await client.get("/x")).error)


async def test_sockets_are_re_routed_too(client_for: ClientFor) -> None:
    async def table(connection: Any, call_next: Any) -> Any:
        if connection.path == "/room":
            reroute(connection, "ws_chat", "blue")
        elif connection.path == "/vault":
            reroute(connection, "_ws_secret", "7")
        elif connection.path == "/none":
            reroute(connection, "ws_chat")
        return await call_next(connection)

    app = Site(discover=False)
    app.add_middleware(table, kinds=Kind.SOCKET)
    client = await client_for(app)
    for path, first in (("/room", ["blue", "/room"]), ("/vault", ["secret", "7"]), ("/chat/x", ["x", "/chat/x"])):
        async with client.websocket(path) as ws:
            assert await ws.receive_json() == first
    for path in ("/none", "/_ws_secret", "/_secret"):
        with pytest.raises(HandshakeRejected):
            async with client.websocket(path):
                pass


class Api(App):
    async def where(self, *path: Any, name: Any = None) -> Any:
        return [self.request.path, self.request.scope["root_path"], list(path), name]

    async def stream(self) -> Any:
        yield "a"
        yield self.request.path


async def test_a_middleware_sends_a_call_to_another_application(client_for: ClientFor) -> None:
    started: list[str] = []
    api = Api(discover=False, on_startup=[lambda: started.append("api")], on_shutdown=[lambda: started.append("over")])
    other = Api(discover=False)

    async def by_host(request: microkit.Request, call_next: Any) -> Any:
        if request.path.startswith("/v1/"):
            reroute_to_app(request, api, mount_path="/v1")
        elif request.host == "api.example":
            reroute_to_app(request, api)
        elif request.host == "other.example":
            reroute_to_app(request, other, path="/where/x")
        return await call_next(request)

    app = Site(discover=False)
    app.mount("/_api", api)
    app.add_middleware(by_host)
    app.add_middleware(reads_the_body)
    async with TestClient(app, raise_server_exceptions=False) as client:
        assert (await client.get("/v1/where/a%2Fb")).json() == ["/where/a/b", "/v1", ["a/b"], None]
        host = {"host": "api.example"}
        assert (await client.post("/where", headers=host, data={"name": "n"})).json() == ["/where", "", [], "n"]
        response = await client.get("/stream", headers=host)
        assert (response.text, response.headers["x-outer"]) == ("a/stream", "yes")
        assert (await client.get("/nowhere", headers=host)).status_code == 404
        unmounted = await client.get("/", headers={"host": "other.example"})
        assert "not mounted" in str(unmounted.error)
        assert started == ["api"]
    assert started == ["api", "over"]


async def reads_the_body(request: microkit.Request, call_next: Any) -> Any:
    """A middleware inside of the one that re-routes; it reads the body before the other application does."""
    await request.body()
    reply = await call_next(request)
    reply.headers["x-outer"] = "yes"
    return reply


async def test_an_application_without_sites_is_left_alone() -> None:
    app = microkit.App(plugins=["microkit_auto.plugin"], discover=False)
    app.middlewares.append(Outcome())
    app.build()
    assert all(len(plan.layers) <= 1 and not plan.around for plan in app.table.plans)
