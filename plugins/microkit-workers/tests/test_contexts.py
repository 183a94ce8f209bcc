"""Contexts: pools of their own, and what a saturated one costs the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from microkit import App, Call, ConfigurationError, Depends, Event, Kind, Reply, Router, hookimpl
from microkit.observe import Observer, WorkerPool
from microkit_workers import Backoff, EventListener, Route, RunnerContext, TimeEntrypoint
from microkit_workers.context import pools_of

MakeApp = Callable[..., App]


@pytest.mark.anyio
@pytest.mark.feature("F002-02")
@pytest.mark.feature("F002-49")
@pytest.mark.parametrize("mode", ["async", "thread", "greedy_thread"])
async def test_a_saturated_context_delays_no_other(make_app: MakeApp, serving: Any, until: Any, mode: str) -> None:
    app, gate, seen = make_app(), threading.Event(), []

    def slow(payload: int) -> None:
        gate.wait(60)

    def quick(payload: int) -> None:
        seen.append(payload)

    app.include(RunnerContext([Route(slow, EventListener("shop", "slow"))], mode, 2, "slow"))
    app.include(RunnerContext([Route(quick, EventListener("shop", "quick"))], mode, 1, "quick"))
    async with serving(app) as service:
        try:
            for number in range(8):
                await service.publish("shop", "slow", number)
            slow_pool = next(pool for pool in pools_of(app).all() if pool.label == "slow")
            await until(lambda: slow_pool.running == 2)
            for number in range(20):
                await service.publish("shop", "quick", number)
            await until(lambda: len(seen) == 20)
            assert slow_pool.running == 2
            assert (await service.broker.state("shop.slow__svc.slow")).unsettled == 2, "prefetch follows the pool"
        finally:
            gate.set()
        await service.drained("shop.slow__svc.slow")


@pytest.mark.anyio
@pytest.mark.feature("F002-02")
async def test_no_more_calls_run_than_there_are_workers_and_slots_come_before_dependencies(
    make_app: MakeApp, serving: Any, until: Any
) -> None:
    app, opened, most, done = make_app(prefetch_factor=4), [0], [0], []
    busy = anyio.Event()

    async def session() -> Any:
        opened[0] += 1
        most[0] = max(most[0], opened[0])
        yield
        opened[0] -= 1

    context = RunnerContext(max_workers=3)

    @context.on(Event("shop", "order"))
    async def handle(payload: int, held: Any = Depends(session)) -> None:
        if opened[0] == 3:
            busy.set()
        await busy.wait()
        await anyio.sleep(0.01)
        done.append(payload)

    app.include(context)
    async with serving(app) as service:
        for number in range(20):
            await service.publish("shop", "order", number)
        await until(lambda: len(done) == 20)
    assert most[0] == 3


@pytest.mark.anyio
@pytest.mark.feature("F002-03")
async def test_what_a_context_does_not_say_comes_from_the_settings(make_app: MakeApp) -> None:
    app = make_app(max_workers=7, worker_mode="thread", max_tasks_per_child=5)
    context, other, plain = RunnerContext(), RunnerContext([], "greedy_thread", 2), RunnerContext([], "asyncio")
    for each in (context, other, plain):
        each.on(Event("a", "b"), name=str(id(each)))(lambda payload: None)
        app.include(each)
    app.build()
    pools = [
        (pool.size, pool.mode, pool.max_tasks_per_child) for pool in pools_of(app).all() if pool.label != "default"
    ]
    assert pools == [(7, "thread", 5), (2, "greedy_thread", 5), (7, "async", 5)]
    assert [pool.label for pool in pools_of(app).all()] == ["context_1", "context_2", "context_3"]


def test_a_context_refuses_what_cannot_be(make_app: MakeApp) -> None:
    with pytest.raises(ConfigurationError, match="'fibre' must be one of"):
        RunnerContext(worker_mode="fibre")
    with pytest.raises(ConfigurationError, match="at least one worker"):
        RunnerContext(max_workers=0)


@pytest.mark.anyio
@pytest.mark.feature("F002-16")
async def test_where_handlers_run(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, where = make_app(), {}
    main = threading.get_ident()

    async def coroutine(payload: None) -> None:
        where["coroutine"] = threading.get_ident() == main

    def sync(payload: None) -> None:
        where["sync"] = threading.get_ident() == main

    for mode in ("async", "thread"):
        where.clear()
        app = make_app()
        app.include(RunnerContext([Route(each, EventListener("a", "b")) for each in (coroutine, sync)], mode))
        async with serving(app) as service:
            await service.publish("a", "b")
            await until(lambda: len(where) == 2)
        assert where == {"coroutine": True, "sync": False}


@pytest.mark.anyio
async def test_threads_of_a_context_are_its_own(make_app: MakeApp, serving: Any, until: Any) -> None:
    """More of them than anyio's own limit, and none of them taken from others."""
    app, gate, running = make_app(), threading.Event(), []

    def wait(payload: int) -> None:
        running.append(payload)
        gate.wait(60)

    app.include(RunnerContext([Route(wait, EventListener("a", "b"))], "thread", 60))
    async with serving(app) as service:
        try:
            for number in range(60):
                await service.publish("a", "b", number)
            await until(lambda: len(running) == 60)
            with anyio.fail_after(30):
                assert await anyio.to_thread.run_sync(lambda: "free") == "free"
        finally:
            gate.set()


