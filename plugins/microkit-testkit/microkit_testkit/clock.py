"""A clock that a test moves, and waiting until nothing is left to run."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel
import anyio.to_thread

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""Where a fake clock starts: a fixed moment, so that tests are the same every day."""


class FakeClock:
    """A clock for `App(clock=...)` that stands still until a test moves it.

    Args:
        start: where it stands at first (aware, or seconds since the epoch).
    """

    def __init__(self, start: datetime | float = EPOCH) -> None:
        self._now = start.timestamp() if isinstance(start, datetime) else float(start)
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._order = itertools.count()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    @property
    def datetime(self) -> datetime:
        """The time as an aware datetime."""
        return datetime.fromtimestamp(self._now, UTC)

    @property
    def due(self) -> list[float]:
        """The moments that something sleeps for, in seconds since the epoch, the next one first."""
        return sorted(moment for moment, _, _ in self._sleepers)

    async def sleep_until(self, moment: float) -> None:
        """Return once the clock was moved to `moment`, in seconds since the epoch."""
        if moment <= self._now:
            await anyio.lowlevel.checkpoint()
            return
        sleeper = (moment, next(self._order), anyio.Event())
        heapq.heappush(self._sleepers, sleeper)
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:  # cancelled
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    async def advance(self, seconds: float | timedelta) -> None:
        """Move on, stopping at each moment that something sleeps for; returns when all that woke waits again.

        Args:
            seconds: how far.
        """
        target = self._target(seconds)
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            self._now = self._sleepers[0][0]
            self._wake()
            await settle()
        self._now = target
        await settle()

    async def jump(self, seconds: float | timedelta) -> None:
        """Move on in one leap, as for a process that was suspended: what should have run in between is late.

        Args:
            seconds: how far.
        """
        await settle()
        self._now = self._target(seconds)
        self._wake()
        await settle()

    def _target(self, seconds: float | timedelta) -> float:
        span = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if span < 0:
            raise ValueError("time goes forward only")
        return self._now + span

    def _wake(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self._now:
            heapq.heappop(self._sleepers)[2].set()


async def settle() -> None:
    """Return when every other task waits for something (time, an event, a connection) and no worker thread runs.

    A thread that runs forever is waited for forever.
    """
    threads = anyio.to_thread.current_default_thread_limiter()
    while True:
        await _all_blocked()
        if not threads.borrowed_tokens:
            return
        await anyio.sleep(0.001)


async def _all_blocked() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # another backend
        await anyio.wait_all_tasks_blocked()
        return
    # What anyio.wait_all_tasks_blocked does, which sleeps 0.1 s between two looks.
    quiet = 0
    while quiet < 2:  # twice: a call that the loop has queued may wake a task
        await asyncio.sleep(0)
        own = asyncio.current_task()
        quiet = 0 if any(_runs(task) for task in asyncio.all_tasks() if task is not own) else quiet + 1


def _runs(task: object) -> bool:
    waiter = getattr(task, "_fut_waiter", None)
    return waiter is None or waiter.done()
