"""What a route table refuses at start-up, and how it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microkit import App, Converter, Router, RoutingError

pytestmark = pytest.mark.guarantee("G3")


@pytest.mark.feature("F001-11")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("/users/me", ["GET"]), ("/users/me", ["GET"])),
        (("/users/{id}", ["GET"]), ("/users/{name}", ["POST", "GET"])),
        (("/users/{id}", ["GET"]), ("/users/{name:str}", ["GET"])),
        (("/users/{id:int}/x", None), ("/users/{n:int}/x", ["GET"])),
        (("/{rest:path}", None), ("/{other:path}", None)),
    ],
)
def test_routes_that_can_never_be_told_apart_fail_and_name_both_places(app: App, one: Any, other: Any) -> None:
    async def first() -> None: ...

    async def second() -> None: ...

    app.route(one[0], methods=one[1])(first)
    app.route(other[0], methods=other[1])(second)
    with pytest.raises(RoutingError) as caught:
        app.build()
    text = str(caught.value)
    for func, path in ((first, one[0]), (second, other[0])):
        line = func.__code__.co_firstlineno
        assert f"{Path(__file__).name}:{line}" in text
        assert path in text


@pytest.mark.feature("F001-11")
def test_routes_that_some_request_tells_apart_are_accepted(app: App) -> None:
    app.converters.register(Converter("slug", str, str))
    for path in ("/{id}", "/{id:int}", "/{id:slug}", "/{rest:path}", "/me", "/me/", "/{id}/"):
        app.get(path)(_nothing)
        app.post(path)(_nothing)
    app.websocket("/me")(_nothing)
    app.build()


@pytest.mark.feature("F001-42")
def test_an_unknown_converter_is_named_with_those_that_exist(app: App) -> None:
    app.get("/users/{id:itn}")(_nothing)
    with pytest.raises(RoutingError) as caught:
        app.build()
    text = str(caught.value)
    assert all(
        part in text for part in ("itn", "/users/{id:itn}", "int", "uuid", "path", "_nothing", "test_startup.py:")
    )


def test_a_converter_name_is_taken_once(app: App) -> None:
    with pytest.raises(RoutingError, match="int"):
        app.converters.register(Converter("int", int, int))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("users", "must begin with a slash"),
        ("/users/{id", "not understood"),
        ("/users/id}", "not understood"),
        ("/users/{}", "not understood"),
        ("/users/{1}", "not understood"),
        ("/users/{id}.json", "not understood"),
        ("/users/{a}{b}", "not understood"),
        ("/users/{id:}", "not understood"),
        ("/{id}/x/{id}", "two parameters named 'id'"),
        ("/{rest:path}/x", "must be the last"),
    ],
)
def test_a_malformed_path_is_explained_with_the_place_of_its_handler(app: App, path: str, said: str) -> None:
    group = Router("/group")
    group.get(path)(_nothing)
    app.include_router(group)
    with pytest.raises(RoutingError, match=said) as caught:
        app.build()
    assert "test_startup.py:" in str(caught.value)


def test_a_parameter_of_the_prefix_is_not_named_again(app: App) -> None:
    group = Router("/users/{id}")
    group.get("/posts/{id}")(_nothing)
    app.include_router(group)
    with pytest.raises(RoutingError, match="two parameters named 'id'"):
        app.build()


async def _nothing() -> None:
    """Answers nothing."""
