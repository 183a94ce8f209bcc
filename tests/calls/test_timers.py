"""Timers and work put off, under a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import anyio
import pytest

from microkit import App, Every, Scheduler, Tick
from microkit_testkit import FakeClock, TestClient

pytestmark = [pytest.mark.anyio, pytest.mark.feature("FX-28")]


class Handler:
    """A handler of ticks that notes when each was due and when it ran, in seconds since the start of the test."""

    def __init__(self, app: App, trigger: Every, *, blocks: bool = False) -> None:
        self.fired: list[tuple[float, float, int]] = []
        self.running = 0
        self.most = 0
        self.finished = 0
        self._blocks = blocks
        self._gates: list[anyio.Event] = []
        app.on(trigger, name="poll")(self)

    async def __call__(self, tick: Tick) -> None:
        start = FakeClock().now()
        self.fired.append((tick.scheduled_at.timestamp() - start, tick.fired_at.timestamp() - start, tick.missed))
        self.running += 1
        self.most = max(self.most, self.running)
        if self._blocks:
            self._gates.append(anyio.Event())
            try:
                await self._gates[-1].wait()
            finally:
                self.running -= 1
        else:
            self.running -= 1
        self.finished += 1

    def finish(self) -> None:
        """Let all that run end."""
        for gate in self._gates:
            gate.set()


@pytest.fixture
def app() -> App:
    return App(discover=False)


async def test_a_timer_fires_from_start_to_start(app: App) -> None:
    handler = Handler(app, Every(10))
    async with TestClient(app) as client:
        assert handler.fired == []
        await client.clock.advance(9.999)
        assert handler.fired == []
        await client.clock.advance(25)
        assert handler.fired == [(10, 10, 0), (20, 20, 0), (30, 30, 0)]
        assert client.clock.due == [client.clock.now() + 40 - 34.999]


async def test_an_immediate_timer_fires_at_the_start(app: App) -> None:
    handler = Handler(app, Every(10, immediate=True))
    async with TestClient(app) as client:
        await client.settle()
        assert handler.fired == [(0, 0, 0)]
        await client.clock.advance(10)
        assert handler.fired == [(0, 0, 0), (10, 10, 0)]


async def test_jitter_puts_off_and_does_not_drift(app: App) -> None:
    handler = Handler(app, Every(100, jitter=5))
    async with TestClient(app) as client:
        await client.clock.advance(1050)
    assert [due for due, _, _ in handler.fired] == [100.0 * i for i in range(1, 11)]
    delays = [ran - due for due, ran, _ in handler.fired]
    assert all(0 <= delay <= 5 for delay in delays)
    assert len(set(delays)) > 1


@pytest.mark.parametrize(
    ("overlap", "most", "finished"),
    [("skip", 1, 1), ("queue", 1, 2), ("allow", 3, 3)],
)
async def test_a_firing_that_is_due_while_the_last_one_runs(app: App, overlap: Any, most: int, finished: int) -> None:
    handler = Handler(app, Every(10, overlap=overlap), blocks=True)
    async with TestClient(app) as client:
        await client.clock.advance(35)
        assert handler.most == most
        while handler.running:
            handler.finish()
            await client.settle()
        assert handler.finished == finished
        if overlap == "queue":
            assert handler.fired[-1][0] == 30  # the latest of those that waited
        await client.clock.advance(5)
        assert handler.fired[-1][0] == 40
        handler.finish()


@pytest.mark.parametrize(
    ("misfire", "fired"),
    [
        ("once", [(30, 37, 2), (40, 40, 0)]),
        ("skip", [(40, 40, 0)]),
        ("all", [(10, 37, 0), (20, 37, 0), (30, 37, 0), (40, 40, 0)]),
    ],
)
async def test_a_process_that_slept_makes_up_for_it(app: App, misfire: Any, fired: list[Any]) -> None:
    handler = Handler(app, Every(10, misfire=misfire))
    async with TestClient(app) as client:
        await client.clock.jump(37)
        await client.clock.advance(3)
    assert handler.fired == fired


async def test_firings_that_are_made_up_for_run_one_after_the_other(app: App) -> None:
    handler = Handler(app, Every(10, misfire="all"), blocks=True)
    async with TestClient(app) as client:
        await client.clock.jump(37)
        while handler.running:
            handler.finish()
            await client.settle()
    assert [due for due, _, _ in handler.fired] == [10, 20, 30]
    assert handler.most == 1


async def test_a_little_late_is_no_misfire(app: App) -> None:
    handler = Handler(app, Every(10, misfire="skip"))
    async with TestClient(app) as client:
        await client.clock.jump(19)
    assert handler.fired == [(10, 19, 0)]


async def test_a_failing_tick_does_not_stop_the_schedule(app: App, caplog: pytest.LogCaptureFixture) -> None:
    runs: list[datetime] = []

    @app.on(Every(10))
    async def poll(at: datetime) -> None:
        runs.append(at)
        raise LookupError

    async with TestClient(app) as client:
        await client.clock.advance(20)
    assert len(runs) == 2
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 2


@pytest.mark.parametrize("later", [datetime, float, str])
async def test_the_scheduled_time_comes_as_the_handler_asks_for_it(app: App, later: Callable[..., Any]) -> None:
    got: list[Any] = []

    async def poll(at: Any) -> None:
        got.append(at)

    poll.__annotations__["at"] = later
    app.on(Every(60))(poll)
    async with TestClient(app) as client:
        await client.tick("poll", at=0.0)
    epoch = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    assert got == [{datetime: epoch, float: 0.0, str: "1970-01-01T00:00:00+00:00"}[later]]


@pytest.mark.guarantee("G11")
async def test_the_end_stops_the_timers_and_cancels_what_runs(app: App) -> None:
    handler = Handler(app, Every(10), blocks=True)
    async with TestClient(app) as client:
        await client.clock.advance(10)
        assert handler.running == 1
        clock = client.clock
    assert (handler.running, handler.finished) == (0, 0)
    await clock.advance(100)
    assert len(handler.fired) == 1


async def test_work_is_put_off_repeated_and_called_off(app: App) -> None:
    log: list[str] = []

    @app.post("/start")
    async def start(scheduler: Scheduler) -> None:
        async def fails() -> None:
            log.append("fails")
            raise LookupError

        scheduler.after(5, log.append, "once")
        scheduler.every(10, fails)
        called_off = scheduler.after(1, log.append, "never")
        called_off.cancel()

    async with TestClient(app) as client:
        await client.post("/start")
        await client.clock.advance(4)
        assert log == []
        await client.clock.advance(1)
        assert log == ["once"]
        await client.clock.advance(15)
        assert log == ["once", "fails", "fails"]


@pytest.mark.guarantee("G7")
async def test_work_that_runs_is_waited_for_at_shutdown_and_work_that_is_not_due_is_not(app: App) -> None:
    log: list[str] = []
    gate = anyio.Event()

    async def slow() -> None:
        log.append("started")
        await gate.wait()
        log.append("done")

    async with TestClient(app) as client, anyio.create_task_group() as tasks:
        app.scheduler.after(1, slow)
        app.scheduler.after(100, log.append, "never")
        await client.clock.advance(1)
        assert log == ["started"]

        async def open_later() -> None:
            await client.settle()
            gate.set()

        tasks.start_soon(open_later)
    assert log == ["started", "done"]


def test_nothing_is_scheduled_while_the_app_does_not_run(app: App) -> None:
    with pytest.raises(RuntimeError, match="while the application runs"):
        app.scheduler.after(1, print)
