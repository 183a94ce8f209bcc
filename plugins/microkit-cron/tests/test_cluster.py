"""Several machines with one store, in one process and under clocks that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import microkit_cron.plugin
from microkit import App, Every, Provider, StartupError, Tick
from microkit_cron import Cron, Firing
from microkit_kv import MemoryStore, Store, StoreUnavailable
from microkit_testkit import FakeClock, TestClient

pytestmark = [pytest.mark.anyio, pytest.mark.feature("FX-15")]

LEASE = 30.0
START = datetime(2026, 1, 1, tzinfo=UTC)
Run = tuple[str, str, int, int]


class Cluster:
    """Machines that run the same application.

    Time to live in the store is that of `lapse`, so no lease is over because the machine of this test stood still.

    Attributes:
        store: what they share.
        runs: machine, due time, missed firings and attempt of each run, in the order of their begin.
        done: due times of the runs that came to their end.
        hold: runs wait here, if it is not set.
    """

    def __init__(self, trigger: Any, store: type[MemoryStore] = MemoryStore, **settings: Any) -> None:
        self.trigger = trigger
        self.passed = 0.0
        self.store = store(clock=lambda: self.passed)
        self.settings = {"cluster": True, "lease": LEASE} | settings
        self.clock = FakeClock(START)
        self.runs: list[Run] = []
        self.tokens: list[int] = []
        self.done: list[str] = []
        self.hold = anyio.Event()
        self.hold.set()

    def app(self, machine: str) -> App:
        app = App(plugins=[microkit_cron.plugin], discover=False, settings={"cron": self.settings}, clock=self.clock)
        app.registry.add(Provider(Store, value=self.store))

        @app.on(self.trigger, name="job")
        async def job(tick: Tick, firing: Firing) -> None:
            due = tick.scheduled_at.strftime("%H:%M")
            self.runs.append((machine, due, tick.missed, firing.attempt))
            self.tokens.append(firing.token)
            assert firing.lease is None or firing.lease.remaining > 0
            await self.hold.wait()
            self.done.append(due)

        return app

    @asynccontextmanager
    async def machine(self, name: str, clock: FakeClock | None = None) -> AsyncIterator[TestClient]:
        async with TestClient(self.app(name), clock=clock or self.clock) as client:
            yield client

    async def lapse(self, seconds: float) -> None:
        """Let time pass for the store, slowly enough that leases are renewed meanwhile."""
        for _ in range(round(seconds)):
            self.passed += 1
            await anyio.sleep(0.01)

    def due(self) -> list[str]:
        """The due times of all runs."""
        return [due for _, due, _, _ in self.runs]


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at leases and renew them every 0.1 seconds."""
    monkeypatch.setattr("microkit_cron.cluster._LOOKS", LEASE * 10)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_each_due_time_is_run_by_one_machine_and_tokens_grow() -> None:
    cluster = Cluster(Cron("*/5 * * * *"))
    async with cluster.machine("a"), cluster.machine("b"), cluster.machine("c") as client:
        await client.clock.advance(timedelta(hours=2))
    assert len(cluster.runs) == 24
    assert len(set(cluster.due())) == 24
    assert cluster.done == cluster.due()
    assert cluster.tokens == sorted(set(cluster.tokens))
    assert cluster.tokens[0] > 0


@pytest.mark.parametrize("late", [5, 50, 200])
async def test_a_machine_whose_clock_is_late_does_not_run_it_again(late: float) -> None:
    cluster = Cluster(Cron("* * * * *"))
    behind = FakeClock(START - timedelta(seconds=late))
    async with cluster.machine("a"), cluster.machine("b", behind):
        for _ in range(40):
            await cluster.clock.advance(15)
            await behind.advance(15)
    expected = [f"00:{minute:02}" for minute in range(1, 11)]
    # Before the first machine began nobody else claimed anything.
    assert [due for due in cluster.due() if due >= "00:01" and not due.startswith("23")] == expected


