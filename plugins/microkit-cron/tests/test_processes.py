"""Machines as real processes that share a store, some of which are killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.feature("FX-15")

_MACHINE = Path(__file__).with_name("machine.py")


@dataclass(frozen=True)
class Line:
    """What a machine wrote when a run began or ended."""

    what: str
    machine: str
    minute: int
    missed: int
    attempt: int
    token: int


class Machines:
    """Processes that write to one ledger."""

    def __init__(self, store: str, folder: Path, lease: float, backend: str) -> None:
        self._arguments = [store, str(folder / "ledger"), str(time.time()), backend, str(lease)]
        self._ledger = folder / "ledger"
        self.hold = folder / "ledger.hold"
        self._running: dict[str, subprocess.Popen[str]] = {}

    def start(self, *names: str) -> None:
        """Start machines, and return when all of them serve."""
        for name in names:
            command = [sys.executable, str(_MACHINE), name, *self._arguments]
            self._running[name] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for name in names:
            out = self._running[name].stdout
            assert out is not None
            assert out.readline() == "open\n"

    def kill(self, name: str) -> None:
        """End a machine at once."""
        process = self._running.pop(name)
        process.kill()
        process.communicate()

    def stop(self) -> None:
        """End all machines in order."""
        for process in self._running.values():
            process.terminate()
        codes = [(process.communicate(timeout=60), process.returncode)[1] for process in self._running.values()]
        self._running.clear()
        assert set(codes) <= {0}

    def lines(self, what: str) -> list[Line]:
        """What was written so far."""
        text = self._ledger.read_text() if self._ledger.exists() else ""
        rows = [row.split() for row in text.rpartition("\n")[0].splitlines()]  # the last may be on its way
        return [Line(row[0], row[1], *map(int, row[2:])) for row in rows if row[0] == what]

    def until(self, condition: Callable[[], object], seconds: float = 120.0) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self._ledger.read_text()
            time.sleep(0.01)


@pytest.fixture(params=["sqlite-asyncio", "sqlite-trio", "redis-asyncio"])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[float], Machines]]:
    """Makes machines with a lease of so many seconds."""
    kind, _, backend = request.param.partition("-")
    url = request.getfixturevalue("redis_url") if kind == "redis" else f"sqlite:///{tmp_path}/store.db"
    made: list[Machines] = []

    def make(lease: float) -> Machines:
        made.append(Machines(url, tmp_path, lease, backend))
        return made[-1]

    yield make
    for each in made:
        for process in each._running.values():
            process.kill()
            process.communicate()


def test_each_due_time_is_run_once_although_machines_die_and_come(machines: Callable[[float], Machines]) -> None:
    # Nobody but the one that is killed loses its lease, even if its machine stands still for a while.
    cluster = machines(12.0)
    cluster.start("a", "b", "c")
    cluster.until(lambda: len(cluster.lines("end")) >= 4)
    last = cluster.lines("end")[-1]
    time.sleep(0.3)  # between two due times
    cluster.kill(last.machine)
    cluster.until(lambda: len(cluster.lines("end")) >= 8)
    cluster.start("d")
    cluster.until(lambda: len(cluster.lines("end")) >= 14)
    cluster.stop()
    runs = cluster.lines("end")
    # On a slow machine the one that was killed may have been at work again, and may not have told that it was done.
    again = {run.minute for run in runs if run.attempt > 1}
    assert again <= {run.minute for run in cluster.lines("begin") if run.machine == last.machine}
    runs = [run for run in runs if run.machine != last.machine or run.minute not in again]
    due = [run.minute for run in runs]
    assert max(Counter(due).values()) == 1
    # None was lost: each minute was run, or counted as missed by the next run where the machine was slow. One that was
    # skipped while another run still went on stands for those that it would have counted, too.
    left = max(due) - min(due) + 1 - len(runs) - sum(run.missed for run in runs)
    skipped = len(cluster.lines("skip"))
    assert left >= skipped if skipped else left == 0
    assert [run.token for run in runs] == sorted({run.token for run in runs})
    begun = [run for run in cluster.lines("begin") if run.machine != last.machine]
    assert begun == [Line("begin", *list(vars(run).values())[1:]) for run in runs if run.machine != last.machine]


def test_what_a_killed_machine_was_running_is_run_by_another_within_the_time_of_the_lease(
    machines: Callable[[float], Machines],
) -> None:
    cluster = machines(1.0)
    cluster.hold.touch()
    cluster.start("a", "b")
    cluster.until(lambda: cluster.lines("begin"))
    first = cluster.lines("begin")[0]

    def others() -> list[Line]:  # some even before the kill, if the machine of the first stands still for too long
        return [line for line in cluster.lines("begin") if line.machine != first.machine]

    time.sleep(0.5)
    cluster.kill(first.machine)
    # The lease of 1 second, a third of it between two looks, and what a machine needs that stands still for a while; by
    # default it would be 30 seconds and more.
    cluster.until(others, 20.0)
    second = others()[0]
    assert second.token > first.token
    if second.minute == first.minute:
        assert second.attempt > first.attempt
    else:  # it stands for the one that was lost, as misfire="once" says
        assert second.missed >= 1
    cluster.hold.unlink()
    cluster.until(lambda: cluster.lines("end"))
    cluster.stop()
    assert not [line for line in cluster.lines("end") if line.machine == first.machine]
