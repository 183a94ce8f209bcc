"""Services asked for by code."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import (
    App,
    Container,
    Depends,
    Provider,
    Request,
    ResolutionError,
)
from tests.di.services import Page, Repo, Services, Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def app() -> App:
    Repo.built = 0
    return App(plugins=[], discover=False, service_providers=(each for each in [Services()]))


class Unknown: ...


# -- the container -----------------------------------------------------------------------------------------------------


@pytest.mark.feature("F000-09")
async def test_the_container_answers_within_its_call(app: App, get: Any) -> None:
    def combine(a: int, repo: Repo, *, b: int = 2) -> list[Any]:
        return [a, b, type(repo).__name__]

    @app.get("/")
    async def handler(container: Container, page: Page) -> list[Any]:
        container.set("mine", 1)
        assert await container.get("mine") == 1
        assert container.has("mine")
        assert not container.has(Unknown)
        container.remove(Settings)
        assert not container.has(Settings)
        with pytest.raises(ResolutionError, match="No service is registered"):
            await container.get(Settings)
        return [await container.get(Page) is page, await container.call(combine, {"a": 1, "unknown": 2})]

    @app.get("/later")
    async def later(container: Container) -> list[bool]:
        return [container.has("mine"), container.has(Settings)]

    async with app.started():
        assert await get(app) == [True, [1, 2, "Repo"]]
        assert await get(app, "/later") == [False, True]


@pytest.mark.feature("F000-09")
async def test_the_applications_container(app: App) -> None:
    async with app.started():
        repo = await app.container.get(Repo)
        assert await app.container.get(Repo) is repo
        app.container.set(Repo, "other")
        assert await app.container.get(Repo) == "other"
        app.container.remove(Repo)
        assert not app.container.has(Repo)
        app.registry.add(Provider("short", object, scope="call"))
        with pytest.raises(ResolutionError, match="call"):
            await app.container.get("short")
        assert await app.container.call(lambda a, settings=Depends(Settings): (a, settings.url), {"a": 1}) == (
            1,
            "sqlite",
        )


async def test_the_container_needs_a_running_application(app: App) -> None:
    with pytest.raises(RuntimeError, match="start the application first"):
        await app.container.get(Repo)


@pytest.mark.guarantee("G1")
@pytest.mark.guarantee("G2")
async def test_a_lazy_app_service_is_made_in_the_task_that_owns_the_app(app: App) -> None:
    tasks: list[int] = []

    async def pool() -> Any:
        tasks.append(anyio.get_current_task().id)
        with anyio.CancelScope():  # fails if it is left in another task
            yield object()
        tasks.append(anyio.get_current_task().id)

    app.registry.register("pool", pool)
    found: list[Any] = []

    async def ask() -> None:
        found.append(await app.container.get("pool"))

    async with app.started():
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
        assert len({id(each) for each in found}) == 1
    assert len(tasks) == 2
    assert len(set(tasks)) == 1
    assert tasks[0] != anyio.get_current_task().id


async def test_a_lazy_app_service_may_ask_for_others(app: App) -> None:
    async def outer(container: Container) -> Any:
        return ("outer", await container.get("inner"))

    app.registry.register("outer", outer)
    app.registry.register("inner", lambda: "inner")
    app.registry.register("round", lambda c: c.get("round"))

    async def fails() -> None:
        raise ValueError("no pool today")

    app.registry.register("fails", fails)
    async with app.started():
        assert await app.container.get("outer") == ("outer", "inner")
        for _ in range(2):
            with pytest.raises(ValueError, match="no pool today"):
                await app.container.get("fails")
        assert await app.container.get("inner") == "inner"


async def test_a_cycle_through_the_container_is_an_error(app: App) -> None:
    async def chicken(container: Container) -> Any:
        return await container.get("egg")

    async def egg(container: Container) -> Any:
        return await container.get("chicken")

    app.registry.register("chicken", chicken)
    app.registry.register("egg", egg)
    app.registry.register("c2", chicken, scope="call")

    async with app.started():
        with pytest.raises(ResolutionError, match=r"chicken.* -> .*egg.* -> .*chicken"):
            await app.container.get("chicken")


async def test_concurrent_asks_within_a_call_make_one_instance(app: App, get: Any) -> None:
    runs: list[int] = []

    async def slow() -> object:
        runs.append(1)
        await anyio.lowlevel.checkpoint()
        return object()

    app.registry.register("slow", slow, scope="call")

    @app.get("/")
    async def handler(container: Container) -> list[int]:
        found: list[Any] = []

        async def ask() -> None:
            found.append(await container.get("slow"))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
        return [len({id(each) for each in found}), len(runs)]

    async with app.started():
        assert await get(app) == [1, 1]


async def test_what_a_container_makes_early_is_shared_with_the_handler(app: App, get: Any) -> None:
    runs: list[str] = []

    def session() -> Any:
        runs.append("in")
        yield len(runs)
        runs.append("out")

    app.registry.register("session", session, scope="call")

    async def middleware(request: Request, call_next: Any, container: Container) -> Any:
        before = await container.get("session")
        reply = await call_next(request)
        assert await container.get("session") == before
        runs.append("after")
        return reply

    app.add_middleware(middleware)

    @app.get("/")
    async def handler(session: int = Depends("session")) -> int:
        return session

    async with app.started():
        assert await get(app) == 1
    assert runs == ["in", "after", "out"]


async def test_what_a_container_makes_in_a_repeated_handler_is_made_anew(app: App, get: Any) -> None:
    log: list[str] = []

    def session() -> Any:
        log.append("in")
        yield object()
        log.append("out")

    app.registry.register("session", session, scope="call")

    async def twice(request: Request, call_next: Any) -> Any:
        await call_next(request)
        return await call_next(request)

    app.add_middleware(twice)

    @app.get("/")
    async def handler(container: Container) -> bool:
        return await container.get("session") is await container.get("session")

    async with app.started():
        assert await get(app) is True
    assert log == ["in", "out", "in", "out"]


async def test_what_must_be_left_is_not_made_in_a_child_task(app: App, get: Any) -> None:
    def session() -> Any:
        yield 1

    app.registry.register("session", session, scope="call")

    @app.get("/")
    async def handler(container: Container) -> str:
        errors: list[str] = []

        async def ask() -> None:
            try:
                await container.get("session")
            except RuntimeError as exc:
                errors.append(str(exc))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
        return errors[0]

    async with app.started():
        reply = await app.handle(Request("GET", "/"))
        assert b"must be left in the task that entered it" in reply.body
