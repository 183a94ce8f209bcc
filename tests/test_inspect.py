"""An application as plain data, and the endpoint page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from microkit import (
    App,
    Call,
    Event,
    Forbidden,
    Kind,
    MiddlewareSpec,
    Procedure,
    Request,
    Route,
    RouterSpec,
    WebSocket,
    hookimpl,
)
from microkit.inspect import Section, inspect_app
from microkit.settings import SettingsSpec
from microkit.transport import TransportSpec

pytestmark = pytest.mark.anyio


def _app(**options: Any) -> App:
    app = App(discover=False, **options)

    @app.get("/users/{id:int}")
    async def get_user(id: int) -> int:
        return id

    @app.on(Route("/users", ["POST", "PUT"]))
    async def save() -> None: ...

    @app.websocket("/ws")
    async def socket(ws: WebSocket) -> None: ...

    @app.on(Procedure("users.get"))
    async def procedure(id: int) -> None: ...

    @app.on(Event("shop", "placed"))
    def placed(payload: dict[str, int]) -> None: ...

    @app.every(60, name="sweep")
    async def sweep() -> None: ...

    return app


def _page(**options: Any) -> App:
    return _app(settings={"app": {"inspect_path": "/__endpoints__"}}, **options)


@dataclasses.dataclass(frozen=True)
class _Pool:
    password: str = "pool-password"
    size: int = 3


@dataclasses.dataclass(frozen=True)
class _Secrets:
    url: str = "amqp://guest:url-password@host/"
    api_key: str = "key-value"
    token_ttl: int = 60
    hosts: tuple[str, ...] = ("a", "https://me:list-password@b")
    extra: dict[str, Any] = dataclasses.field(default_factory=lambda: {"secret": "dict-secret", "colour": "red"})
    pool: _Pool = _Pool()
    empty_token: str = ""


class vault:
    """A plugin with settings, a transport, a router, middleware and a section."""

    @hookimpl
    def microkit_settings(self) -> SettingsSpec:
        return SettingsSpec("vault", _Secrets)

    @hookimpl
    def microkit_routers(self) -> RouterSpec:
        return RouterSpec("maze", lambda entries: None)  # type: ignore[arg-type,return-value]

    @hookimpl
    def microkit_transports(self) -> TransportSpec:
        return TransportSpec("pigeon", Kind.RPC | Kind.MESSAGE, schemes=("pigeon",), backends=("trio",), automatic=True)

    @hookimpl
    def microkit_inspect(self, info: Any) -> Iterable[Section]:
        return [Section("Doves <b>", tuple({"kind": each.kind, "at": "<i>"} for each in info.bindings[:2]))]


def test_bindings_of_all_kinds_are_described() -> None:
    info = inspect_app(_app(timeout=3))
    assert [(each.kind, each.address, each.name) for each in info.bindings] == [
        ("HTTP", "GET /users/{id:int}", "get_user"),
        ("HTTP", "POST|PUT /users", "save"),
        ("SOCKET", "WEBSOCKET /ws", "socket"),
        ("RPC", "users.get", "procedure"),
        ("MESSAGE", "shop/placed", "placed"),
        ("TICK", "every 60s", "sweep"),
    ]
    user, save, *_, placed, _ = info.bindings
    assert user.endpoint == f"{__name__}._app.<locals>.get_user"
    assert __file__ in user.location
    assert save.methods == ("POST", "PUT")
    assert (user.executor, placed.executor, user.timeout) == ("event loop", "thread", 3)


def test_descriptions_are_plain_and_frozen() -> None:
    info = inspect_app(_app(plugins=[vault()]))
    assert json.loads(json.dumps(dataclasses.asdict(info)))["bindings"][0]["address"] == "GET /users/{id:int}"
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.bindings[0].address = "GET /other"  # type: ignore[misc]


def test_secrets_in_settings_are_masked() -> None:
    info = inspect_app(_app(plugins=[vault()]))
    settings = info.settings["vault"]
    assert settings == {
        "url": "***",
        "api_key": "***",
        "token_ttl": 60,
        "hosts": ("a", "***"),
        "extra": {"secret": "***", "colour": "red"},
        "pool": {"password": "***", "size": 3},
        "empty_token": "",
    }
    for secret in ("url-password", "key-value", "list-password", "dict-secret", "pool-password"):
        assert secret not in repr(info)


def test_routers_transports_and_services_name_their_plugin() -> None:
    app = _app(plugins=[vault()])
    app.registry.register("clock", lambda: 1)
    info = inspect_app(app)
    assert {each["name"]: (each["plugin"], each["used"]) for each in info.routers} == {
        "linear": ("kernel", True),
        "maze": ("vault", False),
    }
    [pigeon] = [each for each in info.transports if each["name"] == "pigeon"]
    assert (pigeon["kinds"], pigeon["backends"], pigeon["plugin"]) == (("RPC", "MESSAGE"), ("trio",), "vault")
    assert ("'clock'", "app", "application") in [(each["key"], each["scope"], each["plugin"]) for each in info.services]
    [plugin] = [each for each in info.plugins if each.name == "vault"]
    assert plugin.automatic == ("pigeon",)
    assert plugin.contributed["microkit_routers"] == ("maze",)


@pytest.mark.feature("FC-09")
async def test_contributed_middleware_takes_part_only_if_it_is_automatic() -> None:
    def stamped(name: str, *, automatic: bool) -> Any:
        async def stamp(request: Request, call_next: Callable[..., Any]) -> Any:
            reply = await call_next(request)
            reply.headers[name] = "yes"
            return reply

        class Plugin:
            @hookimpl
            def microkit_middleware(self) -> MiddlewareSpec:
                return MiddlewareSpec(stamp, automatic=automatic)

        Plugin.__name__ = name
        return Plugin()

    app = _app(plugins=[stamped("quiet", automatic=False), stamped("loud", automatic=True)])
    async with app.started():
        reply = await app.handle(Request("GET", "/users/1"))
        assert "loud" in reply.headers
        assert "quiet" not in reply.headers
        automatic = {each.name: bool(each.automatic) for each in inspect_app(app).plugins}
    assert (automatic["loud"], automatic["quiet"]) == (True, False)


@pytest.mark.feature("F001-35")
async def test_there_is_no_page_unless_it_is_enabled() -> None:
    async with _app().started() as app:
        assert (await app.handle(Request("GET", "/__endpoints__"))).http_status == 404


@pytest.mark.feature("F001-35")
async def test_the_page_lists_every_route_as_html_with_everything_escaped() -> None:
    app = _page(name="<script>alert(1)</script>", plugins=[vault()])

    @app.get("/a<b>&/{rest:path}", name='"><img>')
    async def odd(rest: str) -> None: ...

    async with app.started():
        reply = await app.handle(Request("GET", "/__endpoints__"))
    assert isinstance(reply.body, bytes)
    page = reply.body.decode()
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    for address in ("GET /users/{id:int}", "POST|PUT /users", "WEBSOCKET /ws", "users.get", "shop/placed", "every 60s"):
        assert f"<td>{address}" in page
    for markup in ("<script>", "<img>", "/a<b>", "Doves <b>", "<i>"):
        assert markup not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "/a&lt;b&gt;&amp;/{rest:path}" in page
    assert "Doves &lt;b&gt;" in page


@pytest.mark.feature("F001-35")
@pytest.mark.parametrize(
    ("url", "accept"), [("/__endpoints__?format=json", "text/html"), ("/__endpoints__", "application/json")]
)
async def test_the_page_is_json_on_request(url: str, accept: str) -> None:
    async with _page().started() as app:
        reply = await app.handle(Request("GET", url, {"accept": accept}))
    assert isinstance(reply.body, bytes)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["vary"] == "accept"
    found = {each["address"]: each["methods"] for each in json.loads(reply.body)["bindings"]}
    assert found["POST|PUT /users"] == ["POST", "PUT"]
    assert found["GET /__endpoints__"] == ["GET"]


@pytest.mark.feature("F001-35")
async def test_the_page_shows_neither_settings_nor_paths_of_the_machine() -> None:
    app = _page(plugins=[vault()])
    async with app.started():
        for url in ("/__endpoints__", "/__endpoints__?format=json"):
            reply = await app.handle(Request("GET", url))
            assert isinstance(reply.body, bytes)
            for hidden in (__file__, "password", "max_body_size"):
                assert hidden not in reply.body.decode()


@pytest.mark.feature("F001-35")
async def test_the_page_is_an_ordinary_endpoint_behind_the_middleware_of_the_app() -> None:
    app = _page()

    @app.add_middleware
    async def nobody(call: Call, call_next: Callable[..., Any]) -> Any:
        raise Forbidden("not for you")

    async with app.started():
        assert (await app.handle(Request("GET", "/__endpoints__"))).http_status == 403
    [page] = [each for each in inspect_app(app).bindings if each.path == "/__endpoints__"]
    assert page.plugin == "kernel"
    assert page.middleware == (f"{__name__}.{nobody.__qualname__}",)


async def test_the_page_is_there_again_after_a_restart() -> None:
    app = _page()
    for _ in range(2):
        async with app.started():
            assert (await app.handle(Request("GET", "/__endpoints__"))).http_status == 200
