"""Timers: the clock, the ingress of TICK bindings, and work that handlers put off."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from .call import Kind, Tick
from .dispatch import no_delivery, run
from .graph import call_maybe_async
from .transport import Process, TransportSpec

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .app import App
    from .plan import Plan

_logger = logging.getLogger("microkit.schedule")


class Clock(Protocol):
    """Where schedules take the time from; a test has one that it moves by hand."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return at `moment`, in seconds since the epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    async def sleep_until(self, moment: float) -> None:
        # In steps, since the machine may sleep and its clock may be set while this waits.
        while (left := moment - time.time()) > 0:  # noqa: ASYNC110
            await anyio.sleep(min(left, 60.0))


def utc(moment: float) -> datetime:
    """Seconds since the epoch as an aware datetime."""
    return datetime.fromtimestamp(moment, UTC)


class Runs:
    """The firings of one schedule in this process: when it is first due, and what becomes of a firing.

    A plugin that knows of other processes brings its own, made by a subclass of `Timers` that is contributed as
    `timers`.

    Args:
        app: the application.
        name: the schedule.
        plan: what it runs.
        group: where firings run; they are waited for at shutdown.

    Attributes:
        start: when the schedule began, in seconds since the epoch; periods are counted from it.
    """

    def __init__(self, app: App, name: str, plan: Plan, group: TaskGroup) -> None:
        self.app = app
        self.name = name
        self.trigger: Any = plan.binding.trigger
        self.overlap: str = getattr(self.trigger, "overlap", "skip")
        self.misfire: str = getattr(self.trigger, "misfire", "once")
        self.group = group
        self.start = app.clock.now()
        self._closed = False
        self._pauses: list[anyio.CancelScope] = []  # of firings that wait to be tried again
        self._running = 0
        self._waiting: Callable[[], Any] | None = None
        self._ended = anyio.Event()

    async def first(self) -> float:
        """When it is first due, in seconds since the epoch."""
        if getattr(self.trigger, "immediate", False):
            return self.start
        return self.trigger.next_after(self.start, self.start)

    async def idle(self) -> None:
        """Return when no firing runs; called before each one that is made up for."""
        while self._running:
            self._ended = anyio.Event()
            await self._ended.wait()

    async def offer(self, due: float, now: float, missed: int) -> None:
        """Run a firing in the group, or do with it what the policy says while another one runs.

        Args:
            due: when it was due, in seconds since the epoch.
            now: the time.
            missed: firings that were left out before.
        """
        fire = partial(self.fire, Tick(self.name, utc(due), utc(now), missed))
        if self._running and self.overlap == "skip":
            _logger.warning("schedule %s is due while it still runs; this firing is skipped", self.name)
        elif self._running and self.overlap == "queue":
            self._waiting = fire
        else:
            self._running += 1
            self.group.start_soon(self._run, fire)

    def close(self) -> None:
        """No more firings are offered; those that run go on, without further retries."""
        self._closed = True
        for pause in self._pauses:
            pause.cancel()

    async def fire(self, tick: Tick) -> None:
        """Run one firing to its end, the retries that its policy wants included. A failure is logged."""
        plan = self.app.table.ticks[self.name]
        policy = plan.options.get("retry")
        try:
            while True:
                tick.app, tick.plan = self.app, plan
                reply = await run(tick, no_delivery)
                if policy is None or reply.ok:
                    return
                from .settlement import Verdict  # here and below: no more modules for who only imports the kernel

                decision = policy(tick, reply)
                if decision.verdict is not Verdict.RETRY or not await self._pause(decision.delay or 0.0):
                    return
                tick = self._again(tick, decision.reason)
        except Exception:  # of an observer or a scope around the handler: the next firing must not suffer
            _logger.exception("a firing of schedule %s failed", self.name)

    def _again(self, tick: Tick, reason: str) -> Tick:
        from .broker import FIRST_SEEN, LAST_RETRY, REASON

        headers = {FIRST_SEEN: int(tick.fired_at.timestamp() * 1000), **tick.headers}
        headers |= {LAST_RETRY: int(self.app.clock.now() * 1000), REASON: reason}
        attempt = tick.attempt + 1
        return Tick(tick.name, tick.scheduled_at, tick.fired_at, tick.missed, attempt=attempt, headers=headers)

    async def _pause(self, seconds: float) -> bool:
        """Wait before a retry. Returns whether it is still wanted then."""
        with anyio.CancelScope() as pause:
            self._pauses.append(pause)
            if self._closed:
                pause.cancel()
            await self.app.clock.sleep_until(self.app.clock.now() + seconds)
        self._pauses.remove(pause)
        return not pause.cancel_called

    async def _run(self, fire: Callable[[], Any]) -> None:
        try:
            next_fire: Callable[[], Any] | None = fire
            while next_fire is not None:
                await next_fire()
                next_fire, self._waiting = self._waiting, None
        finally:
            self._running -= 1
            self._ended.set()


