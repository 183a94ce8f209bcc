"""Timers under a clock that the test moves."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, Every, Kind, Tick, hookimpl
from microkit.host import select
from microkit.schedule import Runs, Timers
from microkit.transport import Process, TransportSpec

pytestmark = pytest.mark.anyio


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._moved = anyio.Event()

    def now(self) -> float:
        return self.time

    async def sleep_until(self, moment: float) -> None:
        while self.time < moment:
            await self._moved.wait()
        await anyio.lowlevel.checkpoint()

    async def move(self, seconds: float) -> None:
        """Move it and let everything run that this wakes."""
        self.time += seconds
        moved, self._moved = self._moved, anyio.Event()
        moved.set()
        await anyio.wait_all_tasks_blocked()


async def _running(app: App, steps: Any, index: int = 0) -> None:
    async with app.started(), anyio.create_task_group() as tasks:
        timers = Timers()
        await timers.start(app, Process(tasks, index=index, count=2))
        await anyio.wait_all_tasks_blocked()
        await steps()
        await timers.stop(5.0)


@pytest.mark.feature("F002-24")
async def test_a_timer_fires_every_period_with_the_scheduled_time() -> None:
    clock, seen = Clock(), []
    app = App(discover=False, clock=clock)

    @app.on(Every(10))
    async def tick(at: datetime) -> None:
        seen.append(at)

    async def steps() -> None:
        for _ in range(25):
            await clock.move(1)

    await _running(app, steps)
    assert seen == [datetime.fromtimestamp(moment, UTC) for moment in (1010, 1020)]


@pytest.mark.feature("F002-24")
@pytest.mark.parametrize(("overlap", "begun"), [("skip", 1), ("queue", 1), ("allow", 3)])
async def test_one_run_at_a_time_unless_declared_otherwise(
    overlap: Any, begun: int, caplog: pytest.LogCaptureFixture
) -> None:
    clock, counts, release = Clock(), [0, 0], anyio.Event()
    app = App(discover=False, clock=clock)

    @app.on(Every(10, overlap=overlap))
    async def tick() -> None:
        counts[0] += 1
        await release.wait()
        counts[1] += 1

    async def steps() -> None:
        for _ in range(3):
            await clock.move(10)
        assert counts == [begun, 0]
        release.set()
        await anyio.wait_all_tasks_blocked()
        assert counts[1] == {"skip": 1, "queue": 2, "allow": 3}[overlap]

    with caplog.at_level(logging.WARNING, "microkit.schedule"):
        await _running(app, steps)
    assert ("still runs" in caplog.text) is (overlap == "skip")


@pytest.mark.parametrize(("misfire", "missed"), [("once", [2]), ("skip", []), ("all", [0, 0, 0])])
async def test_a_late_loop_makes_up_as_declared(misfire: Any, missed: list[int]) -> None:
    clock, seen = Clock(), []
    app = App(discover=False, clock=clock)

    @app.on(Every(10, misfire=misfire, overlap="allow"))
    async def tick(tick: Tick) -> None:
        seen.append(tick.missed)

    async def steps() -> None:
        await clock.move(35)

    await _running(app, steps)
    assert seen == missed


@pytest.mark.feature("FX-07")
async def test_only_the_first_process_fires_what_is_not_for_each() -> None:
    clock, seen = Clock(), []
    app = App(discover=False, clock=clock)

    @app.on(Every(10))
    async def one() -> None:
        seen.append("one")

    @app.on(Every(10, each_process=True, immediate=True))
    async def each() -> None:
        seen.append("each")

    async def steps() -> None:
        await clock.move(10)

    await _running(app, steps, index=1)
    assert seen == ["each", "each"]


@pytest.mark.guarantee("G11")
async def test_stopping_waits_for_a_running_tick_and_fires_no_more() -> None:
    clock, seen, release = Clock(), [], anyio.Event()
    app = App(discover=False, clock=clock)

    @app.on(Every(10))
    async def tick() -> None:
        seen.append("begun")
        await release.wait()
        seen.append("done")

    async with app.started(), anyio.create_task_group() as tasks:
        timers = Timers()
        await timers.start(app, Process(tasks))
        await anyio.wait_all_tasks_blocked()
        await clock.move(10)
        tasks.start_soon(timers.stop, 60.0)
        await anyio.wait_all_tasks_blocked()
        await clock.move(10)
        release.set()
    assert seen == ["begun", "done"]


async def test_timers_that_were_never_started_can_be_stopped() -> None:
    with anyio.fail_after(60):
        await Timers().stop(1.0)


async def test_a_failing_tick_is_logged_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    clock, seen = Clock(), []
    app = App(discover=False, clock=clock)

    @app.on(Every(10))
    async def tick() -> None:
        seen.append(clock.time)
        raise ValueError("broken tick")

    async def steps() -> None:
        await clock.move(10)
        await clock.move(10)

    await _running(app, steps)
    assert seen == [1010.0, 1020.0]
    assert caplog.text.count("ValueError: broken tick") == 2


@pytest.mark.feature("FX-15")
async def test_a_plugin_decides_which_process_fires_and_what_becomes_of_a_firing() -> None:
    class EverySecond(Runs):
        async def first(self) -> float:
            return self.start + 5

        async def offer(self, due: float, now: float, missed: int) -> None:
            if due % 20 == 5:
                await super().offer(due, now, missed)

        def close(self) -> None:
            seen.append("closed")

    class Selected(Timers):
        def fires(self, plan: Any, process: Process) -> bool:
            return True

        def runs(self, app: App, name: str, plan: Any, group: Any) -> Runs:
            return EverySecond(app, name, plan, group)

    class Plugin:
        @hookimpl
        def microkit_transports(self) -> TransportSpec:
            return TransportSpec("timers", Kind.TICK, server=Selected, automatic=True)

    clock, seen = Clock(), []
    app = App(plugins=[Plugin()], discover=False, clock=clock)

    @app.on(Every(10))
    async def tick(at: float) -> None:
        seen.append(at)

    async with app.started(), anyio.create_task_group() as tasks:
        (timers,) = select(app, (), None, "asyncio")
        await timers.start(app, Process(tasks, index=3, count=4))
        await anyio.wait_all_tasks_blocked()
        for _ in range(30):
            await clock.move(1)
        await timers.stop(5.0)
    assert seen == [1005.0, "closed"]
