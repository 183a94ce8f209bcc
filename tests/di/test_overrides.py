"""Overrides: fakes in the place of dependencies, until undone."""

from __future__ import annotations

from typing import Any

import pytest

from microkit import App, Depends, Procedure, Provider, ResolutionError

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F001-27")]


def real() -> str:
    return "real"


def nested(value: str = Depends(real)) -> str:
    return f"nested {value}"


class Repo:
    name = "repo"


class Fake(Repo):
    name = "fake"


class Page:
    def __init__(self, repo: Repo) -> None:
        self.repo = repo


@pytest.fixture
def app() -> App:
    app = App(plugins=[], discover=False, service_providers=[[Repo, Page, ("key", lambda: "service")]])

    @app.get("/")
    @app.on(Procedure("a.b"))
    async def handler(page: Page, value: str = Depends(nested), key: str = Depends("key")) -> list[str]:
        return [page.repo.name, value, key]

    return app


async def test_fakes_apply_below_nested_dependencies_until_undone(app: App, get: Any) -> None:
    plain = ["repo", "nested real", "service"]
    async with app.started():
        assert await get(app) == plain
        with app.override(real, lambda: "fake"):
            assert await get(app) == await app.call("a.b") == ["repo", "nested fake", "service"]
            with app.override("key", lambda value=Depends(real): f"key of {value}"), app.override(Repo, Fake()):
                assert await get(app) == ["fake", "nested fake", "key of fake"]
            with app.override(real, lambda: "inner"):
                assert await get(app) == ["repo", "nested inner", "service"]
            assert await get(app) == ["repo", "nested fake", "service"]
        assert await get(app) == plain
        app.dependency_overrides[nested] = lambda: "mapped"
        assert await get(app) == ["repo", "mapped", "service"]
        app.dependency_overrides.clear()
        assert await get(app) == plain


@pytest.mark.parametrize("ends", ["aclose", "close", "__aenter__ __aexit__", "__enter__ __exit__"])
async def test_a_double_needs_no_end_as_the_service_has_one(app: App, ends: str) -> None:
    async def end(*args: Any) -> None: ...

    is_async = ends.strip("_").startswith("a")
    service = type("Connection", (), dict.fromkeys(ends.split(), end if is_async else lambda *args: None))
    app.registry.add(Provider(service))

    @app.on(Procedure("a.service"))
    async def handler(value: Any = Depends(service)) -> str:
        return str(value)

    async with app.started():
        with app.override(service, lambda: "a double"):
            assert await app.call("a.service") == "a double"


async def test_an_override_may_be_set_before_start_up(app: App, get: Any) -> None:
    with app.override(Repo, Fake), app.override("key", "text"):
        async with app.started():
            assert await get(app) == ["fake", "nested real", "text"]
    async with app.started():
        assert await get(app) == ["repo", "nested real", "service"]


async def test_app_services_keep_their_instance_unless_a_fake_is_below(app: App, get: Any) -> None:
    log: list[str] = []

    async def pool() -> Any:
        log.append("+pool")
        yield object()
        log.append("-pool")

    def cache(pool: Any = Depends(pool, scope="app"), value: str = Depends("value")) -> Any:
        log.append(f"cache of {value}")
        return object()

    app.registry.register("value", lambda: "value")

    @app.get("/ids")
    async def ids(pool: Any = Depends(pool, scope="app"), cache: Any = Depends(cache, scope="app")) -> list[int]:
        return [id(pool), id(cache)]

    with app.override("key", lambda: "early"):
        async with app.started():
            first = await get(app, "/ids")
            with app.override("value", lambda: "fake"):
                second, again = await get(app, "/ids"), await get(app, "/ids")
            assert first[0] == second[0]
            assert first[1] != second[1]
            assert second == again
            app.dependency_overrides.clear()
            assert await get(app, "/ids") == first
            assert log == ["+pool", "cache of value", "cache of fake"]
            app.dependency_overrides["key"] = lambda: "early"
    assert log[-1] == "-pool"


async def test_app_scoped_fakes_are_made_once_per_app(app: App, get: Any) -> None:
    made: list[str] = []

    async def fake(value: str = Depends(real, scope="app")) -> Any:
        made.append(value)
        yield Fake()
        made.append("left")

    @app.get("/other")
    async def other(repo: Repo) -> str:
        return repo.name

    async with app.started():
        with app.override(Repo, Depends(fake, scope="app")):
            assert (await get(app))[0] == "fake"
            assert (await app.call("a.b"))[0] == "fake"
            assert (await app.container.get(Repo)).name == "fake"
        assert made == ["real"]
    assert made == ["real", "left"]


async def test_a_fake_generator_is_torn_down(app: App, get: Any) -> None:
    log: list[str] = []

    async def fake() -> Any:
        log.append("in")
        yield "gen"
        log.append("out")

    async with app.started():
        with app.override(nested, fake):
            assert await get(app) == ["repo", "gen", "service"]
    assert log == ["in", "out"]


async def test_a_fake_that_needs_what_it_replaces_is_a_cycle(app: App) -> None:
    def fake(value: str = Depends(real)) -> str:
        return value

    with app.override(real, fake), pytest.raises(ResolutionError, match="cycle"):
        app.build()


async def test_the_fake_of_an_interface_needs_no_provider(app: App, get: Any) -> None:
    class First(Repo): ...

    class Other: ...

    app.registry.add(Provider(First))

    @app.get("/other")
    async def handler(other: Other) -> bool:
        return isinstance(other, Other)

    with app.override(Other, Other()):
        async with app.started():
            assert await get(app, "/other") is True