@pytest.mark.anyio
@pytest.mark.feature("F002-24")
async def test_timers_of_a_context_take_its_workers(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, ticks, gate = make_app(), [], threading.Event()

    def block(payload: None) -> None:
        gate.wait(60)

    def tick(reference: Any) -> None:
        ticks.append(reference)

    context = RunnerContext([Route(block, EventListener("a", "b")), Route(tick, TimeEntrypoint(0.02))], "thread", 1)
    app.include(context)
    async with serving(app) as service:
        try:
            await until(lambda: ticks)
            await service.publish("a", "b")
            await until(lambda: pools_of(app).all()[-1].waiting)
            count = len(ticks)
            await anyio.sleep(0.1)
            assert len(ticks) <= count + 1
        finally:
            gate.set()
        await until(lambda: len(ticks) > count + 2)
    assert ticks[0].tzinfo is not None


@pytest.mark.anyio
async def test_a_call_in_process_uses_the_worker_of_its_caller(make_app: MakeApp, serving: Any, until: Any) -> None:
    from microkit import Procedure

    app, seen, context = make_app(), [], RunnerContext(max_workers=1)

    @context.on(Procedure("svc.inner"))
    async def inner(x: int) -> int:
        return x + 1

    @context.on(Event("a", "b"))
    async def outer(payload: int) -> None:
        seen.append(await app.call("svc.inner", payload))

    app.include(context)
    async with serving(app) as service:
        await service.publish("a", "b", 1)
        await until(lambda: seen == [2])


@pytest.mark.anyio
async def test_groups_in_a_context_share_its_workers_and_middleware(
    make_app: MakeApp, serving: Any, until: Any
) -> None:
    app, log = make_app(), []

    async def note(call: Call, call_next: Any) -> Reply:
        log.append(call.kind)
        return await call_next(call)

    inner, context = Router(), RunnerContext([], "thread", 2, "outer", middleware=[note])

    @inner.on(Event("a", "b"))
    def handle(payload: None) -> None:
        log.append(threading.current_thread() is not threading.main_thread())

    context.include(inner)
    app.include(context)
    async with serving(app) as service:
        await service.publish("a", "b")
        await until(lambda: len(log) == 2)
        (pool,) = [each for each in pools_of(app).all() if each.label == "outer"]
        await until(lambda: pool.handled == 1)
        assert (pool.running, pool.failed, pool.available) == (0, 0, 2)
        assert app.registry.get("workers.pools").value.all() == pools_of(app).all()
    assert log == [Kind.MESSAGE, True]


@pytest.mark.anyio
@pytest.mark.feature("F002-49")
async def test_the_event_loop_goes_on_while_all_workers_are_busy(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, gate = make_app(), threading.Event()

    def busy(payload: int) -> None:
        gate.wait(60)

    app.include(RunnerContext([Route(busy, EventListener("a", "b"))], "thread", 2, "busy"))
    async with serving(app) as service:
        (pool,) = [each for each in pools_of(app).all() if each.label == "busy"]
        for number in range(4):
            await service.publish("a", "b", number)
        await until(lambda: pool.running == 2)
        for _ in range(20):
            await anyio.sleep(0.01)
        assert pool.running == 2, "workers wait for the event loop"
        gate.set()
        await service.drained("a.b__svc.busy")


class Watching(Observer):
    """Notes the pools that it is told of."""

    def __init__(self) -> None:
        self.pools = list[WorkerPool]()

    def pool_opened(self, pool: WorkerPool) -> None:
        self.pools.append(pool)


@pytest.mark.anyio
@pytest.mark.feature("F002-23")
async def test_observers_are_told_of_the_pools_that_are_used_at_each_start() -> None:
    watching = Watching()

    class Plugin:
        @hookimpl
        def microkit_observers(self, app: App) -> Observer:
            return watching

    app, context = App(plugins=[Plugin()]), RunnerContext([], "thread", 2, "outer")
    context.on(Event("a", "b"))(lambda payload: None)
    context.every(3600)(lambda: None)
    app.include(context)
    app.get("/")(lambda: None)
    for start in (1, 2):
        async with app.started():
            (pool,) = watching.pools[start - 1 :]
            assert (pool.label, pool.mode, pool.size, pool.running, pool.waiting) == ("outer", "thread", 2, 0, 0)
    assert sorted((plan.kind.name, plan.context) for plan in app.table.plans if plan.ingress) == [
        ("HTTP", ""),
        ("MESSAGE", "outer"),
        ("TICK", "outer"),
    ]


@pytest.mark.anyio
@pytest.mark.feature("F002-23")
@pytest.mark.parametrize("label", ["mails", "default"])
async def test_labels_that_tell_no_pools_apart_are_refused(label: str) -> None:
    app = App()
    for name in (label, "mails"):
        context = RunnerContext(context_metric_label=name)
        context.on(Event("a", name + str(id(context))))(lambda payload: None)
        app.include(context)
    app.on(Event("a", "c"))(lambda payload: None)
    with pytest.raises(ConfigurationError, match=f"have the label '{label}'"):
        async with app.started():
            pass


@pytest.mark.feature("FX-09")
@pytest.mark.anyio
async def test_a_thread_that_outlives_its_deadline_keeps_its_worker_and_its_message_is_retried_by_another(
    make_app: MakeApp, serving: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app, gate, seen = make_app(), threading.Event(), list[str]()
    context = RunnerContext([], "thread", 3, "hanging")

    @context.on(Event("a", "hang"), timeout=0.1, retry=Backoff(1, 0.01))
    def hang(payload: None) -> None:
        gate.wait(60)

    @context.on(Event("a", "b"))
    def handle(payload: str) -> None:
        seen.append(payload)

    app.include(context)
    try:
        async with serving(app) as service:
            (pool,) = [each for each in pools_of(app).all() if each.label == "hanging"]
            await service.publish("a", "hang")
            letter = await service.dead_one()
            assert letter.attempts == 2
            await until(lambda: pool.running == 2)
            assert letter.reason.startswith("retries exhausted: PublicError: DEADLINE_EXCEEDED")
            for _ in range(3):
                await service.publish("a", "b", "good")
            await until(lambda: seen.count("good") == 3)
            await service.drained("a.b__svc.handle")
            await until(lambda: pool.running == 2)
            assert "all 3 workers" not in caplog.text
            await service.publish("a", "hang")
            await until(lambda: "all 3 workers of hanging are kept" in caplog.text)
            await service.publish("a", "b", "last")
            await anyio.sleep(0.2)
            assert "last" not in seen
            gate.set()
            await until(lambda: "last" in seen)
            await until(lambda: pool.running == 0)
    finally:
        gate.set()
