"""How long things live, and how they are left."""

from __future__ import annotations

from typing import Any

import pytest

from microkit import (
    App,
    BackgroundTasks,
    Depends,
    NotFound,
    Procedure,
    Provider,
    PublicError,
    Request,
    ResolutionError,
)
from tests.di.support import Log

pytestmark = pytest.mark.anyio


@pytest.mark.feature("F001-22")
@pytest.mark.guarantee("G5")
async def test_app_scope_is_shared_by_all_plans_and_call_scope_by_none(app: App, get: Any, log: Log) -> None:
    shared, own = log.dependency("shared"), log.dependency("own")

    @app.get("/a")
    @app.get("/b")
    @app.on(Procedure("x.y"))
    async def handler(s: str = Depends(shared, scope="app"), o: str = Depends(own)) -> list[str]:
        return [s, o]

    async with app.started():
        for _ in range(2):
            assert await get(app, "/a") == await get(app, "/b") == await app.call("x.y") == ["shared", "own"]
        assert log.count("+shared") == 1
        assert log.count("+own") == log.count("-own") == 6
        assert "-shared" not in log
    assert log[-1] == "-shared"


@pytest.mark.guarantee("G5")
async def test_connection_scope_is_shared_by_the_procedures_of_a_connection(app: App, log: Log) -> None:
    session = log.dependency("session")

    class User:
        def __init__(self, session: str = Depends(session, scope="connection")) -> None:
            self.session = session

    app.registry.add(Provider(User))

    @app.on(Procedure("a.one"))
    async def one(user: User, session: str = Depends(session, scope="connection")) -> int:
        return id(user)

    @app.on(Procedure("a.two"))
    async def two(user: User) -> int:
        return id(user)

    @app.on(Procedure("a.fails"))
    async def fails() -> None:
        raise NotFound("nothing")

    first = app.connection()  # before start-up
    async with app.started():
        async with first, app.connection() as other:
            assert await first.call("a.one") == await first.call("a.two")
            assert await other.call("a.one") != await first.call("a.one")
            assert log == ["+session", "+session"]
            with pytest.raises(NotFound):
                await first.call("a.fails")
        assert log[2:] == ["-session", "-session"]
        log.clear()
        await app.call("a.one")  # without a connection the call is one
        assert log == ["+session", "-session"]
        log.clear()
        with pytest.raises(NotFound):  # noqa: PT012
            async with app.connection() as connection:
                await connection.call("a.one")
                await connection.call("a.fails")
        assert log == ["+session", "!session NotFound"]


@pytest.mark.guarantee("G7")
async def test_background_scope_outlives_the_reply(app: App, get: Any, log: Log) -> None:
    call, late = log.dependency("call"), log.dependency("late")

    @app.get("/")
    async def handler(
        tasks: BackgroundTasks, c: str = Depends(call), late: str = Depends(late, scope="background")
    ) -> int:
        async def task() -> None:
            log.append(f"task {late}")

        tasks.add(task)
        return 1

    async with app.started():
        assert await get(app) == 1
    assert log == ["+late", "+call", "-call", "task late", "-late"] or log == [
        "+call",
        "+late",
        "-call",
        "task late",
        "-late",
    ]


class Closes:
    log: list[str]

    def __init__(self, log: list[str]) -> None:
        self.log = log


class Async(Closes):
    async def __aenter__(self) -> None:
        self.log.append("+async")

    async def __aexit__(self, kind: type[BaseException] | None, exc: object, traceback: object) -> None:
        self.log.append(f"-async {kind and kind.__name__}")


class Sync(Closes):
    def __enter__(self) -> None:
        self.log.append("+sync")

    def __exit__(self, kind: type[BaseException] | None, exc: object, traceback: object) -> None:
        self.log.append(f"-sync {kind and kind.__name__}")


class AClose(Closes):
    async def aclose(self) -> None:
        self.log.append("aclose")


class Close(Closes):
    def close(self) -> None:
        self.log.append("close")


@pytest.mark.feature("F000-10")
@pytest.mark.parametrize("fails", [False, True])
async def test_services_are_disposed_in_reverse(app: App, get: Any, fails: bool) -> None:
    log: list[str] = []
    kinds = (Async, Sync, AClose, Close)
    for kind in kinds:
        app.registry.add(Provider(kind, lambda kind=Depends(lambda kind=kind: kind): kind(log), scope="call"))
    given = Close(log)
    app.registry.add(Provider("given", value=given))

    @app.get("/")
    async def handler(a: Async, b: Sync, c: AClose, d: Close, given: Any = Depends("given")) -> list[str]:
        if fails:
            raise NotFound("no")
        return [type(each).__name__ for each in (a, b, c, d)]

    async with app.started():
        assert await get(app) == (404 if fails else ["Async", "Sync", "AClose", "Close"])
    name = "NotFound" if fails else None
    assert log == ["+async", "+sync", "close", "aclose", f"-sync {name}", f"-async {name}"]


# -- captives ----------------------------------------------------------------------------------------------------------


class Db:
    def __init__(self, request: Request) -> None: ...


class Cache:
    def __init__(self, db: Db) -> None: ...


@pytest.mark.feature("F000-04")
@pytest.mark.guarantee("G4")
async def test_nothing_holds_what_lives_shorter(app: App, log: Log) -> None:
    def fails(dependency: Any, *names: str) -> None:
        own = App(plugins=[], discover=False, service_providers=[[Db]])

        async def handler(value: Any = dependency) -> None: ...

        own.on(Procedure("a.b"))(handler) if "connection" in names else own.get("/")(handler)
        with pytest.raises(ResolutionError) as caught:
            own.build()
        for name in names:
            assert name in str(caught.value)

    call = log.dependency("call")

    def holds(value: Any = Depends(call)) -> None: ...

    def session(value: Any = Depends(call, scope="connection")) -> None: ...

    def takes(request: Request) -> None: ...

    fails(Depends(Cache, scope="app"), "Cache", "Db", "app")
    fails(Depends(holds, scope="app"), "holds", "recorded", "app")
    fails(Depends(holds, scope="background"), "holds", "recorded", "background")
    fails(Depends(holds, scope="connection"), "holds", "recorded", "connection")
    fails(Depends(session, scope="app"), "session", "recorded", "app")
    fails(Depends(takes, scope="app"), "takes", "request", "app")


async def test_background_may_hold_values_that_need_no_teardown(app: App, get: Any) -> None:
    def name(q: str = "x") -> str:
        return q

    async def late(name: str = Depends(name)) -> Any:
        yield name.upper()

    @app.get("/")
    async def handler(value: str = Depends(late, scope="background")) -> list[str]:
        return [value]

    async with app.started():
        assert await get(app, "/?q=y") == ["Y"]


async def test_public_errors_of_dependencies_reach_the_caller(app: App) -> None:
    def deny() -> None:
        raise PublicError("not you")

    @app.on(Procedure("a.b"))
    async def handler(denied: None = Depends(deny)) -> None: ...

    async with app.started():
        with pytest.raises(PublicError, match="not you"):
            await app.call("a.b")
