"""Which requests reach a mounted application, and what it is told about the path."""

from __future__ import annotations

from typing import Any

import pytest

from microkit import App, Request, Router

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G3")]


@pytest.mark.parametrize(
    ("path", "root_path", "expected"),
    [
        ("/sub", "", "/sub + /"),
        ("/sub/", "", "/sub + /"),
        ("/sub/x/y", "", "/sub + /x/y"),
        ("/sub//x/", "", "/sub + //x/"),
        ("/sub/a%2Fb", "", "/sub + /a/b"),
        ("/subs/x", "", None),
        ("/tenants/7/app/x", "", "/tenants/7/app + /x"),
        ("/tenants/a%2Fb/app/x", "", "/tenants/a/b/app + /x"),
        ("/api/inner/x", "", "/api/inner + /x"),
        ("/base/sub/x", "/base", "/base/sub + /x"),
        ("/base/api/inner", "/base/", "/base/api/inner + /"),
        ("/sub/x", "/base", "/base/sub + /x"),
    ],
)
async def test_a_mounted_application_gets_its_prefix_as_root_path(
    app: App, ask: Any, path: str, root_path: str, expected: str | None
) -> None:
    group = Router("/api")
    group.mount("/inner", _show)
    app.include_router(group)
    app.mount("/sub", _show)
    app.mount("/tenants/{tenant}/app", _show)
    answer = await ask(app, "GET", path, root_path=root_path)
    assert (answer.body.decode() if answer.status == 200 else None) == expected


@pytest.mark.parametrize("path", ["/t/7/users/a%2Fb", "/t/a%2Fb/users/a%2Fb"])
async def test_an_application_of_ours_routes_below_its_mount(app: App, ask: Any, path: str) -> None:
    child = App(plugins=[], discover=False)

    @child.get("/users/{id}")
    async def user(request: Request, id: str) -> Any:
        return {"path": request.path, "id": id}

    app.mount("/t/{tenant}", child)
    answer = await ask(app, "GET", path)
    assert (answer.status, answer.body) == (200, b'{"path":"/users/a/b","id":"a/b"}')


async def test_an_own_route_comes_before_a_mount_at_the_same_place(app: App, ask: Any) -> None:
    app.mount("/", _show)

    @app.get("/own/{id}")
    async def own(id: str) -> str:
        return f"own {id}"

    assert (await ask(app, "GET", "/own/7")).body == b"own 7"
    assert (await ask(app, "POST", "/own/7")).body == b" + /own/7"
    assert (await ask(app, "GET", "/")).body == b" + /"


async def test_a_reply_whose_body_is_not_wanted_is_closed(app: App, ask: Any) -> None:
    @app.add_middleware
    async def replace(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        return "replaced" if request.path == "/sub/replaced" else reply

    app.mount("/sub", _show)
    answer = await ask(app, "HEAD", "/sub/x")
    assert (answer.status, answer.body) == (200, b"")
    assert (await ask(app, "GET", "/sub/replaced")).body == b"replaced"


async def _show(scope: Any, receive: Any, send: Any) -> None:
    """Answers with `root_path + what follows`."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    root = scope["root_path"]
    assert scope["path"].startswith(root)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{root} + {scope['path'][len(root) :] or '/'}".encode()})
