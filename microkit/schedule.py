"""Timers: the clock, the ingress of TICK bindings, and work that handlers put off."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from .broker import FIRST_SEEN, LAST_RETRY, REASON
from .call import Kind, Tick
from .dispatch import handle_tick
from .graph import call_maybe_async
from .settlement import Verdict
from .transport import Process, TransportSpec

if TYPE_CHECKING:
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


class Timers:
    """The ingress of all TICK bindings: a task per schedule. Only the first of several processes fires those that are
    not `each_process`."""

    name = "timers"

    def __init__(self) -> None:
        self._scope = anyio.CancelScope()
        self._pauses: list[anyio.CancelScope] = []
        self._stopping = False
        self._done = anyio.Event()

    async def start(self, app: App, process: Process) -> None:
        """Start a task per schedule."""
        plans = [
            (name, plan)
            for name, plan in app.table.ticks.items()
            if process.index == 0 or getattr(plan.binding.trigger, "each_process", False)
        ]
        self._pauses = [anyio.CancelScope() for _ in plans]
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
        self._stopping = True
        for pause in self._pauses:
            pause.cancel()
        with anyio.move_on_after(grace):
            await self._done.wait()
        self._scope.cancel()
        await self._done.wait()

    async def _schedule(self, app: App, name: str, plan: Plan, pause: anyio.CancelScope) -> None:
        trigger: Any = plan.binding.trigger
        clock = app.clock
        start = clock.now()
        due = start if getattr(trigger, "immediate", False) else trigger.next_after(start, start)
        overlap = getattr(trigger, "overlap", "skip")
        async with anyio.create_task_group() as group:
            running = _Running()
            with pause:
                while True:
                    if overlap != "allow" and due <= clock.now():
                        await running.idle()  # firings that are made up for come one after the other, none is dropped
                    wait = due + random.uniform(0.0, getattr(trigger, "jitter", 0.0))  # noqa: S311
                    await clock.sleep_until(wait)
                    now = clock.now()
                    missed, later = 0, trigger.next_after(due, start)
                    while later <= now and getattr(trigger, "misfire", "once") != "all":
                        missed += 1
                        due, later = later, trigger.next_after(later, start)
                    if missed and getattr(trigger, "misfire", "once") == "skip":
                        _logger.warning("schedule %s skipped %d missed firings", name, missed + 1)
                    else:
                        fire = partial(self._fire, app, name, due, now, missed)
                        running.offer(group, overlap, fire, name)
                    due = later

    async def _fire(self, app: App, name: str, due: float, now: float, missed: int) -> None:
        try:
            reply = await handle_tick(app, name, utc(due), utc(now), missed)
            policy, attempt, headers = app.table.ticks[name].options.get("retry"), 1, {FIRST_SEEN: int(now * 1000)}
            while policy is not None and not reply.ok:
                decision = policy(Tick(name, utc(due), utc(now), missed, attempt=attempt, headers=headers), reply)
                if decision.verdict is not Verdict.RETRY or not await self._pause(app.clock, decision.delay or 0.0):
                    return
                attempt += 1
                headers = {**headers, LAST_RETRY: int(app.clock.now() * 1000), REASON: decision.reason}
                reply = await handle_tick(app, name, utc(due), utc(now), missed, attempt=attempt, headers=headers)
        except Exception:  # of an observer or a scope around the handler: the next firing must not suffer
            _logger.exception("a firing of schedule %s failed", name)

    async def _pause(self, clock: Clock, seconds: float) -> bool:
        """Wait before a retry. Returns whether it is still wanted then."""
        with anyio.CancelScope() as pause:
            self._pauses.append(pause)
            if self._stopping:
                pause.cancel()
            await clock.sleep_until(clock.now() + seconds)
        self._pauses.remove(pause)
        return not pause.cancel_called


TIMERS = TransportSpec("timers", Kind.TICK, server=Timers, automatic=True)


class _Running:
    """The firings of one schedule that run, and the one that waits."""

    def __init__(self) -> None:
        self.count = 0
        self.waiting: Callable[[], Any] | None = None
        self._ended = anyio.Event()

    async def idle(self) -> None:
        while self.count:
            self._ended = anyio.Event()
            await self._ended.wait()

    def offer(self, group: Any, overlap: str, fire: Callable[[], Any], name: str) -> None:
        if self.count and overlap == "skip":
            _logger.warning("schedule %s is due while it still runs; this firing is skipped", name)
        elif self.count and overlap == "queue":
            self.waiting = fire
        else:
            self.count += 1
            group.start_soon(self._run, fire)

    async def _run(self, fire: Callable[[], Any]) -> None:
        try:
            next_fire: Callable[[], Any] | None = fire
            while next_fire is not None:
                await next_fire()
                next_fire, self.waiting = self.waiting, None
        finally:
            self.count -= 1
            self._ended.set()


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
