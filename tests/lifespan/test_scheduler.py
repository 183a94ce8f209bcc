"""Work that handlers put off, when the application stops: what runs is drained, what waits is called off."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from microkit import App, Procedure, Scheduler
from microkit_testkit import FakeClock

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F001-46")]


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def app(clock: FakeClock) -> App:
    return App(discover=False, clock=clock, settings={"app": {"shutdown_timeout": 60.0, "log_level": "CRITICAL"}})


def schedules(app: App, func: Any, *, repeat: bool = False, seconds: float = 10) -> None:
    """A procedure `later` that puts `func` off."""

    @app.on(Procedure("test.later"))
    async def later(scheduler: Scheduler) -> None:
        (scheduler.every if repeat else scheduler.after)(seconds, func)


async def test_a_handler_puts_work_off_until_after_its_own_end(app: App, clock: FakeClock, log: list[str]) -> None:
    async def work() -> None:
        log.append("work")

    schedules(app, work)
    async with app.started():
        await app.call("test.later")
        await clock.advance(9)
        assert log == []
        await clock.advance(1)
        assert log == ["work"]
        await clock.advance(100)
        assert log == ["work"]


async def test_periodic_work_goes_on_after_a_failure(app: App, clock: FakeClock, log: list[str]) -> None:
    def work() -> None:
        log.append("work")
        raise ValueError("broken on purpose")

    schedules(app, work, repeat=True)
    async with app.started():
        await app.call("test.later")
        for _ in range(3):
            await clock.advance(10)
    assert log == ["work"] * 3


async def test_what_waits_at_shutdown_is_called_off_before_anything_is_torn_down(
    app: App, clock: FakeClock, log: list[str]
) -> None:
    schedules(app, lambda: log.append("work"), repeat=True)

    @app.on_shutdown
    async def down() -> None:
        await clock.advance(100)
        log.append("down")

    async with app.started():
        await app.call("test.later")
    assert log == ["down"]


async def test_what_runs_at_shutdown_is_waited_for_and_not_repeated(app: App, clock: FakeClock, log: list[str]) -> None:
    begun, release = anyio.Event(), anyio.Event()

    async def work() -> None:
        log.append("begun")
        begun.set()
        await release.wait()
        log.append("done")

    schedules(app, work, repeat=True)
    app.on_shutdown(lambda: log.append("down"))
    await app.runtime.start_detached()
    await app.call("test.later")
    async with anyio.create_task_group() as group:
        group.start_soon(clock.advance, 10)
        await begun.wait()
        group.start_soon(app.runtime.stop)
        await anyio.wait_all_tasks_blocked()
        assert log == ["begun"]
        release.set()
    assert log == ["begun", "done", "down"]


async def test_what_does_not_end_in_time_is_cancelled(app: App, clock: FakeClock, log: list[str]) -> None:
    begun = anyio.Event()

    async def work() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    schedules(app, work)
    app.on_shutdown(lambda: log.append("down"))
    await app.runtime.start_detached()
    await app.call("test.later")
    async with anyio.create_task_group() as group:
        group.start_soon(clock.advance, 10)
        await begun.wait()
        await app.runtime.stop(0.0)
        group.cancel_scope.cancel()
    assert log == ["cancelled", "down"]


async def test_nothing_is_put_off_once_shutdown_has_begun(app: App, log: list[str]) -> None:
    @app.on_shutdown
    def down() -> None:
        with pytest.raises(RuntimeError, match="only while the application runs"):
            app.scheduler.after(1, log.append, "work")
        log.append("down")

    async with app.started():
        pass
    assert log == ["down"]


async def test_the_returned_scope_calls_it_off(app: App, clock: FakeClock, log: list[str]) -> None:
    async with app.started():
        put_off = app.scheduler.every(10, log.append, "work")
        await clock.advance(10)
        put_off.cancel()
        await clock.advance(100)
    assert log == ["work"]