async def test_a_machine_whose_clock_is_far_ahead_blocks_nobody(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(Cron("0 * * * *"))
    ahead = FakeClock(START + timedelta(days=400))
    async with cluster.machine("a"), cluster.machine("ahead", ahead):
        for _ in range(3):
            await ahead.advance(timedelta(hours=1))
            await cluster.clock.advance(timedelta(hours=1))
    assert [due for machine, due, _, _ in cluster.runs if machine == "a"] == ["01:00", "02:00", "03:00"]
    assert "the clocks of the cluster are apart" in caplog.text


async def test_a_timer_of_the_kernel_fires_once_for_all_at_whole_periods() -> None:
    cluster = Cluster(Every(600))
    await cluster.clock.advance(123)
    async with cluster.machine("a"), cluster.machine("b"):
        await cluster.clock.advance(timedelta(minutes=35))
    assert cluster.due() == ["00:10", "00:20", "00:30"]


async def test_an_immediate_timer_fires_at_the_start_of_the_first_machine_only() -> None:
    cluster = Cluster(Every(600, immediate=True))
    await cluster.clock.advance(120)
    async with cluster.machine("a"), cluster.machine("b"):
        await cluster.clock.advance(timedelta(minutes=10))
    assert cluster.due() == ["00:02", "00:10"]


async def test_what_is_for_each_process_fires_in_each() -> None:
    cluster = Cluster(Cron("*/10 * * * *", each_process=True))
    async with cluster.machine("a"), cluster.machine("b"):
        await cluster.clock.advance(timedelta(minutes=10))
    assert sorted(machine for machine, *_ in cluster.runs) == ["a", "b"]
    assert set(cluster.tokens) == {0}


@pytest.mark.parametrize(
    ("overlap", "due"), [("skip", ["00:10"]), ("queue", ["00:10", "00:30"]), ("allow", ["00:10", "00:20", "00:30"])]
)
async def test_overlap_is_judged_for_the_whole_cluster(overlap: Any, due: list[str]) -> None:
    cluster = Cluster(Cron("*/10 * * * *", overlap=overlap))
    cluster.hold = anyio.Event()
    async with cluster.machine("a"), cluster.machine("b"):
        await cluster.clock.advance(timedelta(minutes=35))
        assert len(cluster.runs) == (3 if overlap == "allow" else 1)
        await cluster.lapse(LEASE * 2)  # the lease is renewed, so nobody takes the run for dead
        cluster.hold.set()
        await until(lambda: len(cluster.done) == len(due))
        await cluster.lapse(LEASE * 2)
    assert cluster.due() == due
    assert {attempt for *_, attempt in cluster.runs} == {1}


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [
        ("once", [("00:40", 2), ("00:50", 0)]),
        ("skip", [("00:50", 0)]),
        ("all", [("00:20", 0), ("00:30", 0), ("00:40", 0), ("00:50", 0)]),
    ],
)
async def test_a_time_when_no_machine_ran_counts_as_missed(misfire: Any, expected: list[tuple[str, int]]) -> None:
    cluster = Cluster(Cron("*/10 * * * *", misfire=misfire))
    async with cluster.machine("a"):
        await cluster.clock.advance(timedelta(minutes=15))
    cluster.runs.clear()
    await cluster.clock.advance(timedelta(minutes=30))
    async with cluster.machine("b"), cluster.machine("c"):
        await until(lambda: len(cluster.done) == len(expected))
        await cluster.clock.advance(timedelta(minutes=5))
    assert [(due, missed) for _, due, missed, _ in cluster.runs] == expected


async def test_the_look_back_has_a_bound_and_a_first_start_has_none() -> None:
    cluster = Cluster(Cron("*/10 * * * *", misfire="all"), catch_up=1200)
    async with cluster.machine("a"):
        await cluster.clock.advance(timedelta(minutes=5))
    assert cluster.runs == []
    await cluster.clock.advance(timedelta(hours=5))
    async with cluster.machine("a"):
        await until(lambda: len(cluster.done) == 2)
    assert cluster.due() == ["04:50", "05:00"]


async def test_a_firing_that_was_skipped_is_not_made_up_for_later() -> None:
    cluster = Cluster(Cron("*/10 * * * *"))
    cluster.hold = anyio.Event()
    async with cluster.machine("a"):
        await cluster.clock.advance(timedelta(minutes=25))
        cluster.hold.set()
        await until(lambda: cluster.done == ["00:10"])
    async with cluster.machine("b"):
        await cluster.clock.advance(timedelta(minutes=1))
    assert cluster.due() == ["00:10"]


async def test_who_loses_the_lease_is_cancelled_and_another_run_has_a_higher_token() -> None:
    cluster = Cluster(Cron("*/10 * * * *"))
    cluster.hold = anyio.Event()
    async with cluster.machine("a"), cluster.machine("b"):
        await cluster.clock.advance(timedelta(minutes=10))
        await until(lambda: len(cluster.runs) == 1)
        signs = [key async for key in cluster.store.list("lease:") if key.count(":") > 3]
        assert len(signs) == 1
        await cluster.store.delete(signs[0])  # as if it had been suspended for too long
        await until(lambda: len(cluster.runs) == 2)
        cluster.hold.set()
        await until(lambda: len(cluster.done) == 1)
    assert [(due, attempt) for _, due, _, attempt in cluster.runs] == [("00:10", 1), ("00:10", 2)]
    assert cluster.tokens[1] > cluster.tokens[0]


@pytest.mark.guarantee("G11")
@pytest.mark.parametrize(("misfire", "again"), [("once", True), ("all", True), ("skip", False)])
async def test_what_shutdown_cancels_is_run_by_another_machine(misfire: Any, again: bool) -> None:
    cluster = Cluster(Cron("*/10 * * * *", misfire=misfire))
    cluster.hold = anyio.Event()
    async with cluster.machine("a"):
        await cluster.clock.advance(timedelta(minutes=10))
        assert cluster.due() == ["00:10"]
    async with cluster.machine("b"):
        cluster.hold.set()
        if again:
            await until(lambda: cluster.done == ["00:10"])
        await cluster.lapse(LEASE * 2)
    assert cluster.runs == [("a", "00:10", 0, 1)] + [("b", "00:10", 0, 1)] * again


