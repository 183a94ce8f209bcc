"""The end: what is finished, what is given back, what is cut off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from microkit import App, Event, Procedure, PublicError, StatusCode
from microkit_workers import EventListener, Route, RunnerContext
from microkit_workers.brokers import MemoryBroker, SqliteBroker
from microkit_workers.context import pools_of

MakeApp = Callable[..., App]
pytestmark = [pytest.mark.guarantee("G11"), pytest.mark.feature("F002-50")]


@pytest.fixture
def url(tmp_path: Any) -> str:
    """Messages that must be found again afterwards."""
    return f"sqlite:///{tmp_path}/broker.db"


async def left(url: str, queue: str) -> int:
    """How many messages are in a queue after the end."""
    broker = SqliteBroker.from_url(url)
    await broker.connect()
    try:
        state = await broker.state(queue)
        return state.ready + state.unsettled
    finally:
        await broker.close()


@pytest.mark.anyio
@pytest.mark.feature("F002-13")
@pytest.mark.feature("F002-14")
@pytest.mark.parametrize(("mode", "finished"), [("thread", 2), ("greedy_thread", 6), ("async", 2)])
async def test_what_runs_is_finished_and_what_waits_goes_back_unless_the_pool_is_greedy(
    make_app: MakeApp, serving: Any, until: Any, url: str, mode: str, finished: int
) -> None:
    app, done, gate = make_app(prefetch_factor=3), list[int](), threading.Event()

    def sync(payload: int) -> None:
        gate.wait(60)
        done.append(payload)

    app.include(RunnerContext([Route(sync, EventListener("a", "b"))], mode, 2))
    async with serving(app) as service:
        for number in range(10):
            await service.publish("a", "b", number)
        (pool,) = [each for each in pools_of(app).all() if each.label != "default"]
        await until(lambda: pool.running == 2 and pool.waiting == 4)
        service.host.stop()
        await anyio.sleep(0.1)
        assert done == []
        gate.set()
    assert len(done) == finished
    assert await left(url, "a.b__svc.sync") == 10 - finished


@pytest.mark.anyio
@pytest.mark.feature("FX-31")
async def test_what_is_not_done_by_the_deadline_is_cancelled_and_given_back(
    make_app: MakeApp, serving: Any, until: Any, url: str
) -> None:
    app, log = make_app(app={"shutdown_timeout": 0.1}), list[str]()

    @app.on(Event("a", "b"))
    async def hang(payload: int) -> None:
        try:
            log.append("running")
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    async with serving(app) as service:
        await service.publish("a", "b", 1)
        await until(lambda: log)
    assert log == ["running", "cancelled"]
    assert await left(url, "a.b__svc.hang") == 1


@pytest.mark.anyio
async def test_the_message_of_a_thread_that_hangs_is_given_back_before_it_ends(
    make_app: MakeApp, serving: Any, until: Any, url: str
) -> None:
    app, gate, running = make_app(app={"shutdown_timeout": 0.1}), threading.Event(), list[int]()

    def hang(payload: int) -> None:
        running.append(payload)
        gate.wait(60)

    app.include(RunnerContext([Route(hang, EventListener("a", "b"))], "thread", 1))
    async with serving(app) as service:
        await service.publish("a", "b", 1)
        await until(lambda: running)
        service.host.stop()
        try:
            with anyio.fail_after(30):
                while (await service.broker.state("a.b__svc.hang")).unsettled:  # noqa: ASYNC110
                    await anyio.sleep(0.02)
            assert (await service.broker.state("a.b__svc.hang")).ready == 1
        finally:
            gate.set()
    assert await left(url, "a.b__svc.hang") == 1


@pytest.mark.anyio
async def test_messages_that_arrive_while_it_stops_are_not_lost_and_nothing_runs_twice(
    make_app: MakeApp, serving: Any, until: Any, url: str
) -> None:
    app, done = make_app(), list[int]()

    @app.on(Event("a", "b"))
    async def handle(payload: int) -> None:
        await anyio.sleep(0.001)
        done.append(payload)

    async with serving(app) as service:
        async with anyio.create_task_group() as group:

            async def publish() -> None:
                for number in range(200):
                    await service.publish("a", "b", number)

            group.start_soon(publish)
            await until(lambda: len(done) > 20)
            await until(lambda: len(done) > 50 or len(done) == 200)
    assert len(set(done)) == len(done)
    assert len(done) + await left(url, "a.b__svc.handle") == 200


@pytest.mark.anyio
async def test_a_call_that_waits_for_a_worker_when_the_service_stops_is_refused(
    make_app: MakeApp, serving: Any, until: Any
) -> None:
    app, gate, told, context = make_app(), anyio.Event(), list[Any](), RunnerContext(max_workers=1)

    @context.on(Procedure("svc.wait"))
    async def wait() -> None:
        await gate.wait()

    @context.on(Event("a", "b"))
    async def other(payload: int) -> None: ...

    app.include(context)

    async def call() -> None:
        try:
            told.append(await app.call("svc.wait"))
        except PublicError as exc:
            told.append(exc.status)

    async with anyio.create_task_group() as group:
        async with serving(app) as service:
            group.start_soon(call)
            group.start_soon(call)
            await until(lambda: pools_of(app).all()[0].waiting == 1)
            service.host.stop()
            await until(lambda: told)
            gate.set()
        await until(lambda: len(told) == 2)
    assert told == [StatusCode.UNAVAILABLE, None]


@pytest.mark.anyio
async def test_it_can_start_again(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, seen = make_app(), list[int]()

    def handle(payload: int) -> None:
        seen.append(payload)

    app.include(RunnerContext([Route(handle, EventListener("a", "b"))], "thread", 1))
    for number in (1, 2):
        async with serving(app) as service:
            await service.publish("a", "b", number)
            await until(lambda number=number: seen[-1:] == [number])
    assert seen == [1, 2]


@pytest.mark.anyio
async def test_an_application_may_bring_a_broker_of_its_own(serving: Any, until: Any) -> None:
    from microkit import Provider
    from microkit.broker import Broker

    app, seen = App(name="svc"), list[int]()
    broker = MemoryBroker()
    await broker.connect()
    app.registry.add(Provider(Broker, value=broker))

    @app.on(Event("a", "b"))
    async def handle(payload: int) -> None:
        seen.append(payload)

    async with serving(app) as service:
        assert service.broker is broker
        await service.publish("a", "b", 1)
        await until(lambda: seen)
    await broker.close()
