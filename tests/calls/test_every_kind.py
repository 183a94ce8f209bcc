"""What works for one kind of call works for all of them."""
# No postponed annotations here: the handlers are bound by a helper, whose names are not those of the test.

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

import anyio
import pytest

from microkit import (
    App,
    Call,
    CallNext,
    Depends,
    Event,
    Every,
    Kind,
    Procedure,
    PublicError,
    Reply,
    StatusCode,
)
from microkit.hookspecs import hookimpl
from microkit.observe import Observer
from microkit_testkit import TestClient

pytestmark = pytest.mark.anyio

Start = Callable[[TestClient], Awaitable[StatusCode]]


async def by_http(client: TestClient) -> StatusCode:
    status = (await client.get("/work")).status_code
    return {200: StatusCode.OK, 204: StatusCode.OK, 500: StatusCode.INTERNAL, 504: StatusCode.DEADLINE_EXCEEDED}[status]


async def by_rpc(client: TestClient) -> StatusCode:
    try:
        await client.rpc.jobs.work()
    except PublicError as exc:
        return exc.status
    return StatusCode.OK


async def by_message(client: TestClient) -> StatusCode:
    return (await client.publish("jobs", "work")).one.reply.status


async def by_batch(client: TestClient) -> StatusCode:
    return (await client.batch("jobs", "many", [1, 2]))[0].reply.status


async def by_tick(client: TestClient) -> StatusCode:
    return (await client.tick("work")).status


KINDS: dict[Kind, Start] = {
    Kind.HTTP: by_http,
    Kind.RPC: by_rpc,
    Kind.MESSAGE: by_message,
    Kind.BATCH: by_batch,
    Kind.TICK: by_tick,
}
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def bind_everywhere(app: App, handler: Callable[..., Any], **options: Any) -> None:
    for trigger in (
        Procedure("jobs.work"),
        Event("jobs", "work"),
        Event("jobs", "many", batch=True),
        Every(60),
    ):
        app.on(trigger, name="work", **options)(handler)
    app.get("/work", **options)(handler)


@pytest.mark.feature("FX-01")
async def test_one_function_answers_a_route_a_procedure_an_event_and_a_timer() -> None:
    app = App(discover=False)
    runs: list[Kind] = []

    @app.get("/report/{day}")
    @app.on(Procedure("reports.make"))
    @app.on(Event("calendar", "day_ended"))
    @app.on(Every(3600), name="report")
    async def report(day: str, call: Call) -> dict[str, str]:
        runs.append(call.kind)
        return {"day": day}

    async with TestClient(app) as client:
        assert (await client.get("/report/monday")).json() == {"day": "monday"}
        assert await client.rpc.reports.make("monday") == {"day": "monday"}
        assert (await client.publish("calendar", "day_ended", "monday")).one.reply.payload == {"day": "monday"}
        at = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
        assert (await client.tick("report", at=at)).payload == {"day": "2030-01-01T00:00:00+00:00"}
        await client.clock.advance(3600)
    assert runs == [Kind.HTTP, Kind.RPC, Kind.MESSAGE, Kind.TICK, Kind.TICK]


@every_kind
@pytest.mark.feature("FX-02")
@pytest.mark.guarantee("G5")
async def test_a_dependency_runs_once_and_is_torn_down_with_the_exception(kind: Kind) -> None:
    app = App(discover=False)
    log: list[str] = []
    fails = False

    async def resource() -> AsyncIterator[str]:
        log.append("open")
        try:
            yield "it"
        except LookupError:
            log.append("roll back")
            raise
        else:
            log.append("commit")

    def user(it: Annotated[str, Depends(resource)]) -> str:
        return f"user of {it}"

    async def work(it: Annotated[str, Depends(resource)], user: Annotated[str, Depends(user)]) -> None:
        log.append(user)
        if fails:
            raise LookupError

    bind_everywhere(app, work)
    async with TestClient(app, raise_server_exceptions=False) as client:
        assert await KINDS[kind](client) is StatusCode.OK
        assert log == ["open", "user of it", "commit"]
        log.clear()
        fails = True
        assert await KINDS[kind](client) is StatusCode.INTERNAL
        assert log == ["open", "user of it", "roll back"]


