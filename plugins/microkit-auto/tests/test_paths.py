"""From a path to a handler and its positional arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import anyio
import pytest

import microkit
from microkit import Depends, RoutingError
from microkit_auto import App, Root, handler
from microkit_testkit import TestClient

pytestmark = pytest.mark.anyio
ClientFor = Callable[[Any], Awaitable[TestClient]]


class Pages(App):
    async def index(self) -> str:
        return "welcome"

    async def greet(self, name: Any = "Guest") -> str:
        return f"Hello, {name}!"

    def slow(self) -> str:
        return "sync"

    async def args(self, *args: str) -> Any:
        return list(args)

    async def after(self, first: str, *args: str) -> Any:
        return [first, *args]


async def _text(client: TestClient, path: str) -> Any:
    response = await client.get(path)
    return response.text if response.status_code == 200 else response.status_code


@pytest.mark.feature("F004-01")
async def test_an_instance_of_the_class_is_an_asgi_application() -> None:
    app, sent = Pages(discover=False), list[Any]()

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {"type": "http", "method": "GET", "path": "/greet/Al", "query_string": b"", "headers": []}
    await app(scope, receive, send)  # as any server calls it, without a lifespan
    assert sent[0]["status"] == 200
    assert sent[1]["body"] == b"Hello, Al!"
    await app.runtime.stop()


@pytest.mark.feature("F004-02")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "welcome"),
        ("/index", "welcome"),
        ("/greet", "Hello, Guest!"),
        ("/greet/Al", "Hello, Al!"),
        ("/greet/a%2Fb", "Hello, a/b!"),
        ("/slow", "sync"),
        ("/Greet", 404),
        ("/unknown", 404),
        ("/index/x", 404),
        ("/greet/%zz", 400),
    ],
)
async def test_paths_call_methods(client_for: ClientFor, path: str, expected: Any) -> None:
    assert await _text(await client_for(Pages(discover=False)), path) == expected


@pytest.mark.feature("F004-02")
async def test_sync_handlers_run_off_the_loop(client_for: ClientFor) -> None:
    order: list[str] = []

    class Site(App):
        def waits(self) -> str:
            anyio.from_thread.run(self._signal)
            return "done"

        async def _signal(self) -> None:
            order.append("the loop is free")

    assert await _text(await client_for(Site(discover=False)), "/waits") == "done"
    assert order == ["the loop is free"]


@pytest.mark.feature("F004-05")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/args", []),
        ("/args/a/b", ["a", "b"]),
        ("/args/a//b/", ["a", "", "b", ""]),
        ("/after/x", ["x"]),
        ("/after/x/y/z", ["x", "y", "z"]),
    ],
)
async def test_segments_bind_in_order(client_for: ClientFor, path: str, expected: Any) -> None:
    client = await client_for(Pages(discover=False))
    assert (await client.get(path)).json() == expected


class _None(App):
    async def index(self) -> Any:
        return "index"


class _Two(App):
    async def index(self, a: Any = "A", b: Any = "B") -> Any:
        return f"{a} {b}"


class _One(App):
    async def index(self, a: Any) -> Any:
        return a


class _All(App):
    async def index(self, *p: Any) -> Any:
        return " ".join(p)

    async def known(self) -> Any:
        return "known"


class _Named(App):
    async def index(self, *, a: Any = "A", **more: Any) -> Any:
        return a


@pytest.mark.feature("F004-03")
@pytest.mark.parametrize(
    ("site", "path", "expected"),
    [
        (_None, "/x", 404),
        (_Two, "/x", "x B"),
        (_Two, "/x/y", "x y"),
        (_Two, "/x/y/z", 404),
        (_One, "/x", "x"),
        (_One, "/", 400),
        (_One, "/index/q", "q"),
        (_All, "/x/y", "x y"),
        (_All, "//x", " x"),
        (_All, "/known", "known"),
        (_All, "/known/x", 404),  # a known name is never an argument of index
        (_All, "/_private", 404),
        (_All, "/ws_chat", 404),
        (_Named, "/x", 404),
    ],
)
async def test_an_unknown_name_is_an_argument_of_index(
    client_for: ClientFor, site: type[App], path: str, expected: Any
) -> None:
    assert await _text(await client_for(site(discover=False)), path) == expected


@pytest.mark.feature("F004-12")
@pytest.mark.parametrize(
    ("ignored", "path", "expected"),
    [
        (False, "/greet/Al/more", 404),
        (True, "/greet/Al/more", "Hello, Al!"),
        (False, "/slow/x", 404),
        (True, "/slow/x", "sync"),
        (True, "/unknown", 404),  # index takes nothing
    ],
)
async def test_surplus_segments(client_for: ClientFor, ignored: bool, path: str, expected: Any) -> None:
    app = Pages(discover=False, settings={"auto": {"ignore_surplus_segments": ignored}})
    assert await _text(await client_for(app), path) == expected


class Verbs(App):
    async def any(self) -> Any:
        return self.request.method

    @handler("GET", "post")
    async def some(self) -> Any:
        return self.request.method

    @handler("OPTIONS", "PROPFIND")
    async def odd(self) -> Any:
        return self.request.method


@pytest.mark.feature("F004-13")
@pytest.mark.guarantee("G3")
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_handler_answers_every_usual_method(client_for: ClientFor, method: str) -> None:
    client = await client_for(Verbs(discover=False))
    assert (await client.request(method, "/any")).text == method


@pytest.mark.guarantee("G3")
@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("HEAD", "/any", 200, None),
        ("OPTIONS", "/any", 204, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("TRACE", "/any", 405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("CONNECT", "/any", 405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("GETATTR", "/any", 405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("_SEND", "/any", 405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("*", "/any", 405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("DELETE", "/some", 405, "GET, HEAD, OPTIONS, POST"),
        ("PROPFIND", "/odd", 200, None),
        ("OPTIONS", "/odd", 200, None),
        ("GET", "/odd", 405, "OPTIONS, PROPFIND"),
        ("GETATTR", "/nowhere", 404, None),
        ("OPTIONS", "/nowhere", 404, None),
    ],
)
async def test_methods(client_for: ClientFor, method: str, path: str, status: int, allow: str | None) -> None:
    client = await client_for(Verbs(discover=False))
    response = await client.request(method, path)
    assert (response.status_code, response.headers.get("allow")) == (status, allow)


async def test_head_runs_the_handler_and_drops_the_body(client_for: ClientFor) -> None:
    ran: list[str] = []

    class Site(App):
        async def page(self) -> str:
            ran.append(self.request.method)
            return "twelve bytes"

    response = await (await client_for(Site(discover=False))).head("/page")
    assert (response.content, response.headers["content-length"], ran) == (b"", "12", ["HEAD"])


@pytest.mark.feature("F004-13")
@pytest.mark.guarantee("G3")
async def test_explicit_routes_come_first(client_for: ClientFor) -> None:
    app = Pages(discover=False)

    @app.get("/greet/{name:int}")
    async def numbered(name: int) -> Any:
        return {"explicit": name}

    @app.post("/slow")
    async def posted() -> Any:
        return {"explicit": "slow"}

    client = await client_for(app)
    assert (await client.get("/greet/7")).json() == {"explicit": 7}
    assert await _text(client, "/greet/Al") == "Hello, Al!"
    assert (await client.post("/slow")).json() == {"explicit": "slow"}
    assert await _text(client, "/slow") == "sync"
    assert app.url_for("greet") == "/greet"


async def test_methods_with_a_route_of_their_own_are_reached_by_it_alone(client_for: ClientFor) -> None:
    class Site(App):
        @microkit.get("/todos/{id:int}")
        async def todo(self, id: int) -> Any:
            return {"todo": id}

    client = await client_for(Site(discover=False))
    assert (await client.get("/todos/3")).json() == {"todo": 3}
    assert (await client.get("/todo")).status_code == 404


# -- several sites -----------------------------------------------------------------------------------------------------


class Blog(Root):
    async def index(self) -> str:
        return "the blog"

    async def post(self, slug: Any) -> str:
        return f"post {slug}"


class Shop(Root):
    async def index(self, tenant: str, item: Any = None) -> str:
        return f"{tenant}: {item}"

    async def cart(self, tenant: str, item: Any = None) -> str:
        return f"{tenant}'s cart: {item}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "welcome"),
        ("/blog", "the blog"),
        ("/blog/", "the blog"),
        ("/blog/post/x", "post x"),
        ("/blog/greet", 404),
        ("/blog/_x", 404),
        ("/blogs", 404),
        ("/shops/kiosk", "kiosk: None"),
        ("/shops/kiosk/tea", "kiosk: tea"),
        ("/shops/kiosk/cart/tea", "kiosk's cart: tea"),
        ("/shops/kiosk/cart/tea/x", 404),
        ("/greet/Al", "Hello, Al!"),
    ],
)
async def test_sites_below_prefixes(client_for: ClientFor, path: str, expected: Any) -> None:
    app = Pages(discover=False)
    app.include(Blog(), prefix="/blog")
    app.include(Shop(), prefix="/shops/{tenant}")
    assert await _text(await client_for(app), path) == expected


async def test_a_kernel_application_includes_sites(client_for: ClientFor) -> None:
    app = microkit.App(plugins=["microkit_auto.plugin"], discover=False)
    app.include(Blog())
    assert await _text(await client_for(app), "/post/x") == "post x"


async def test_a_site_within_a_site_brings_its_handlers(client_for: ClientFor) -> None:
    outer = _None(discover=False)
    outer.include(Pages(discover=False), prefix="/inner")
    client = await client_for(outer)
    assert await _text(client, "/inner/greet/Al") == "Hello, Al!"
    assert await _text(client, "/") == "index"


async def test_a_longer_prefix_comes_before_arguments(client_for: ClientFor) -> None:
    class Site(App):
        async def blog(self, *segments: Any) -> str:
            return f"arguments {segments}"

    app = Site(discover=False)

    class Sub(Root):
        async def post(self) -> str:
            return "of the prefix"

    app.include(Sub(), prefix="/blog")
    client = await client_for(app)
    assert await _text(client, "/blog/post") == "of the prefix"
    assert await _text(client, "/blog/other") == "arguments ('other',)"


def test_two_handlers_of_one_path_stop_the_start() -> None:
    app = Pages(discover=False)
    app.include(_Greeting())
    with pytest.raises(RoutingError, match=r"told apart.*greet"):
        app.build()


class _Greeting(Root):
    async def greet(self) -> None: ...


@pytest.mark.parametrize(("policy", "status"), [("strict", 404), ("ignore", 200), ("redirect", 308)])
async def test_trailing_slashes_follow_the_setting(client_for: ClientFor, policy: str, status: int) -> None:
    app = Pages(discover=False, settings={"app": {"trailing_slash": policy}})
    assert (await (await client_for(app)).get("/slow/")).status_code == status


async def test_handlers_of_one_name_share_it_by_method(client_for: ClientFor) -> None:
    class Reads(Root):
        @handler("GET")
        async def note(self, number: int) -> Any:
            return number

    class Writes(Root):
        @handler("POST")
        async def note(self) -> str:
            return "written"

    app = App(discover=False)
    app.include(Reads())
    app.include(Writes())
    client = await client_for(app)
    assert (await client.get("/note/1")).json() == 1
    assert (await client.post("/note")).text == "written"
    response = await client.post("/note/1")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_the_router_is_for_sites_only() -> None:
    app = Pages(discover=False, router="auto")
    app.get("/explicit")(_Greeting.greet)
    with pytest.raises(microkit.ConfigurationError, match="handlers of sites only"):
        app.build()


async def test_dependencies_are_overridden_while_it_runs(client_for: ClientFor) -> None:
    def user() -> str:
        return "real"

    class Site(App):
        async def page(self, name: Annotated[str, Depends(user)], page: int = 1) -> Any:
            return [name, page, self.request.path]

    client = await client_for(Site(discover=False))
    with client.override(user, lambda: "fake"):
        assert (await client.get("/page/2")).json() == ["fake", 2, "/page/2"]
    assert (await client.get("/page/2")).json() == ["real", 2, "/page/2"]


async def test_it_starts_again() -> None:
    app = Pages(discover=False)
    for _ in range(2):
        async with TestClient(app) as client:
            assert await _text(client, "/greet/Al") == "Hello, Al!"
