"""Tasks that go on with the next job instead of ending: a task for each would cost a third of a small message."""

from __future__ import annotations

import contextvars
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from anyio.abc import TaskGroup

Job = tuple[Callable[..., Coroutine[Any, Any, Any]], tuple[Any, ...]]


class Crew:
    """Runs jobs, each as soon as it is there: none waits until another one has ended.

    Jobs begin in the order in which they were put. A job that leaves context variables behind takes its task with it,
    so that no other sees them.
    """

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._idle: list[anyio.Event] = []
        self._wake = anyio.Event()
        self._called = False  # somebody is on the way to the first job
        self._closed = False
        self._group: TaskGroup

    def put(self, func: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Have something run. This may be called by callbacks of the event loop, where no task may be started."""
        self._jobs.append((func, args))
        if not self._called:
            self._call(self._wake.set)

    def _call(self, start: Callable[[], object]) -> None:
        self._called = True
        if self._idle:
            self._idle.pop().set()
        else:
            start()

    async def run(self, group: TaskGroup) -> None:
        """Start what jobs need until `close`; jobs that are there by then are begun, and the group waits for them.

        Args:
            group: what they run in.
        """
        self._group = group
        while not self._closed:
            await self._wake.wait()
            self._wake = anyio.Event()
            if self._called:
                self._start()
        while self._jobs:
            func, args = self._jobs.popleft()
            group.start_soon(func, *args)

    def close(self) -> None:
        """Let the tasks end with the jobs that they have."""
        self._closed = True
        self._wake.set()
        while self._idle:
            self._idle.pop().set()

    def _start(self) -> None:
        self._group.start_soon(self._work)

    async def _work(self) -> None:
        try:
            await self._go_on()
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() == -math.inf:
                raise
            # Cancelled by hand, not by a scope, perhaps for a job that is long done: the group would end for that.

    async def _go_on(self) -> None:
        jobs, clean = self._jobs, contextvars.copy_context()
        while True:
            self._called = False
            while jobs:
                func, args = jobs.popleft()
                if jobs and not self._called:  # this job may last, so somebody else has to take the next one
                    self._call(self._start)
                await func(*args)
                if contextvars.copy_context() != clean:
                    return
            if self._closed:
                return
            await self._rest()

    async def _rest(self) -> None:
        event = anyio.Event()
        self._idle.append(event)
        try:
            await event.wait()
        except BaseException:
            if event in self._idle:
                self._idle.remove(event)
            else:  # called, and cancelled on the way
                self._called = False
                if self._jobs:
                    self._call(self._wake.set)
            raise
