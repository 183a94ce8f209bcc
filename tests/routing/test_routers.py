"""Several routers in one application: the explicit one comes first."""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar

import pytest

from microkit import App, ConfigurationError, Route, RouterSpec, hookimpl
from microkit.routing.matching import LinearRouter

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G3")]


class Other(Route):
    """A route that goes to a router of its own."""

    router: ClassVar[str | None] = "other"


@pytest.fixture
def two_routers() -> App:
    """An application with a second router."""
    plugin = ModuleType("second_router")

    @hookimpl
    def microkit_routers() -> list[RouterSpec]:
        return [RouterSpec("other", LinearRouter)]

    plugin.__dict__["microkit_routers"] = microkit_routers
    return App(plugins=[plugin], discover=False)


async def test_explicit_routes_come_before_those_of_another_router(two_routers: App, ask: Any) -> None:
    app = two_routers
    app.on(Other("/me", "GET"))(_other)
    app.on(Other("/{x}/y", None))(_other)
    app.get("/{name}")(_explicit)
    app.get("/x/{name}")(_explicit)
    for method, path, body in (
        ("GET", "/me", b"explicit"),
        ("HEAD", "/me", b""),
        ("GET", "/x/y", b"explicit"),
        ("POST", "/x/y", b"other"),
        ("GET", "/z/y", b"other"),
    ):
        answer = await ask(app, method, path)
        assert (answer.status, answer.body) == (200, body), path
    assert (await ask(app, "POST", "/me")).allow == {"GET", "HEAD", "OPTIONS"}


async def test_allow_is_the_union_over_all_routers(two_routers: App, ask: Any) -> None:
    two_routers.on(Other("/{x}", "PUT"))(_other)
    two_routers.get("/me")(_explicit)
    assert (await ask(two_routers, "POST", "/me")).allow == {"GET", "HEAD", "PUT", "OPTIONS"}
    assert (await ask(two_routers, "PUT", "/me")).body == b"other"


def test_a_router_that_no_plugin_brings_is_named() -> None:
    app = App(plugins=[], discover=False)
    app.on(Other("/x"))(_other)
    with pytest.raises(ConfigurationError, match=r"the router 'other'.*linear"):
        app.build()


async def _explicit() -> str:
    return "explicit"


async def _other() -> str:
    return "other"
