"""Teardowns: when they run, in which order, and what they see."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import anyio
import pytest

from microkit import (
    App,
    Container,
    Depends,
    NotFound,
    Provider,
    Request,
    StreamingResponse,
)
from tests.di.support import Log

pytestmark = pytest.mark.anyio


# -- teardown ----------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F001-23")
@pytest.mark.feature("F001-24")
@pytest.mark.guarantee("G5")
async def test_teardown_sees_the_exception_in_reverse(app: App, get: Any, log: Log) -> None:
    outer, inner = log.dependency("outer"), log.dependency("inner")

    @app.get("/")
    async def handler(a: str = Depends(outer), b: str = Depends(inner)) -> None:
        raise NotFound("no")

    async with app.started():
        assert await get(app) == 404
    assert log == ["+outer", "+inner", "!inner NotFound", "!outer NotFound"]


@pytest.mark.guarantee("G5")
async def test_a_returned_error_commits(app: App, get: Any, log: Log) -> None:
    @app.get("/")
    async def handler(a: str = Depends(log.dependency("a"))) -> Any:
        return 404, "no"

    async with app.started():
        assert await get(app) == 404
    assert log == ["+a", "-a"]


@pytest.mark.feature("F001-24")
@pytest.mark.guarantee("G5")
@pytest.mark.guarantee("G9")
async def test_a_failing_teardown_fails_the_call_and_stops_no_other(
    app: App, get: Any, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/")
    async def handler(
        a: str = Depends(log.dependency("a")),
        b: str = Depends(log.dependency("b", fail="teardown")),
        c: str = Depends(log.dependency("c")),
    ) -> int:
        return 1

    async with app.started():
        reply = await app.handle(Request("GET", "/"))
    assert reply.http_status == 500
    assert b"cannot be left" not in reply.body  # type: ignore[operator]
    assert log == ["+a", "+b", "+c", "-c", "-b", "!a ValueError"]
    assert [record.exc_info[1].args for record in caplog.records if record.levelno >= logging.ERROR] == [  # type: ignore[index,union-attr]
        ("b cannot be left",)
    ]


@pytest.mark.feature("F001-24")
async def test_a_failing_set_up_leaves_what_was_entered(app: App, get: Any, log: Log) -> None:
    @app.get("/")
    async def handler(
        a: str = Depends(log.dependency("a")),
        b: str = Depends(log.dependency("b", fail="set-up")),
        c: str = Depends(log.dependency("c")),
    ) -> int:
        return 1

    async with app.started():
        assert await get(app) == 500
    assert log == ["+a", "+b", "!a ValueError"]


async def test_generators_that_yield_twice_swallow_or_never_yield(app: App, get: Any) -> None:
    async def twice() -> Any:
        yield 1
        yield 2

    def twice_sync() -> Any:
        yield 1
        yield 2

    async def swallows() -> Any:
        try:
            yield 1
        except NotFound:
            pass

    async def never() -> Any:
        if False:
            yield 1

    def never_sync() -> Any:
        yield from ()

    for path, dependency in (("/twice", twice), ("/sync", twice_sync), ("/never", never), ("/never2", never_sync)):

        async def handler(value: Any = Depends(dependency)) -> int:
            return 1

        app.get(path)(handler)

    @app.get("/swallows")
    async def swallowed(value: int = Depends(swallows)) -> None:
        raise NotFound("still")

    async def threaded(value: int = Depends(never_sync, thread=True)) -> int:
        return 1

    app.get("/thread")(threaded)

    async with app.started():
        for path in ("/twice", "/sync", "/never", "/never2", "/thread"):
            assert await get(app, path) == 500, path
        assert await get(app, "/swallows") == 404


async def test_a_task_group_may_be_a_dependency(app: App, get: Any) -> None:
    async def group() -> Any:
        async with anyio.create_task_group() as tasks:
            yield tasks
            tasks.cancel_scope.cancel()

    @app.get("/{fails:int}")
    async def handler(fails: int, tasks: Any = Depends(group)) -> int:
        tasks.start_soon(anyio.sleep_forever)
        if fails:
            raise NotFound("passes through the group")
        return 1

    async with app.started():
        assert await get(app, "/0") == 1
        assert await get(app, "/1") == 404


@pytest.mark.feature("F001-24")
@pytest.mark.guarantee("G5")
async def test_teardown_runs_on_cancellation(app: App, log: Log) -> None:
    entered, done = anyio.Event(), anyio.Event()
    lock = anyio.Lock()

    async def resource() -> Any:
        try:
            yield 1
        except BaseException as exc:
            log.append(f"cancelled {isinstance(exc, anyio.get_cancelled_exc_class())}")
            async with lock:  # its checkpoint looks for cancellation
                await anyio.lowlevel.checkpoint()
            log.append("rolled back")
            raise
        finally:
            done.set()

    @app.get("/")
    async def handler(a: str = Depends(log.dependency("outer")), value: int = Depends(resource)) -> None:
        entered.set()
        await anyio.sleep_forever()

    async with app.started():
        async with anyio.create_task_group() as group:
            group.start_soon(app.handle, Request("GET", "/"))
            await entered.wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(60):
            await done.wait()
    assert log[:3] == ["+outer", "cancelled True", "rolled back"]
    assert log[3].startswith("!outer Cancelled")


@pytest.mark.feature("F001-24")
@pytest.mark.guarantee("G5")
async def test_a_teardown_that_hangs_is_cut(get: Any) -> None:
    app = App(plugins=[], discover=False, settings={"app": {"teardown_timeout": 0.05}})
    left: list[str] = []

    async def hangs() -> Any:
        yield 1
        await anyio.sleep_forever()

    def outer() -> Any:
        try:
            yield 1
        finally:
            left.append("outer")

    @app.get("/")
    async def handler(a: int = Depends(outer), b: int = Depends(hangs)) -> int:
        return 1

    async with app.started():
        with anyio.fail_after(60):
            assert await get(app) == 500
    assert left == ["outer"]


@pytest.mark.feature("F001-24")
async def test_the_scope_of_a_stream_is_left_after_its_last_item(app: App, log: Log) -> None:
    @app.get("/")
    async def handler(a: str = Depends(log.dependency("a"))) -> Any:
        async def items() -> Any:
            log.append("item")
            yield b"x"

        return StreamingResponse(items())

    async with app.started():
        reply = await app.handle(Request("GET", "/"))
        assert [item async for item in reply.body] == [b"x"]  # type: ignore[union-attr]
    assert log == ["+a", "item", "-a"]


async def test_what_a_middleware_injects_lives_around_the_handler(app: App, get: Any, log: Log) -> None:
    shared, own = log.dependency("shared"), log.dependency("own")

    async def middleware(request: Request, call_next: Any, *, value: str = Depends(shared), known: int = 3) -> Any:
        await call_next(request)
        log.append(f"again {value} {known}")
        return await call_next(request)

    app.add_middleware(middleware)

    @app.get("/")
    async def handler(a: str = Depends(shared), b: str = Depends(own)) -> list[str]:
        return [a, b]

    async with app.started():
        assert await get(app) == ["shared", "own"]
    assert log == ["+shared", "+own", "-own", "again shared 3", "+own", "-own", "-shared"]


async def test_a_middleware_takes_app_services_and_defaults_alone(app: App, get: Any) -> None:
    class Service: ...

    app.registry.add(Provider(Service))

    async def middleware(request: Request, call_next: Any, service: Service = Depends(Service), n: int = 5) -> Any:
        reply = await call_next(request)
        reply.headers["x-seen"] = f"{type(service).__name__}{n}"
        return reply

    app.add_middleware(middleware)

    @app.get("/")
    async def handler() -> int:
        return 1

    async with app.started():
        reply = await app.handle(Request("GET", "/"))
        assert (reply.http_status, reply.headers["x-seen"]) == (200, "Service5")


@pytest.mark.guarantee("G1")
async def test_a_failing_start_up_leaves_what_was_built(app: App, log: Log) -> None:
    @app.get("/")
    async def handler(
        a: str = Depends(log.dependency("a"), scope="app"),
        b: str = Depends(log.dependency("b", fail="set-up"), scope="app"),
    ) -> None: ...

    with pytest.raises(Exception, match="b cannot be set up"):
        async with app.started():
            pass
    assert log == ["+a", "+b", "-a"] or log == ["+a", "+b", "!a ValueError"]


async def test_two_applications_share_nothing(get: Any, log: Log) -> None:
    class Service: ...

    def make() -> App:
        app = App(plugins=[], discover=False, service_providers=[[Service]])

        @app.get("/")
        async def handler(service: Service, container: Container) -> list[Any]:
            return [id(service), container.has("mine")]

        return app

    first, second = make(), make()
    first.registry.register("mine", object)
    async with first.started(), second.started():
        with first.override(Service, Service()):
            pass
        (a, mine), (b, other) = await get(first), await get(second)
    assert (a != b, mine, other) == (True, True, False)


@pytest.mark.feature("F003-48")
async def test_signatures_are_inspected_at_start_up_only(app: App, get: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Service: ...

    app.registry.add(Provider(Service, scope="call"))

    @app.get("/")
    async def handler(service: Service, q: int = Depends(lambda q=1: q)) -> int:
        return q

    def refuse(*args: Any, **kwargs: Any) -> Iterable[Any]:
        raise AssertionError("a signature was inspected during a call")

    async with app.started():
        with monkeypatch.context() as patch:
            patch.setattr("inspect.signature", refuse)
            assert await get(app, "/?q=4") == 4