class Unreachable(MemoryStore):
    """A store that can be out of reach, or do what it is told and not say so."""

    down = False
    mute = 0

    async def get(self, key: str) -> bytes | None:
        if self.down:
            raise StoreUnavailable("down")
        return await super().get(key)

    async def compare_and_set(self, key: str, expected: Any, value: Any, *, ttl: float | None = None) -> bool:
        done = await super().compare_and_set(key, expected, value, ttl=ttl)
        if self.mute:
            self.mute -= 1
            raise StoreUnavailable("no answer")
        return done


async def test_without_its_store_nothing_fires_and_with_it_the_firing_is_made_up_for() -> None:
    cluster = Cluster(Cron("*/10 * * * *"), Unreachable)
    store = cluster.store
    assert isinstance(store, Unreachable)
    async with cluster.machine("a"), cluster.machine("b"):
        await cluster.clock.advance(timedelta(minutes=15))
        store.down = True
        await cluster.clock.advance(timedelta(minutes=20))
        assert cluster.due() == ["00:10"]
        store.down = False
        await until(lambda: len(cluster.done) == 3)
    # The time that was waited for, then one firing for what was due since.
    assert cluster.due() == ["00:10", "00:20", "00:30"]


@pytest.mark.parametrize("answers", [1, 2, 3])
async def test_a_claim_that_the_store_did_not_confirm_is_neither_lost_nor_doubled(
    answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(Cron("*/10 * * * *"), Unreachable)
    store = cluster.store
    assert isinstance(store, Unreachable)
    async with cluster.machine("a"), cluster.machine("b"):
        store.mute = answers
        monkeypatch.setattr("microkit_cron.cluster.time", SimpleNamespace(monotonic=lambda: cluster.passed))
        await cluster.clock.advance(timedelta(minutes=10))
        with anyio.fail_after(60):
            while cluster.done != ["00:10"]:
                await cluster.lapse(1)
        await cluster.lapse(LEASE * 2)
    assert cluster.due() == ["00:10"]


class Holding(MemoryStore):
    """A store whose next answer can be held back, as if the process that asked stood still."""

    held = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.go_on = anyio.Event()

    async def get(self, key: str) -> bytes | None:
        if self.held:
            self.held = False
            await self.go_on.wait()
        return await super().get(key)


async def test_a_machine_that_stood_still_claims_nothing_that_was_made_up_for_meanwhile() -> None:
    cluster = Cluster(Cron("*/10 * * * *"), Holding)
    store, other = cluster.store, FakeClock(START)
    assert isinstance(store, Holding)
    async with cluster.machine("a"), cluster.machine("b", other):
        store.held = True
        await cluster.clock.advance(timedelta(minutes=10))
        await other.jump(timedelta(minutes=35))
        await until(lambda: bool(cluster.runs))
        await cluster.clock.jump(timedelta(minutes=25))
        store.go_on.set()
        await cluster.clock.advance(timedelta(minutes=5))
    assert cluster.runs == [("b", "00:30", 2, 1), ("a", "00:40", 0, 1)]


async def test_a_failing_handler_is_done() -> None:
    cluster = Cluster(Cron("*/10 * * * *"))
    app, runs = cluster.app("a"), list[str]()

    @app.on(Cron("*/10 * * * *"), name="broken")
    async def broken(at: datetime) -> None:
        runs.append(at.strftime("%H:%M"))
        raise LookupError

    async with TestClient(app, clock=cluster.clock):
        await cluster.clock.advance(timedelta(minutes=20))
        await cluster.lapse(LEASE * 2)
    assert runs == ["00:10", "00:20"]


class Eventual(MemoryStore):
    atomic = False


async def test_a_cluster_needs_a_store_that_is_atomic() -> None:
    with pytest.raises(StartupError, match="Eventual"):
        async with Cluster(Cron("@daily"), Eventual).machine("a"):
            pass


async def test_a_cluster_without_a_store_does_not_start() -> None:
    app = App(plugins=[microkit_cron.plugin], discover=False, settings={"cron": {"cluster": True}})

    @app.on(Cron("@daily"))
    async def job() -> None: ...

    with pytest.raises(StartupError, match="MICROKIT_KV__URL"):
        async with TestClient(app):
            pass


async def test_the_store_of_the_kv_plugin_is_used() -> None:
    app, seen = (
        App(
            plugins=["microkit_kv.plugin", microkit_cron.plugin],
            discover=False,
            settings={"cron": {"cluster": True}, "kv": {"url": "memory://"}},
        ),
        list[int](),
    )

    @app.on(Cron("@hourly"))
    async def job(firing: Firing) -> None:
        seen.append(firing.token)

    async with TestClient(app) as client:
        await client.clock.advance(timedelta(hours=2))
    assert seen == [1, 2]
