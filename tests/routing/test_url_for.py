"""Addresses of routes: escaped, relative to this origin, and understood by the router that they are for."""

from __future__ import annotations

import math
from datetime import date
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microkit import App, Request, Router
from tests.properties import STEADY

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F001-44")]


@pytest.fixture
def site(app: App) -> App:
    """Routes by the name of their handler, or by a given one."""

    async def user(id: str) -> None: ...

    async def page(rest: str) -> None: ...

    app.get("/users/{id}")(user)
    app.get("/static/a b/\u00fc")(user_list)
    app.get("/pages/{rest:path}")(page)
    app.get("/{rest:path}", name="all")(page)
    app.get("/n/{value:int}", name="int")(anything)
    app.get("/f/{value:float}", name="float")(anything)
    app.get("/d/{value:date}", name="date")(anything)
    app.get("/u/{value:uuid}", name="uuid")(anything)
    app.websocket("/chat/{room}", name="chat")(anything)
    return app


async def user_list() -> None: ...


async def anything() -> None: ...


@pytest.mark.parametrize(
    ("name", "values", "path"),
    [
        ("user", {"id": "7"}, "/users/7"),
        ("user", {"id": "a/b"}, "/users/a%2Fb"),
        ("user", {"id": "//evil.example"}, "/users/%2F%2Fevil.example"),
        ("user", {"id": "?x=1#y"}, "/users/%3Fx%3D1%23y"),
        ("user", {"id": "javascript:x"}, "/users/javascript%3Ax"),
        ("user", {"id": "\\evil\r\n"}, "/users/%5Cevil%0D%0A"),
        ("user", {"id": "j\u00f6rg"}, "/users/j%C3%B6rg"),
        ("user_list", {}, "/static/a%20b/%C3%BC"),
        ("page", {"rest": "a/b c/%"}, "/pages/a/b%20c/%25"),
        ("page", {"rest": ""}, "/pages/"),
        ("all", {"rest": "x"}, "/x"),
        ("int", {"value": -7}, "/n/-7"),
        ("float", {"value": 1e-07}, "/f/0.0000001"),
        ("float", {"value": 2}, "/f/2.0"),
        ("date", {"value": date(2024, 2, 29)}, "/d/2024-02-29"),
        ("uuid", {"value": UUID(int=1)}, "/u/00000000-0000-0000-0000-000000000001"),
        ("chat", {"room": "a b"}, "/chat/a%20b"),
    ],
)
def test_values_are_escaped(site: App, name: str, values: Any, path: str) -> None:
    assert site.url_for(name, **values) == path


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("user", {}),
        ("user", {"id": "7", "other": 1}),
        ("user", {"id": ""}),
        ("user", {"id": ".."}),
        ("user", {"id": "."}),
        ("user", {"id": "\0"}),
        ("user", {"id": "\ud800"}),
        ("page", {"rest": "a/../../b"}),
        ("all", {"rest": "/evil.example"}),
        ("int", {"value": "seven"}),
        ("int", {"value": 1.5}),
        ("float", {"value": math.inf}),
        ("float", {"value": math.nan}),
        ("float", {"value": "x"}),
        ("date", {"value": "2023-02-29"}),
    ],
)
def test_values_that_would_not_arrive_are_refused(site: App, name: str, values: Any) -> None:
    with pytest.raises(ValueError):
        site.url_for(name, **values)


def test_a_name_that_no_route_or_several_routes_have_is_refused(site: App) -> None:
    site.get("/other")(user_list)
    for name in ("nobody", "user_list"):
        with pytest.raises(KeyError, match=name):
            site.url_for(name)


def test_bindings_of_one_path_share_their_name(app: App) -> None:
    app.get("/users/{id}", name="user")(anything)
    app.put("/users/{id}", name="user")(user_list)
    assert app.url_for("user", id=7) == "/users/7"


def test_the_prefix_of_a_group_is_part_of_the_address(app: App) -> None:
    group = Router("/t/{tenant}")
    group.get("/u/{id}", name="user")(anything)
    app.include_router(group, prefix="/v1")
    assert app.url_for("user", tenant="a/b", id=1) == "/v1/t/a%2Fb/u/1"


_ECHO = App(plugins=[], discover=False)


@_ECHO.get("/one/{value}", name="one")
@_ECHO.get("/rest/{value:path}", name="rest")
@_ECHO.get("/int/{value:int}", name="int")
@_ECHO.get("/float/{value:float}", name="float")
@_ECHO.get("/uuid/{value:uuid}", name="uuid")
@_ECHO.get("/date/{value:date}", name="date")
async def _echo(request: Request) -> Any:
    _SEEN.append((request.scope["path"], request.path_params["value"]))


_SEEN: list[Any] = []


@STEADY
@given(
    st.one_of(
        st.tuples(st.just("one"), st.text()),
        st.tuples(st.just("rest"), st.text()),
        st.tuples(st.just("int"), st.integers(-(10**17), 10**17)),
        st.tuples(st.just("float"), st.floats(-1e20, 1e20)),
        st.tuples(st.just("uuid"), st.uuids()),
        st.tuples(st.just("date"), st.dates()),
    )
)
async def test_an_address_leads_to_its_route_with_the_same_value(named: tuple[str, Any]) -> None:
    name, value = named
    async with _ECHO.started():
        try:
            url = _ECHO.url_for(name, value=value)
        except ValueError:
            return  # refused: nothing leads there
        assert urljoin("https://shop.example/x/y", url) == f"https://shop.example{url}"
        assert urlsplit(url).path == url
        _SEEN.clear()
        reply = await _ECHO.handle(Request("GET", url))
    assert reply.http_status == 204
    assert [(unquote(url), value)] == _SEEN
