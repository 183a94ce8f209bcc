"""Middleware: order, short-circuits, what it may change, what it never lets out."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator
from typing import Any

import pytest

from microkit import App, Call, Depends, Kind, NotFound, Reply, Request, Response, Router, RpcRequest
from microkit.errors import ConfigurationError
from tests.asgi_driver import request, socket

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G6")]


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def app(log: list[str]) -> App:
    app = App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})

    @app.get("/")
    async def handler() -> str:
        log.append("handler")
        return "reply"

    @app.get("/fails")
    async def fails() -> None:
        raise ValueError("secret")

    return app


def noting(log: list[str], name: str) -> Any:
    async def middleware(request: Request, call_next: Any) -> Reply:
        log.append(f"{name} before")
        reply = await call_next(request)
        log.append(f"{name} after {reply.http_status}")
        return reply

    return middleware


@pytest.mark.feature("F001-14")
async def test_the_first_added_is_outermost(app: App, log: list[str]) -> None:
    for name in ("a", "b", "c"):
        app.add_middleware(noting(log, name))
    assert (await request(app)).body == b"reply"
    before, after = ["a before", "b before", "c before"], ["c after 200", "b after 200", "a after 200"]
    assert log == [*before, "handler", *after]


@pytest.mark.feature("F001-15")
@pytest.mark.feature("F004-46")
@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/nowhere", 404), ("POST", "/", 405), ("OPTIONS", "/", 204), ("GET", "/fails", 500), ("GET", "/%zz", 400)],
)
async def test_every_reply_passes_through(app: App, log: list[str], method: str, target: str, status: int) -> None:
    async def stamps(request: Request, call_next: Any) -> Reply:
        reply = await call_next(request)
        reply.headers["x-frame-options"] = "DENY"
        return reply

    app.add_middleware(stamps)
    app.add_middleware(noting(log, "a"))
    reply = await request(app, method, target)
    assert (reply.status, reply.headers["x-frame-options"]) == (status, "DENY")
    assert log == ["a before", f"a after {status}"]


@pytest.mark.feature("F001-15")
async def test_a_middleware_may_answer_at_once(app: App, log: list[str]) -> None:
    async def answers(request: Request, call_next: Any) -> Any:
        return (403, {"no": "way"})

    app.add_middleware(noting(log, "outer"))
    app.add_middleware(answers)
    app.add_middleware(noting(log, "inner"))
    reply = await request(app)
    assert (reply.status, reply.body) == (403, b'{"no":"way"}')
    assert log == ["outer before", "outer after 403"]


@pytest.mark.feature("F001-15")
async def test_a_middleware_may_change_the_request_and_replace_the_reply(app: App) -> None:
    async def changes(request: Request, call_next: Any) -> Reply:
        request.state.user = "Al"
        request.attributes["number"] = 7
        inner = await call_next(request)
        return Response(inner.body.upper(), 201, {"x-inner": str(inner.http_status)})

    app.add_middleware(changes)

    @app.get("/me")
    async def me(request: Request) -> str:
        return f"{request.state.user} {request.attributes['number']}"

    reply = await request(app, target="/me")
    assert (reply.status, reply.body, reply.headers["x-inner"]) == (201, b"AL 7", "200")


current: contextvars.ContextVar[str] = contextvars.ContextVar("current")


@pytest.mark.feature("F001-16")
async def test_functions_classes_and_instances_serve_and_context_variables_reach_the_handler(app: App) -> None:
    class Prefixed:
        def __init__(self, prefix: str = "made") -> None:
            self.prefix = prefix

        async def __call__(self, request: Request, call_next: Any) -> Reply:
            current.set(f"{current.get('')}{self.prefix} ")
            return await call_next(request)

    async def function(request: Request, call_next: Any) -> Reply:
        current.set(f"{current.get('')}function ")
        return await call_next(request)

    app.add_middleware(Prefixed)
    app.add_middleware(Prefixed, prefix="option")
    app.add_middleware(Prefixed("instance"))
    app.add_middleware(function)
    app.get("/context")(lambda: current.get())

    @app.get("/async")
    async def handler() -> str:
        return current.get()

    token = current.set("")
    try:
        assert (await request(app, target="/async")).body == b"made option instance function "
        assert (await request(app, target="/context")).body.endswith(b"made option instance function ")
    finally:
        current.reset(token)


@pytest.mark.feature("F001-17")
@pytest.mark.parametrize(("target", "kind"), [("/fails", ValueError), ("/nowhere", NotFound)])
async def test_call_next_returns_a_reply_with_its_error(app: App, target: str, kind: type) -> None:
    seen: list[Any] = []

    async def watches(request: Request, call_next: Any) -> Reply:
        reply = await call_next(request)
        seen.append(reply.error)
        return reply if target == "/nowhere" else Response("recovered")

    app.add_middleware(watches)
    reply = await request(app, target=target)
    assert isinstance(seen[0], kind)
    assert reply.status == (404 if target == "/nowhere" else 200)


@pytest.mark.feature("F001-17")
@pytest.mark.guarantee("G9")
@pytest.mark.parametrize("how", ["raises", "raises after", "returns nothing", "returns nonsense"])
async def test_a_broken_middleware_gives_a_500_that_outer_ones_see(app: App, log: list[str], how: str) -> None:
    async def broken(request: Request, call_next: Any) -> Any:
        if how == "raises":
            raise RuntimeError("secret")
        await call_next(request)
        if how == "raises after":
            raise RuntimeError("secret")
        return None if how == "returns nothing" else object()

    app.add_middleware(noting(log, "outer"))
    app.add_middleware(broken)
    reply = await request(app)
    assert (reply.status, reply.error, log[-1]) == (500, None, "outer after 500")
    assert b"secret" not in reply.body


@pytest.mark.feature("F001-17")
async def test_a_middleware_may_try_again_and_each_try_has_its_own_scope(app: App, log: list[str]) -> None:
    async def dependency() -> AsyncIterator[int]:
        log.append("open")
        try:
            yield len(log)
        except ValueError:
            log.append("rolled back")
            raise
        log.append("committed")

    async def retries(request: Request, call_next: Any) -> Reply:
        reply = await call_next(request)
        return await call_next(request) if reply.error is not None else reply

    app.add_middleware(retries)

    @app.get("/flaky")
    async def flaky(value: int = Depends(dependency)) -> str:
        if value == 1:
            raise ValueError
        return "done"

    assert (await request(app, target="/flaky")).body == b"done"
    assert log == ["open", "rolled back", "open", "committed"]


@pytest.mark.feature("F001-15")
async def test_middleware_takes_dependencies_whose_teardown_follows_the_onion(app: App, log: list[str]) -> None:
    async def audit() -> AsyncIterator[str]:
        yield "audit"
        log.append("audit left")
        if "fail" in log:
            raise RuntimeError("secret")

    async def auditing(request: Request, call_next: Any, trail: str = Depends(audit)) -> Reply:
        log.append(trail)
        reply = await call_next(request)
        reply.headers["x-audit"] = "yes"
        return reply

    app.add_middleware(noting(log, "outer"))
    app.add_middleware(auditing)
    assert (await request(app)).headers["x-audit"] == "yes"
    assert log == ["outer before", "audit", "handler", "outer after 200", "audit left"]
    log[:] = ["fail"]
    reply = await request(app)
    assert (reply.status, b"secret" in reply.body, "x-audit" in reply.headers) == (500, False, False)


# -- kinds -------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("FX-03")
async def test_kinds_follow_from_the_first_parameter_or_are_given(app: App, log: list[str]) -> None:
    async def by_request(request: Request, call_next: Any) -> Any:
        log.append(f"request {request.method} {request.path}")
        return await call_next(request)

    async def by_call(call: Call, call_next: Any) -> Any:
        log.append(f"call {call.kind.name}")
        return await call_next(call)

    async def by_rpc(call: RpcRequest, call_next: Any) -> Any:
        log.append(f"rpc {call.name}")
        return await call_next(call)

    async def narrowed(call: Call, call_next: Any) -> Any:
        log.append("http only")
        return await call_next(call)

    app.add_middleware(by_request)
    app.add_middleware(by_call)
    app.add_middleware(by_rpc)
    app.add_middleware(narrowed, kinds=Kind.HTTP)

    from microkit import Procedure, WebSocket

    @app.on(Procedure("a.b"))
    async def procedure() -> int:
        return 1

    @app.websocket("/ws")
    async def ws(ws: WebSocket) -> None:
        await ws.accept()

    await request(app)
    assert log == ["request GET /", "call HTTP", "http only", "handler"]
    log.clear()
    await app.call("a.b")
    assert log == ["call RPC", "rpc a.b"]
    log.clear()
    await socket(app, "/ws")
    assert log == ["request GET /ws", "call SOCKET"]


@pytest.mark.feature("FX-03")
async def test_a_guard_that_leaves_a_plan_of_its_group_open_fails_start_up(app: App) -> None:
    from microkit import Procedure

    async def authenticated(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    app.add_middleware(authenticated, guard=True)
    assert (await request(app)).status == 200

    other = App(plugins=[], discover=False)
    other.add_middleware(authenticated, guard=True)
    other.on(Procedure("a.b"))(lambda: 1)
    with pytest.raises(ConfigurationError, match=r"authenticated does not protect a\.b"):
        other.build()

    narrowed = App(plugins=[], discover=False)
    narrowed.add_middleware(authenticated, guard=True, kinds=Kind.HTTP)
    narrowed.on(Procedure("a.b"))(lambda: 1)
    narrowed.build()


@pytest.mark.parametrize("bad", [lambda request, call_next: None, 7, "text"], ids=["sync", "number", "text"])
def test_what_cannot_be_a_middleware_is_refused(app: App, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="async def"):
        app.add_middleware(bad)


def test_a_middleware_without_call_next_is_refused_where_it_is_written(app: App) -> None:
    async def single(request: Request) -> Any: ...

    app.add_middleware(single)
    with pytest.raises(ConfigurationError, match=r"test_middleware\.py:\d+ must take the call and call_next"):
        app.build()


# -- groups ------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F001-15")
@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/", ["app before", "handler", "app after 200"]),
        ("GET", "/admin/users", ["app before", "admin before", "admin after 200", "app after 200"]),
        ("GET", "/admin/nowhere", ["app before", "admin before", "admin after 404", "app after 404"]),
        ("POST", "/admin/users", ["app before", "admin before", "admin after 405", "app after 405"]),
        ("GET", "/admin", ["app before", "admin before", "admin after 404", "app after 404"]),
        (
            "GET",
            "/admin/deep/x",
            ["app before", "admin before", "deep before", "deep after 404", "admin after 404", "app after 404"],
        ),
        ("GET", "/administrator", ["app before", "app after 404"]),
        ("GET", "/other", ["app before", "app after 404"]),
    ],
)
async def test_the_middleware_of_a_group_wraps_the_group_alone(
    app: App, log: list[str], method: str, target: str, expected: list[str]
) -> None:
    admin = Router("/admin", middleware=[noting(log, "admin")])
    admin.get("/users")(lambda: "users")
    admin.include(Router("/deep", middleware=[noting(log, "deep")]))
    app.include(admin)
    app.add_middleware(noting(log, "app"))
    await request(app, method, target)
    assert log == expected
