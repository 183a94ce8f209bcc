"""Worker pools: how many calls of a group run at a time, and what becomes of those that wait at the end."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from microkit.executor import run_until

_logger = logging.getLogger("microkit.workers")
_held: ContextVar[frozenset[Pool]] = ContextVar("microkit_workers_held", default=frozenset())


class Place:
    """The place of a call in the line for a worker: who lines up first is served first, whenever its task runs.

    Args:
        pool: whose worker it waits for.
        granted: whether there is one: None while it waits, False if it was turned away.
    """

    __slots__ = ("_event", "_pool", "granted")

    def __init__(self, pool: Pool, granted: bool | None) -> None:
        self._pool = pool
        self._event: anyio.Event | None = None
        self.granted = granted

    async def reached(self) -> bool:
        """Wait for the worker. Who got one must `release` it.

        Returns:
            False if the pool was closed: the call is not to begin.
        """
        if self.granted is None:
            self._event = anyio.Event()
            try:
                await self._event.wait()
            except BaseException:
                self._pool.leave(self)
                raise
        return bool(self.granted)

    def decide(self, granted: bool) -> None:
        """End the wait."""
        self.granted = granted
        if self._event is not None:
            self._event.set()


class Held:
    """The block in which a task has a worker. No generator, which would cost several times as much.

    Args:
        pool: whose worker it is.
    """

    __slots__ = ("_pool", "_token")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._token: Token[frozenset[Pool]]

    def __enter__(self) -> None:
        self._token = _held.set(_held.get() | {self._pool})

    def __exit__(self, *exc_info: object) -> None:
        _held.reset(self._token)


class Pool:
    """The workers of one group of bindings.

    Args:
        label: for logs and metrics.
        size: calls at a time.
        mode: `async`, `thread`, `greedy_thread` or `process`.
        max_tasks_per_child: calls after which a child process is replaced; 0: never.

    Attributes:
        running: calls that have a worker.
        handled, failed, filtered: calls that ended, those of them that failed, and messages that a filter kept out.
    """

    def __init__(self, label: str, size: int, mode: str = "async", max_tasks_per_child: int = 0) -> None:
        self.label = label
        self.size = size
        self.mode = mode
        self.max_tasks_per_child = max_tasks_per_child
        self.open()

    def open(self) -> None:
        """Begin anew, as a start of the application does."""
        self.running = self.handled = self.failed = self.filtered = 0
        self._waiting: deque[Place] = deque()
        self._closed = False
        self._limiter: anyio.CapacityLimiter | None = None
        self._left_behind: set[object] = set()
        self.processes: Any = None  # the ProcessPool, once one of its plans runs in child processes

    @property
    def available(self) -> int:
        """Workers that are free."""
        return self.size - self.running

    @property
    def waiting(self) -> int:
        """Calls that wait for a worker."""
        return len(self._waiting)

    def line_up(self) -> Place:
        """Ask for a worker; never waits. The place is to be awaited by the task that makes the call."""
        if self._closed:
            return Place(self, granted=False)
        if self.running < self.size and not self._waiting:
            self.running += 1
            return Place(self, granted=True)
        place = Place(self, granted=None)
        self._waiting.append(place)
        return place

    def leave(self, place: Place) -> None:
        """Give up a place, and the worker if there was one already."""
        if place.granted:
            self.release()
        elif place in self._waiting:
            self._waiting.remove(place)

    def release(self) -> None:
        """Give a worker back; the call that waits longest gets it."""
        if self.running > self.size:  # the thread of this call was left behind, and keeps the worker
            self.running -= 1
        elif self._waiting:
            self._waiting.popleft().decide(granted=True)
        else:
            self.running -= 1

    def close(self) -> None:
        """Let no call begin any more, but those that a greedy pool has taken in already."""
        self._closed = True
        if self.mode != "greedy_thread":
            self.abandon()

    def abandon(self) -> None:
        """Turn away all calls that wait."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft().decide(granted=False)

    def held(self) -> Held:
        """Mark this task as one that has a worker, so that calls that it makes in process need no second one."""
        return Held(self)

    @property
    def is_held(self) -> bool:
        """Whether the running task has a worker of this pool."""
        return self in _held.get()

    def in_thread(self, func: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """Run a sync function in a thread. No other pool's threads stand in its way."""

        async def call(*args: Any) -> Any:
            return await anyio.to_thread.run_sync(partial(func, *args), limiter=self._threads())

        return call

    def in_thread_until(self, func: Callable[..., Any], seconds: float) -> Callable[..., Awaitable[Any]]:
        """As `in_thread`, for at most so many seconds. A thread that has not ended by then keeps its worker."""

        async def call(*args: Any) -> Any:
            return await run_until(partial(func, *args), seconds, self._threads(), self._leave_behind)

        return call

    def _threads(self) -> anyio.CapacityLimiter:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self.size)
        return self._limiter

    def _leave_behind(self) -> Callable[[], None]:
        key, kept = object(), self._left_behind
        kept.add(key)
        self.running += 1  # beside its call, which gives its worker back as every call does
        if len(kept) >= self.size:
            _logger.error(
                "all %d workers of %s are kept by threads that do not end, so nothing runs there any more; restart the "
                "service, and run such handlers in child processes (worker_mode='process')",
                self.size,
                self.label,
            )

        def ended() -> None:
            kept.discard(key)
            if kept is self._left_behind:  # else the application was started anew meanwhile
                self.release()

        return ended

    def __repr__(self) -> str:
        return f"<Pool {self.label} {self.mode} {self.running}/{self.size}>"
