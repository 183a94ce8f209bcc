"""Which method a path answers: 404, 405, HEAD, OPTIONS, routes of several methods and of any."""

from __future__ import annotations

from typing import Any

import pytest

from microkit import App, MicroAPI

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G3")]


@pytest.mark.feature("F001-07")
async def test_a_path_that_no_route_matches_is_404(app: App, ask: Any) -> None:
    app.get("/users/{id:int}")(_hello)
    for path in ("/", "/users", "/users/x", "/users/7/x", "/user/7"):
        answer = await ask(app, "GET", path)
        assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json"), path


@pytest.mark.feature("F001-07")
async def test_405_allows_the_union_over_all_routes_that_match(app: App, ask: Any) -> None:
    app.get("/users/me")(_hello)
    app.put("/users/{id}")(_hello)
    app.delete("/{kind}/me")(_hello)
    app.post("/users/{id:int}")(_hello)
    answer = await ask(app, "PATCH", "/users/me")
    assert (answer.status, answer.allow) == (405, {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
    answer = await ask(app, "PATCH", "/users/7")
    assert (answer.status, answer.allow) == (405, {"PUT", "POST", "OPTIONS"})


@pytest.mark.feature("F001-04")
async def test_a_method_mismatch_falls_through_to_a_dynamic_route(app: App, ask: Any) -> None:
    @app.get("/users/me")
    async def me() -> str:
        return "me"

    @app.post("/users/{id}")
    async def update(id: str) -> str:
        return f"updated {id}"

    @app.get("/users/{id}/posts")
    async def posts(id: str) -> str:
        return f"posts of {id}"

    assert (await ask(app, "GET", "/users/me")).body == b"me"
    assert (await ask(app, "POST", "/users/me")).body == b"updated me"
    assert (await ask(app, "GET", "/users/me/posts")).body == b"posts of me"


@pytest.mark.feature("F001-08")
async def test_head_answers_as_get_without_a_body(app: App, ask: Any) -> None:
    @app.get("/static")
    async def static() -> Any:
        return 201, "hello", {"x-kind": "static"}

    @app.get("/items/{id}")
    async def item(id: str) -> str:
        return id

    answer = await ask(app, "HEAD", "/static")
    assert (answer.status, answer.body) == (201, b"")
    assert (answer.headers["content-length"], answer.headers["x-kind"]) == ("5", "static")
    answer = await ask(app, "HEAD", "/items/7890")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "4")


@pytest.mark.feature("F001-08")
async def test_head_belongs_to_its_get_not_to_a_lesser_head(app: App, ask: Any) -> None:
    app.get("/users/me")(_hello)

    @app.head("/users/{id}")
    async def head(id: str) -> Any:
        return 200, "", {"x-head": id}

    assert "x-head" not in (await ask(app, "HEAD", "/users/me")).headers
    assert (await ask(app, "HEAD", "/users/7")).headers["x-head"] == "7"
    assert (await ask(app, "GET", "/users/7")).status == 405


@pytest.mark.feature("F001-08")
async def test_a_head_route_replaces_the_automatic_one(app: App, ask: Any) -> None:
    @app.head("/x")
    async def head() -> Any:
        return 200, "", {"x-head": "mine"}

    app.get("/x")(_hello)
    assert (await ask(app, "HEAD", "/x")).headers["x-head"] == "mine"
    assert (await ask(app, "GET", "/x")).body == b"hello"


@pytest.mark.feature("F001-08")
async def test_an_error_on_head_has_no_body(app: App, ask: Any) -> None:
    app.post("/x")(_hello)
    for path, status in (("/x", 405), ("/nowhere", 404), ("/%zz", 400)):
        answer = await ask(app, "HEAD", path)
        assert (answer.status, answer.body) == (status, b""), path


@pytest.mark.feature("F001-08")
async def test_options_is_answered_unless_declared(app: App, ask: Any) -> None:
    app.get("/auto")(_hello)
    app.post("/auto")(_hello)

    @app.options("/own")
    async def own() -> str:
        return "mine"

    answer = await ask(app, "OPTIONS", "/auto")
    assert (answer.status, answer.body, answer.allow) == (204, b"", {"GET", "HEAD", "POST", "OPTIONS"})
    assert "content-length" not in answer.headers
    assert (await ask(app, "OPTIONS", "/own")).body == b"mine"
    assert (await ask(app, "GET", "/own")).allow == {"OPTIONS"}
    assert (await ask(app, "OPTIONS", "/nowhere")).status == 404


async def test_a_route_of_several_methods_answers_these(app: App, ask: Any) -> None:
    app.route("/x", methods=["get", "POST"])(_hello)
    for method, status in (("GET", 200), ("HEAD", 200), ("POST", 200), ("PUT", 405)):
        assert (await ask(app, method, "/x")).status == status, method
    assert (await ask(app, "PUT", "/x")).allow == {"GET", "HEAD", "POST", "OPTIONS"}


@pytest.mark.parametrize("path", ["/hook", "/hooks/7"])
async def test_a_route_without_methods_answers_every_method(app: App, ask: Any, path: str) -> None:
    app.route("/hook")(_hello)
    app.route("/hooks/{id}")(_hello)
    for method in ("GET", "POST", "OPTIONS", "TRACE", "PROPFIND", "X-OWN", "*"):
        answer = await ask(app, method, path)
        assert (answer.status, answer.body) == (200, b"hello"), method
    answer = await ask(app, "HEAD", path)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "5")


async def test_unknown_methods_are_not_allowed_and_reach_nothing(app: App, ask: Any) -> None:
    app.get("/x")(_hello)
    for method in ("TRACE", "CONNECT", "GETATTR", "_SEND", "get", "*", "WEBSOCKET", ""):
        assert (await ask(app, method, "/x")).status == 405, method
        assert (await ask(app, method, "/y")).status == 404, method


async def test_a_socket_route_is_no_http_route(app: App, ask: Any) -> None:
    app.websocket("/chat")(_hello)
    assert (await ask(app, "GET", "/chat")).status == 404
    assert (await ask(app, "OPTIONS", "/chat")).status == 404


@pytest.mark.feature("F001-09")
async def test_decorators_return_the_function_and_stack(app: App, ask: Any) -> None:
    handler = _fresh()
    for verb in ("get", "post", "put", "patch", "delete", "options"):
        assert getattr(app, verb)(f"/{verb}")(handler) is handler
        assert (await ask(app, verb.upper(), f"/{verb}")).body == b"fresh"
    assert app.head("/head")(handler) is handler
    assert (await ask(app, "HEAD", "/head")).status == 200

    @app.get("/a")
    @app.post("/b")
    @app.route("/c/{id}", methods=["PUT"])
    async def several() -> str:
        return "several"

    for method, path in (("GET", "/a"), ("POST", "/b"), ("PUT", "/c/1")):
        assert (await ask(app, method, path)).body == b"several"
    assert MicroAPI is App


async def _hello() -> str:
    return "hello"


def _fresh() -> Any:
    async def handler() -> str:
        return "fresh"

    return handler
