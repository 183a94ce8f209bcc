"""How a path is read: segments, escapes, empty segments, trailing slashes, mount prefixes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from microkit import App, Converter, Request

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G3")]
NewApp = Callable[..., App]


@pytest.fixture
def echo(app: App) -> App:
    """Answers with what the router and the request say of the path."""
    for path in ("/", "/users/{id}", "/users/{id}/posts", "/files/{rest:path}", "/caf\u00e9/{id}"):
        app.get(path)(_echo)
    return app


@pytest.mark.feature("F001-06")
async def test_values_are_bound_by_name_and_kept_in_the_request(app: App, ask: Any) -> None:
    @app.get("/users/{uid}/posts/{number:int}")
    async def post(request: Request, number: int, uid: str) -> Any:
        assert request.path_params == {"uid": uid, "number": number}
        return {"path": request.path, **request.path_params}

    answer = await ask(app, "GET", "/users/j%C3%B6rg%20x/posts/7")
    assert answer.body.decode() == '{"path":"/users/j\u00f6rg x/posts/7","uid":"j\u00f6rg x","number":7}'


@pytest.mark.feature("F001-05")
async def test_parameter_names_belong_to_the_route(app: App, ask: Any) -> None:
    @app.get("/users/{id}")
    async def user(request: Request) -> Any:
        return request.path_params

    @app.get("/users/{uid}/posts")
    async def posts(request: Request) -> Any:
        return request.path_params

    assert (await ask(app, "GET", "/users/7")).body == b'{"id":"7"}'
    assert (await ask(app, "GET", "/users/7/posts")).body == b'{"uid":"7"}'


@pytest.mark.feature("F001-12")
@pytest.mark.parametrize(
    "path", ["//users///9/", "//users/9", "/users//9", "/users/9/", "/users/", "/users", "//", "/users//posts"]
)
async def test_empty_segments_are_not_collapsed(echo: App, ask: Any, path: str) -> None:
    assert (await ask(echo, "GET", path)).status == 404


@pytest.mark.feature("F001-13")
@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/users/a%2Fb", '{"id":"a/b"}'),
        ("/users/a%2fb/posts", '{"id":"a/b"}'),
        ("/users/%2F%2Fevil", '{"id":"//evil"}'),
        ("/users/%2e%2e", '{"id":".."}'),
        ("/users/a%25b", '{"id":"a%b"}'),
        ("/users/a%252Fb", '{"id":"a%2Fb"}'),
        ("/users/+", '{"id":"+"}'),
        ("/caf%C3%A9/x", '{"id":"x"}'),
        ("/%75sers/x", '{"id":"x"}'),
        ("/files/a%2Fb/c", '{"rest":"a/b/c"}'),
        ("/files/", '{"rest":""}'),
    ],
)
async def test_segments_are_decoded_one_by_one(echo: App, ask: Any, path: str, values: str) -> None:
    answer = await ask(echo, "GET", path)
    assert (answer.status, answer.body.decode()) == (200, values)


@pytest.mark.feature("F001-13")
@pytest.mark.parametrize(
    "path", ["/users/%", "/users/%2", "/users/%zz", "/users/%+1", "/%zz", "/users/%ff", "/%C3(", "/users/%ED%A0%80"]
)
async def test_malformed_escapes_are_400(echo: App, ask: Any, path: str) -> None:
    assert (await ask(echo, "GET", path)).status == 400


@pytest.mark.feature("F001-13")
@pytest.mark.parametrize("raw_path", [b"/users/%00", b"/users/\0", None])
async def test_a_nul_is_400(echo: App, ask: Any, raw_path: bytes | None) -> None:
    assert (await ask(echo, "GET", "", path="/users/\0", raw_path=raw_path)).status == 400


@pytest.mark.parametrize("path", ["@google.com", "*", "http://evil.example/users/7", "users/7"])
async def test_a_path_without_a_slash_at_its_beginning_is_400(echo: App, ask: Any, path: str) -> None:
    echo.get("/google.com")(_echo)
    assert (await ask(echo, "GET", path)).status == 400


async def test_an_empty_path_is_the_root(echo: App, ask: Any) -> None:
    assert (await ask(echo, "GET", "")).status == 200


async def test_a_server_without_raw_path_is_served(echo: App, ask: Any) -> None:
    answer = await ask(echo, "GET", "", path="/users/50%", raw_path=None)
    assert answer.body == b'{"id":"50%"}'
    answer = await ask(echo, "GET", "", path="/app/users/50%", raw_path=None, root_path="/app")
    assert answer.body == b'{"id":"50%"}'


async def test_a_rewritten_path_counts_whatever_raw_path_says(echo: App, ask: Any) -> None:
    answer = await ask(echo, "GET", "/old/a%20b", path="/users/new")
    assert answer.body == b'{"id":"new"}'


@pytest.mark.parametrize(
    ("root_path", "path", "expected"),
    [
        ("/app", "/app/users/7", '{"id":"7"}'),
        ("/app/", "/app/users/7", '{"id":"7"}'),
        ("/app", "/users/7", '{"id":"7"}'),
        ("/app", "/app/users/a%2Fb", '{"id":"a/b"}'),
        ("/a b", "/a%20b/users/a%2Fb", '{"id":"a/b"}'),
        ("/users", "/users/users/7", '{"id":"7"}'),
        ("/t/a/b", "/t/a%2Fb/users/7", '{"id":"7"}'),
        ("/app", "/app", "{}"),
        ("/app", "/app/", "{}"),
        ("/app", "/apps/7", None),
        ("/app", "/appusers/7", None),
    ],
)
async def test_routes_are_below_the_prefix_of_the_server(
    echo: App, ask: Any, root_path: str, path: str, expected: str | None
) -> None:
    answer = await ask(echo, "GET", path, root_path=root_path)
    assert (answer.body.decode() if answer.status == 200 else None) == expected


@pytest.mark.parametrize("path", ["/app/users/7", "/apps/users/7"])
async def test_middleware_sees_the_path_that_the_router_sees(app: App, ask: Any, path: str) -> None:
    @app.add_middleware
    async def guard(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        reply.headers["x-path"] = request.path
        return reply

    app.get("/{a}/{b}")(_echo)
    app.get("/{a}/{b}/{c}")(_echo)
    answer = await ask(app, "GET", path, root_path="/app")
    assert answer.status == 200
    assert answer.headers["x-path"].count("/") == len(answer.body.decode().split(","))


# -- trailing slashes --------------------------------------------------------------------------------------------------


@pytest.mark.feature("F001-12")
async def test_strict_keeps_both_forms_apart(new_app: NewApp, ask: Any) -> None:
    app = new_app(trailing_slash="strict")
    app.get("/a")(_echo)
    app.get("/b/")(_echo)
    statuses = {path: (await ask(app, "GET", path)).status for path in ("/a", "/a/", "/b", "/b/")}
    assert statuses == {"/a": 200, "/a/": 404, "/b": 404, "/b/": 200}


@pytest.mark.feature("F001-12")
async def test_ignore_takes_both_forms_for_one_route(new_app: NewApp, ask: Any) -> None:
    app = new_app(trailing_slash="ignore")
    app.get("/a")(_echo)
    app.post("/b/{id}/")(_echo)
    for method, path in (("GET", "/a"), ("GET", "/a/"), ("POST", "/b/7"), ("POST", "/b/7/")):
        assert (await ask(app, method, path)).status == 200, path
    assert (await ask(app, "GET", "/a//")).status == 404
    answer = await ask(app, "DELETE", "/a/")
    assert (answer.status, answer.allow) == (405, {"GET", "HEAD", "OPTIONS"})
    assert (await ask(app, "OPTIONS", "/b/7")).status == 204


@pytest.mark.feature("F001-12")
async def test_an_exact_route_comes_before_the_other_form(new_app: NewApp, ask: Any) -> None:
    app = new_app(trailing_slash="ignore")

    @app.get("/a/{rest:path}")
    async def below(rest: str) -> str:
        return f"rest {rest!r}"

    @app.get("/a")
    async def exact() -> str:
        return "exact"

    assert (await ask(app, "GET", "/a")).body == b"exact"
    assert (await ask(app, "GET", "/a/")).body == b"rest ''"


@pytest.mark.feature("F001-12")
@pytest.mark.parametrize(
    ("path", "arrives"),
    [
        ("/a/", "/a"),
        ("/b", "/b/"),
        ("/b?x=1&y=%2F", "/b/?x=1&y=%2F"),
        ("/users/7/", "/users/7"),
        ("/users/a%2Fb/", "/users/a%2Fb"),
        ("/dirs/javascript:alert(1)", "/dirs/javascript%3Aalert%281%29/"),
        ("/dirs/%2F%2Fevil.example", "/dirs/%2F%2Fevil.example/"),
        ("/dirs/%5C%5Cevil.example", "/dirs/%5C%5Cevil.example/"),
        ("/dirs/a%0D%0Ax:y", "/dirs/a%0D%0Ax%3Ay/"),
        ("//evil.example", "//evil.example/"),
        ("//", "/"),
    ],
)
async def test_redirect_leads_to_the_other_form_on_the_same_origin(
    new_app: NewApp, ask: Any, path: str, arrives: str
) -> None:
    app = new_app(trailing_slash="redirect")
    for pattern in ("/", "/a", "/b/", "/users/{id}", "/dirs/{id}/", "//{host}/"):
        app.get(pattern)(_echo)
    for prefix in ("", "/app"):
        answer = await ask(app, "GET", prefix + path, root_path=prefix)
        assert answer.status == 308
        location = answer.headers["location"]
        assert not urlsplit(location).scheme
        assert not urlsplit(location).netloc
        assert not location.startswith("/")
        assert _resolve(f"/x{prefix}{path}", location) == f"/x{prefix}{arrives}"


@pytest.mark.feature("F001-12")
@pytest.mark.parametrize("path", ["/dirs/..", "/dirs/%2e%2e", "/dirs/.", "/nowhere", "/nowhere/", "/dirs//"])
async def test_redirect_never_leads_elsewhere(new_app: NewApp, ask: Any, path: str) -> None:
    app = new_app(trailing_slash="redirect")
    app.get("/dirs/{id}/")(_echo)
    answer = await ask(app, "GET", path)
    assert (answer.status, "location" in answer.headers) == (404, False)


@pytest.mark.feature("F001-12")
async def test_redirect_is_for_methods_that_the_other_form_answers(new_app: NewApp, ask: Any) -> None:
    app = new_app(trailing_slash="redirect")
    app.post("/a")(_echo)
    assert (await ask(app, "POST", "/a/")).status == 308
    assert (await ask(app, "GET", "/a/")).status == 404


# -- converters --------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F001-42")
async def test_converters_of_the_application_are_used(app: App, ask: Any) -> None:
    def parse(text: str) -> tuple[int, int]:
        major, _, minor = text.partition(".")
        return int(major), int(minor)

    app.converters.register(Converter("version", tuple, parse, lambda v: f"{v[0]}.{v[1]}", rank=5))

    @app.get("/docs/{v:version}")
    async def docs(v: tuple[int, int]) -> Any:
        return {"v": v}

    @app.get("/docs/{name}")
    async def named(name: str) -> Any:
        return {"name": name}

    assert (await ask(app, "GET", "/docs/3.11")).body == b'{"v":[3,11]}'
    assert (await ask(app, "GET", "/docs/latest")).body == b'{"name":"latest"}'
    assert app.url_for("docs", v=(3, 12)) == "/docs/3.12"


@pytest.mark.guarantee("G9")
async def test_a_converter_that_fails_is_one_generic_500(app: App, ask: Any, caplog: Any) -> None:
    def parse(text: str) -> Any:
        raise KeyError("a secret")

    app.converters.register(Converter("bad", str, parse))
    app.get("/x/{v:bad}")(_echo)
    answer = await ask(app, "GET", "/x/1")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]


def _resolve(base: str, location: str) -> str:
    """A relative path against another path (RFC 3986 section 5.2; `urljoin` drops empty segments)."""
    merged = base.partition("?")[0].rpartition("/")[0] + "/" + location
    while "/../" in merged:
        before, _, after = merged.partition("/../")
        merged = before.rpartition("/")[0] + "/" + after
    return merged


async def _echo(request: Request) -> Any:
    return request.path_params
