"""Where handlers run: on the event loop, or in worker threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from ._bridge import crossing
from .annotations import describe
from .errors import overdue

if TYPE_CHECKING:
    from .plan import Plan

_logger = logging.getLogger("microkit.executor")


@dataclass(frozen=True)
class ExecutorSpec:
    """A contributed executor.

    Attributes:
        name: what the option `executor=` selects it by.
        wrap: makes an async callable of a sync one.
        accepts_async: whether coroutine functions may be given to it too.
        wrap_timed: as `wrap`, for a plan with a deadline: takes its seconds as well, and raises `errors.overdue` after
            them. None: what `wrap` made is cancelled, which is in vain if it waits for a thread.
        remote: makes of a plan what has a call of it run elsewhere, and returns the handler's result. The handler's
            parameters and dependencies are then made there, and nothing of them here; middleware and delivery stay
            here. It keeps the plan's `timeout` itself, since getting there may take time. Raises ConfigurationError for
            a plan that cannot run there. None, also as its result: run here.
    """

    name: str
    wrap: Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]]
    accepts_async: bool = False
    wrap_timed: Callable[[Callable[..., Any], float], Callable[..., Awaitable[Any]]] | None = None
    remote: Callable[[Plan], Callable[[Any], Awaitable[Any]] | None] | None = None

    def wrapped(self, func: Callable[..., Any], seconds: float | None) -> Callable[..., Awaitable[Any]]:
        """What runs a function, for at most so many seconds if there is a deadline.

        The deadline is around the handler alone, since its dependencies outlive it.
        """
        if seconds is None:
            return self.wrap(func)
        return self.wrap_timed(func, seconds) if self.wrap_timed is not None else _cancelled(self.wrap(func), seconds)


def _cancelled(run: Callable[..., Awaitable[Any]], seconds: float) -> Callable[..., Awaitable[Any]]:
    async def call(*args: Any) -> Any:
        with anyio.move_on_after(seconds):
            return await run(*args)
        raise overdue(seconds)

    return call


def in_thread(func: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Run a sync function in a worker thread. Cancellation waits for it, since a thread cannot be stopped."""

    async def call(*args: Any) -> Any:
        return await anyio.to_thread.run_sync(partial(func, *args))

    return call


def in_thread_until(func: Callable[..., Any], seconds: float) -> Callable[..., Awaitable[Any]]:
    """Run a sync function in a worker thread for at most so many seconds; see `run_until`."""

    async def call(*args: Any) -> Any:
        return await run_until(partial(func, *args), seconds, anyio.to_thread.current_default_thread_limiter())

    return call


async def run_until(
    func: Callable[[], Any],
    seconds: float,
    limiter: anyio.CapacityLimiter,
    left_behind: Callable[[], Callable[[], object]] = lambda: _nothing,
) -> Any:
    """Run a sync function in a worker thread, and go on without it if it has not ended after `seconds`.

    No thread can be stopped: what is left behind goes on, and keeps its place in the limiter until it ends, so that
    there are never more threads than that has places. A cancellation from outside waits, for as long as the deadline.

    Args:
        func: the function.
        seconds: from now on; waiting for a place counts.
        limiter: how many threads there may be.
        left_behind: called on the event loop when the thread is left behind; what it returns is called there when that
            has ended.

    Raises:
        PublicError: DEADLINE_EXCEEDED.
    """
    run = _Run(func)
    with anyio.move_on_after(seconds) as scope:
        await limiter.acquire_on_behalf_of(run)
        scope.shield = True
        try:
            # Its own limiter: that of anyio on asyncio would take the place back at once.
            return await anyio.to_thread.run_sync(run.work, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
        finally:
            if run.leave():
                _logger.error("a thread goes on after its deadline of %g s: %s", seconds, describe(func))
                run.then = [partial(limiter.release_on_behalf_of, run), left_behind()]
            else:
                limiter.release_on_behalf_of(run)
    raise overdue(seconds)


def _nothing() -> None: ...


class _Run:
    """A function in a thread that may be left behind.

    Args:
        func: the function.

    Attributes:
        state: `waiting` for the thread, `running`, `ended`, `left` behind, or `revoked` before it began.
        then: called on the event loop when what was left behind has ended.
    """

    def __init__(self, func: Callable[[], Any]) -> None:
        self._func, self._lock, self._home = func, threading.Lock(), crossing()
        self.state, self.then = "waiting", list[Callable[[], object]]()

    def work(self) -> Any:
        """Runs in the thread."""
        try:
            return self._func() if self._move("waiting", "running") else None
        finally:
            if not self._move("running", "ended"):
                self._home.post(lambda: [each() for each in self.then])

    def leave(self) -> bool:
        """Go on without it. Returns whether it is still running."""
        return not self._move("waiting", "revoked") and self._move("running", "left")

    def _move(self, before: str, after: str) -> bool:
        with self._lock:
            if moved := self.state == before:
                self.state = after
            return moved


def inline(func: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Run a sync function on the event loop: for functions that never block."""

    async def call(*args: Any) -> Any:
        return func(*args)

    return call


THREAD = ExecutorSpec("thread", in_thread, wrap_timed=in_thread_until)
INLINE = ExecutorSpec("inline", inline)
ON_LOOP = ExecutorSpec("on_loop", lambda func: func, accepts_async=True)
