"""Groups: prefixes, nesting, and which middleware wraps what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from microkit import App, Call, ConfigurationError, Event, Kind, Request, Router

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F001-41")]


@pytest.mark.feature("F001-05")
async def test_a_prefix_may_have_parameters(app: App, ask: Any) -> None:
    group = Router("/tenants/{tenant}")

    @group.get("/users/{id:int}")
    async def user(id: int, tenant: str) -> Any:
        return {"tenant": tenant, "id": id}

    @group.get("/")
    async def root(tenant: str) -> Any:
        return {"tenant": tenant}

    app.include_router(group)
    assert (await ask(app, "GET", "/tenants/a/users/7")).body == b'{"tenant":"a","id":7}'
    assert (await ask(app, "GET", "/tenants/a")).body == b'{"tenant":"a"}'
    assert (await ask(app, "GET", "/tenants//users/7")).status == 404
    assert app.url_for("user", tenant="a b", id=7) == "/tenants/a%20b/users/7"


async def test_routers_nest_and_their_middleware_is_theirs_alone(app: App, ask: Any) -> None:
    outer = Router("/api", middleware=[_mark("api")])
    inner = Router("/v1", middleware=[_mark("v1")])
    sibling = Router("/v2")
    inner.get("/x")(_hello)
    sibling.get("/x")(_hello)
    outer.get("/x")(_hello)
    app.get("/x")(_hello)
    outer.include_router(inner)
    outer.include_router(sibling)
    app.include_router(outer)
    app.add_middleware(_mark("app"))
    for path, marks in {
        "/x": "app",
        "/api/x": "api,app",
        "/api/v1/x": "v1,api,app",
        "/api/v2/x": "api,app",
    }.items():
        assert (await ask(app, "GET", path)).headers["x-marks"] == marks, path


@pytest.mark.guarantee("G6")
@pytest.mark.parametrize(
    ("method", "path", "status", "marks"),
    [
        ("GET", "/nowhere", 404, "app"),
        ("POST", "/x", 405, "app"),
        ("GET", "/apis", 404, "app"),
        ("GET", "/api", 404, "api,app"),
        ("GET", "/api/", 404, "api,app"),
        ("GET", "/api/nowhere", 404, "version 'nowhere',api,app"),
        ("POST", "/api/v1/x", 405, "v1,api,app"),
        ("OPTIONS", "/api/v1/x", 204, "v1,api,app"),
        ("GET", "/api/v1/x/y/z", 404, "v1,api,app"),
        ("GET", "/api/v1/%zz", 400, "v1,api,app"),
        ("GET", "/api/v9/x", 404, "version 'v9',api,app"),
        ("GET", "/api/v9/nowhere", 404, "version 'v9',api,app"),
    ],
)
async def test_misses_of_a_group_pass_through_its_middleware(
    app: App, ask: Any, method: str, path: str, status: int, marks: str
) -> None:
    @app.add_middleware
    async def outermost(request: Request, call_next: Any) -> Any:
        return await _mark("app")(request, call_next)

    async def version(request: Request, call_next: Any) -> Any:
        return await _mark(f"version {request.path_params['version']!r}")(request, call_next)

    outer = Router("/api", middleware=[_mark("api")])
    inner = Router("/v1", middleware=[_mark("v1")])
    dynamic = Router("/{version}", middleware=[version])
    inner.get("/x")(_hello)
    dynamic.get("/y")(_hello)
    outer.include_router(dynamic)
    outer.include_router(inner)
    app.include_router(outer)
    app.get("/x")(_hello)
    answer = await ask(app, method, path)
    assert (answer.status, answer.headers["x-marks"]) == (status, marks)


@pytest.mark.guarantee("G6")
async def test_the_group_of_a_miss_has_most_static_segments_then_the_longest_prefix(app: App, ask: Any) -> None:
    for prefix in ("/{a}/{b}/{c}", "/{a}", "/{a}/y", "/{a:int}/y", "/x"):
        group = Router(prefix, middleware=[_mark(prefix)])
        group.get("/only/here")(_hello)
        app.include_router(group)
    app.add_middleware(_mark("app"))
    for path, prefix in {
        "/x/z": "/x",
        "/w/y": "/{a}/y",
        "/7/y": "/{a:int}/y",
        "/w/z": "/{a}",
        "/w/z/v": "/{a}/{b}/{c}",
    }.items():
        assert (await ask(app, "GET", path)).headers["x-marks"] == f"{prefix},app", path


@pytest.mark.guarantee("G6")
@pytest.mark.parametrize("prefix", ["", "/a", "/{x}"])
async def test_two_groups_with_one_prefix_and_different_middleware_fail(app: App, prefix: str) -> None:
    for name in ("one", "two"):
        group = Router(prefix, middleware=[_mark(name)])
        group.get(f"/{name}")(_hello)
        app.include_router(group)
    with pytest.raises(ConfigurationError, match="different middleware"):
        app.build()


@pytest.mark.guarantee("G6")
async def test_two_groups_with_one_prefix_may_share_their_middleware(app: App, ask: Any) -> None:
    mark = _mark("shared")
    for name in ("one", "two"):
        group = Router("/a", middleware=[mark])
        group.get(f"/{name}")(_hello)
        app.include_router(group)
    for path, status in (("/a/one", 200), ("/a/two", 200), ("/a/three", 404)):
        answer = await ask(app, "GET", path)
        assert (answer.status, answer.headers["x-marks"]) == (status, "shared")


@pytest.mark.guarantee("G6")
async def test_a_group_without_paths_needs_no_prefix_of_its_own(app: App, ask: Any) -> None:
    """Groups of events have middleware, too; a 404 is none of their business."""
    messages = Router(middleware=[_mark("messages")])
    messages.on(Event("shop", "placed"))(_on_event)
    for_events = Router()
    for_events.add_middleware(_mark("only messages"), kinds=Kind.MESSAGE)
    for_events.get("/x")(_hello)
    app.include_router(messages)
    app.include_router(for_events)
    app.add_middleware(_mark("app"))
    for path in ("/x", "/nowhere"):
        assert (await ask(app, "GET", path)).headers["x-marks"] == "app"


async def test_a_router_included_under_two_prefixes_answers_at_both(app: App, ask: Any) -> None:
    group = Router("/users")
    group.get("/{id}")(_hello)
    app.include_router(group, prefix="/v1")
    app.include_router(group, prefix="/v2")
    assert (await ask(app, "GET", "/v1/users/7")).status == 200
    assert (await ask(app, "GET", "/v2/users/7")).status == 200
    assert (await ask(app, "GET", "/users/7")).status == 404


@pytest.mark.parametrize("prefix", ["api", "/api/", "/", "api/"])
def test_a_prefix_begins_with_a_slash_and_ends_without(prefix: str, app: App) -> None:
    with pytest.raises(ConfigurationError, match="slash"):
        Router(prefix)
    with pytest.raises(ConfigurationError, match="slash"):
        app.include(Router("/x"), prefix=prefix)


@pytest.mark.feature("F001-11")
def test_conflicts_are_found_across_groups(app: App) -> None:
    group = Router("/users")
    group.get("/{id}")(_hello)
    app.include_router(group)
    app.get("/users/{name}")(_on_event)
    with pytest.raises(ConfigurationError, match=r"(?s)told apart.*_hello.*_on_event|told apart.*_on_event.*_hello"):
        app.build()


def _mark(name: str) -> Callable[..., Any]:
    """A middleware that adds its name to a header of the reply: the innermost comes first."""

    async def mark(call: Call, call_next: Any) -> Any:
        reply = await call_next(call)
        reply.headers["x-marks"] = ",".join(filter(None, [reply.headers.get("x-marks"), name]))
        return reply

    return mark


async def _hello() -> str:
    return "hello"


async def _on_event() -> None:
    """Answers nothing."""
