"""Cron schedules in one process, under a clock that the test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

import microkit_cron.plugin
from microkit import App, Depends, Every, Tick
from microkit.inspect import inspect_app
from microkit_cron import Cron, Firing
from microkit_testkit import FakeClock, TestClient

pytestmark = [pytest.mark.anyio, pytest.mark.feature("FX-15")]

BERLIN = ZoneInfo("Europe/Berlin")


def application() -> App:
    return App(plugins=[microkit_cron.plugin], discover=False)


async def test_a_schedule_fires_at_its_times_and_the_handler_knows_them() -> None:
    app, seen = application(), list[Any]()

    @app.on(Cron("0 3 * * *", tz="Europe/Berlin"))
    async def nightly(at: datetime, tick: Tick, firing: Firing) -> None:
        seen.append((at, tick.missed, firing))

    async with TestClient(app, clock=FakeClock(datetime(2026, 3, 28, tzinfo=UTC))) as client:
        await client.clock.advance(timedelta(days=2))
    assert [at for at, _, _ in seen] == [
        datetime(2026, 3, 28, 2, 0, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
    ]
    at, missed, firing = seen[-1]
    assert (at.tzinfo, missed) == (UTC, 0)
    assert (firing.name, firing.expression, firing.zone) == ("nightly", "0 3 * * *", BERLIN)
    assert (firing.scheduled_at, firing.scheduled_at.tzinfo) == (datetime(2026, 3, 29, 3, 0, tzinfo=BERLIN), BERLIN)
    assert (firing.attempt, firing.token, firing.lease) == (1, 0, None)


async def test_a_test_fires_a_schedule_beside_its_times() -> None:
    app, seen = application(), list[Firing]()

    def local_day(firing: Firing) -> str:
        return firing.scheduled_at.strftime("%d")

    @app.on(Cron("@monthly", tz="Asia/Tokyo"), name="billing")
    async def bill(firing: Firing, day: str = Depends(local_day)) -> str:
        seen.append(firing)
        return day

    async with TestClient(app) as client:
        reply = await client.tick("billing", at=datetime(2026, 2, 28, 15, 0, tzinfo=UTC))
    assert reply.payload == "01"
    assert seen[0].scheduled_at == datetime(2026, 3, 1, tzinfo=ZoneInfo("Asia/Tokyo"))


async def test_a_timer_of_the_kernel_has_a_firing_too() -> None:
    app, seen = application(), list[Firing]()

    @app.on(Every(10))
    async def poll(firing: Firing) -> None:
        seen.append(firing)

    async with TestClient(app) as client:
        await client.clock.advance(10)
    assert [(each.name, each.expression, each.zone) for each in seen] == [("poll", "every 10s", UTC)]


@pytest.mark.parametrize(
    ("misfire", "fired"),
    [
        ("once", [("00:30", 2), ("00:40", 0)]),
        ("skip", [("00:40", 0)]),
        ("all", [("00:10", 0), ("00:20", 0), ("00:30", 0), ("00:40", 0)]),
    ],
)
async def test_a_clock_that_is_set_forward_counts_as_being_late(misfire: Any, fired: list[Any]) -> None:
    app, seen = application(), list[Any]()

    @app.on(Cron("*/10 * * * *", misfire=misfire))
    async def handler(tick: Tick) -> None:
        seen.append((tick.scheduled_at.strftime("%H:%M"), tick.missed))

    async with TestClient(app) as client:
        await client.clock.jump(timedelta(minutes=37))
        await client.clock.advance(timedelta(minutes=3))
    assert seen == fired


async def test_a_clock_that_is_set_back_does_not_fire_again() -> None:
    app, seen = application(), list[str]()

    @app.on(Cron("*/10 * * * *"))
    async def handler(at: datetime) -> None:
        seen.append(at.strftime("%H:%M"))

    async with TestClient(app) as client:
        await client.clock.advance(timedelta(minutes=21))
        client.clock._now -= 15 * 60  # from 00:21 to 00:06
        await client.clock.advance(timedelta(minutes=30))
    assert seen == ["00:10", "00:20", "00:30"]


@pytest.mark.parametrize(("overlap", "fired"), [("skip", 1), ("queue", 2), ("allow", 3)])
async def test_a_firing_that_is_due_while_the_last_one_runs(overlap: Any, fired: int) -> None:
    app, seen, gate = application(), list[str](), anyio.Event()

    @app.on(Cron("*/10 * * * *", overlap=overlap))
    async def handler(at: datetime) -> None:
        seen.append(at.strftime("%H:%M"))
        await gate.wait()

    async with TestClient(app) as client:
        await client.clock.advance(timedelta(minutes=35))
        gate.set()
        await client.settle()
    assert len(seen) == fired


async def test_jitter_puts_off_and_does_not_move_the_due_time() -> None:
    app, seen = application(), list[tuple[datetime, datetime]]()

    @app.on(Cron("*/10 * * * *", jitter=30))
    async def handler(tick: Tick) -> None:
        seen.append((tick.scheduled_at, tick.fired_at))

    async with TestClient(app) as client:
        await client.clock.advance(timedelta(minutes=95))
    assert [due.minute for due, _ in seen] == [10, 20, 30, 40, 50, 0, 10, 20, 30]
    delays = [(fired - due).total_seconds() for due, fired in seen]
    assert all(0 <= delay <= 30 for delay in delays)
    assert len(set(delays)) > 1


def test_listings_show_expression_zone_and_the_next_times() -> None:
    app = application()

    @app.on(Cron("30 4 1 1 *", tz="Asia/Tokyo"))
    async def yearly() -> None: ...

    @app.on(Every(10))
    async def poll() -> None: ...

    info = inspect_app(app)
    assert [each.address for each in info.bindings] == ["cron 30 4 1 1 * Asia/Tokyo", "every 10s"]
    (section,) = [each for each in info.sections if each.title == "Schedules"]
    (row,) = section.rows
    assert (row["name"], row["expression"], row["zone"]) == ("yearly", "30 4 1 1 *", "Asia/Tokyo")
    assert row["next"].count("-01-01T04:30:00+09:00") == 3