class Timers:
    """The ingress of all TICK bindings: a task per schedule. Only the first of several processes fires those that are
    not `each_process`."""

    name = "timers"

    def __init__(self) -> None:
        self._scope = anyio.CancelScope()
        self._pauses: list[anyio.CancelScope] = []
        self._done = anyio.Event()
        self._done.set()  # until it is started

    def fires(self, plan: Plan, process: Process) -> bool:
        """Whether this process fires a schedule."""
        return process.index == 0 or getattr(plan.binding.trigger, "each_process", False)

    def runs(self, app: App, name: str, plan: Plan, group: TaskGroup) -> Runs:
        """The firings of a schedule."""
        return Runs(app, name, plan, group)

    async def start(self, app: App, process: Process) -> None:
        """Start a task per schedule."""
        plans = [(name, plan) for name, plan in app.table.ticks.items() if self.fires(plan, process)]
        self._pauses = [anyio.CancelScope() for _ in plans]
        self._done = anyio.Event()
        process.tasks.start_soon(self._run, app, plans)

    async def _run(self, app: App, plans: list[tuple[str, Plan]]) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    for (name, plan), pause in zip(plans, self._pauses, strict=True):
                        group.start_soon(self._schedule, app, name, plan, pause)
        finally:
            self._done.set()

    async def stop(self, grace: float) -> None:
        """Fire no more; let running ticks finish for at most `grace` seconds."""
        for pause in self._pauses:
            pause.cancel()
        with anyio.move_on_after(grace):
            await self._done.wait()
        self._scope.cancel()
        await self._done.wait()

    async def _schedule(self, app: App, name: str, plan: Plan, pause: anyio.CancelScope) -> None:
        async with anyio.create_task_group() as group:
            runs = self.runs(app, name, plan, group)
            with pause:
                await self._keep(runs, app.clock)
            runs.close()

    async def _keep(self, runs: Runs, clock: Clock) -> None:
        trigger, start = runs.trigger, runs.start
        due = await runs.first()
        while True:
            if runs.overlap != "allow" and due <= clock.now():
                await runs.idle()  # firings that are made up for come one after the other, none is dropped
            wait = due + _random_part(getattr(trigger, "jitter", 0.0))
            await clock.sleep_until(wait)
            now = clock.now()
            missed, later = 0, trigger.next_after(due, start)
            while later <= now and runs.misfire != "all":
                missed += 1
                due, later = later, trigger.next_after(later, start)
            if missed and runs.misfire == "skip":
                _logger.warning("schedule %s skipped %d missed firings", runs.name, missed + 1)
            else:
                await runs.offer(due, now, missed)
            due = later


def _random_part(seconds: float) -> float:
    if not seconds:
        return 0.0
    import random  # not before it is needed: it draws entropy when it is imported

    return random.uniform(0.0, seconds)  # noqa: S311


TIMERS = TransportSpec("timers", Kind.TICK, server=Timers, automatic=True)


class Scheduler:
    """Work for later, from inside a handler; it lives as long as the application. Inject it by its type.

    Args:
        app: the application.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    def after(self, seconds: float, func: Callable[..., Any], *args: Any) -> anyio.CancelScope:
        """Call `func(*args)` once, in so many seconds.

        Returns:
            A scope whose `cancel()` calls it off.
        """
        return self._start(seconds, func, args, repeat=False)

    def every(self, seconds: float, func: Callable[..., Any], *args: Any) -> anyio.CancelScope:
        """Call `func(*args)` again and again, so many seconds after the last call ended.

        Returns:
            A scope whose `cancel()` ends it.
        """
        return self._start(seconds, func, args, repeat=True)

    def _start(
        self, seconds: float, func: Callable[..., Any], args: tuple[Any, ...], *, repeat: bool
    ) -> anyio.CancelScope:
        if not self._app.runtime.running or self._app.runtime.draining:
            raise RuntimeError("work can be scheduled only while the application runs")
        scope = anyio.CancelScope()
        self._app.runtime.tasks.start_soon(self._run, scope, seconds, func, args, repeat)
        return scope

    async def _run(
        self, scope: anyio.CancelScope, seconds: float, func: Callable[..., Any], args: tuple[Any, ...], repeat: bool
    ) -> None:
        clock, runtime = self._app.clock, self._app.runtime
        background, put_off = runtime.background, runtime.put_off
        with scope:
            while not runtime.draining:
                put_off.add(scope)
                try:
                    await clock.sleep_until(clock.now() + seconds)
                finally:
                    put_off.discard(scope)
                background.add(scope)  # from here on shutdown waits for it
                try:
                    await call_maybe_async(func, *args)
                except Exception:
                    _logger.exception("scheduled work %s failed", getattr(func, "__qualname__", func))
                finally:
                    background.discard(scope)
                if not repeat:
                    return