@every_kind
@pytest.mark.feature("FX-02")
@pytest.mark.guarantee("G6")
async def test_middleware_wraps_it_and_sees_the_final_reply(kind: Kind) -> None:
    app = App(discover=False)
    log: list[Any] = []

    async def failing_commit() -> AsyncIterator[None]:
        yield
        raise OSError("disk full")

    async def outer(call: Call, call_next: CallNext) -> Reply:
        reply = await call_next(call)
        log.append((call.kind, reply.status, type(reply.error)))
        return reply

    app.add_middleware(outer)

    async def work(_: Annotated[None, Depends(failing_commit)]) -> None: ...

    bind_everywhere(app, work)
    async with TestClient(app, raise_server_exceptions=False) as client:
        assert await KINDS[kind](client) is StatusCode.INTERNAL
    assert log == [(kind, StatusCode.INTERNAL, OSError)]


@every_kind
@pytest.mark.feature("FX-02")
@pytest.mark.guarantee("G10")
async def test_a_deadline_ends_it(kind: Kind) -> None:
    app = App(discover=False)

    async def work() -> None:
        await anyio.sleep_forever()

    bind_everywhere(app, work, timeout=0.01)
    async with TestClient(app, raise_server_exceptions=False) as client:
        assert await KINDS[kind](client) is StatusCode.DEADLINE_EXCEEDED


@every_kind
@pytest.mark.feature("FX-02")
@pytest.mark.feature("F001-27")
async def test_an_override_replaces_a_dependency_below_others_until_undone(kind: Kind) -> None:
    app = App(discover=False)
    seen: list[str] = []

    def setting() -> str:
        return "real"

    def service(setting: Annotated[str, Depends(setting)]) -> str:
        return f"service of {setting}"

    async def work(service: Annotated[str, Depends(service)]) -> None:
        seen.append(service)

    bind_everywhere(app, work)
    async with TestClient(app) as client:
        with client.override(setting, lambda: "fake"):
            await KINDS[kind](client)
        await KINDS[kind](client)
        app.dependency_overrides[service] = lambda: "other"
        await KINDS[kind](client)
        app.dependency_overrides.clear()
        await KINDS[kind](client)
    assert seen == ["service of fake", "service of real", "other", "service of real"]


@every_kind
@pytest.mark.feature("FX-02")
async def test_observers_see_its_start_and_its_end(kind: Kind) -> None:
    seen: list[Any] = []

    class Watching(Observer):
        def call_started(self, call: Call) -> None:
            seen.append(call.kind)

        def call_finished(self, call: Call, reply: Reply, duration: float) -> None:
            seen.append((reply.status, duration >= 0))

    class Plugin:
        @hookimpl
        def microkit_observers(self, app: App) -> Observer:
            return Watching()

    app = App(plugins=[Plugin()], discover=False)

    async def work() -> None: ...

    bind_everywhere(app, work)
    async with TestClient(app) as client:
        await KINDS[kind](client)
    assert seen == [kind, (StatusCode.OK, True)]


@every_kind
@pytest.mark.guarantee("G9")
async def test_an_unhandled_exception_is_logged_once_with_the_call_id(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(discover=False)
    ids: list[str] = []

    async def work(call: Call) -> None:
        ids.append(call.id)
        raise LookupError("a secret")

    bind_everywhere(app, work)
    async with TestClient(app, raise_server_exceptions=False) as client:
        assert await KINDS[kind](client) is StatusCode.INTERNAL
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [ids[0] in record.getMessage() for record in errors] == [True]


@every_kind
@pytest.mark.guarantee("G7")
async def test_background_tasks_run_in_order_unless_the_handler_raised(kind: Kind) -> None:
    from microkit import BackgroundTasks

    app = App(discover=False)
    log: list[str] = []
    fails = False

    async def work(tasks: BackgroundTasks) -> None:
        tasks.add(log.append, "first")
        tasks.add(log.append, "second")
        if fails:
            raise LookupError

    bind_everywhere(app, work)
    async with TestClient(app, raise_server_exceptions=False) as client:
        await KINDS[kind](client)
        assert log == ["first", "second"]
        fails = True
        await KINDS[kind](client)
        assert log == ["first", "second"]
