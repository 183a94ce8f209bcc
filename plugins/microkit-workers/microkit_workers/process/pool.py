"""The child processes of a worker pool: started when they are needed, replaced when they end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc

from microkit import App, StartupError, StatusCode
from microkit._bridge import current_backend
from microkit.broker import Broker, RpcWire
from microkit.errors import overdue
from microkit.plan import Plan
from microkit_workers.pool import Pool

from .calls import key_of, pack_call, unpack_outcome
from .channel import Channel
from .errors import WorkerCrashed
from .relay import answer
from .source import find_source

_logger = logging.getLogger("microkit.workers")
_QUICK = 5.0  # seconds: a child that ends sooner counts towards a crash loop
_TRIES = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0


class _Child:
    def __init__(self, process: anyio.abc.Process, channel: Channel) -> None:
        self.process = process
        self.channel = channel
        self.started = anyio.current_time()
        self.ready = anyio.Event()
        self.ended = anyio.Event()
        self.failure = ""
        self.tasks = 0
        self.retired = False
        self.begun = False
        self.waiting: anyio.Event | None = None
        self.outcome: tuple[dict[str, Any], bytes] | None = None

    def kill(self) -> None:
        if self.process.returncode is None:
            try:
                self.process.kill()
            except ProcessLookupError:
                pass

    def epitaph(self) -> str:
        """How it ended, in words."""
        code = self.process.returncode
        if code is None:
            return "vanished"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class ProcessPool:
    """Child processes that run the calls of one worker pool, one call each at a time.

    Args:
        pool: whose calls they are.
        app: the application.
    """

    def __init__(self, pool: Pool, app: App) -> None:
        self._pool = pool
        self._app = app
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._starting = 0
        self._freed = anyio.Event()
        self._quick_ends = 0
        self._failures = 0
        self._closed = False
        self._source: dict[str, Any] = {}

    @property
    def pids(self) -> list[int]:
        """The running child processes."""
        return [each.process.pid for each in self._all]

    async def start(self) -> None:
        """Start the first child, to see that it can load the application.

        Raises:
            MicrokitError: it cannot.
        """
        self._source = find_source(self._app)
        child = await self._spawn()
        if child.failure:
            raise StartupError(f"A child process of the workers {self._pool.label!r} cannot start. {child.failure}")
        self._free(child)

    async def close(self) -> None:
        """End all children; those that do not end by themselves are killed."""
        self._closed = True
        children = list(self._all)
        for child in children:
            try:
                await child.channel.send({"type": "stop"})
            except OSError:
                pass
        with anyio.move_on_after(self._app.settings.teardown_timeout):
            for child in children:
                await child.ended.wait()
        for child in children:
            child.kill()
            await child.ended.wait()

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def run(self, plan: Plan, call: Any) -> Any:
        """Run the handler of a plan for a call, and return its result.

        Raises:
            WorkerCrashed: the child ended meanwhile, or none can be started.
            Exception: what the handler raised.
        """
        packed, body = pack_call(call)
        head = {"type": "run", "id": call.id, "binding": key_of(plan), "call": packed}
        tries = 0
        while True:
            child = await self._take()
            outcome = await self._run_in(child, head, body, plan.timeout)
            tries += 1
            if outcome is not None:
                break
            if child.begun or tries == _TRIES:  # else it ended before it had read the call, which is not to blame
                raise WorkerCrashed(f"The process that ran {_name(call)} {child.epitaph()}.")
        if 0 < self._pool.max_tasks_per_child <= child.tasks:
            await self._retire(child)
        else:
            self._free(child)
        return unpack_outcome(call, *outcome)

    async def _run_in(
        self, child: _Child, head: dict[str, Any], body: bytes, timeout: float | None
    ) -> tuple[dict[str, Any], bytes] | None:
        child.waiting, child.begun, child.outcome = anyio.Event(), False, None
        child.tasks += 1
        try:
            try:
                await child.channel.send(head, body)
            except OSError:
                pass  # it is gone, which its reader tells
            with anyio.move_on_after(timeout) as scope:
                await child.waiting.wait()
        except BaseException:
            child.retired = True
            child.kill()  # a handler in another process really ends when its call is cancelled
            raise
        if scope.cancelled_caught:
            child.retired = True
            child.kill()
            raise overdue(timeout or 0.0)
        child.waiting = None
        return child.outcome

    def _free(self, child: _Child) -> None:
        if not child.ended.is_set():
            self._idle.append(child)
        self._freed.set()

    async def _take(self) -> _Child:
        failures = self._failures
        while True:
            while self._idle:
                child = self._idle.pop()
                if not child.ended.is_set():
                    return child
            if self._closed:
                raise WorkerCrashed("The service is shutting down.", status=StatusCode.UNAVAILABLE)
            if self._failures > failures:
                raise WorkerCrashed("No process can be started for this call.", status=StatusCode.UNAVAILABLE)
            self._grow()
            if self._freed.is_set():  # all who wait share one event
                self._freed = anyio.Event()
            await self._freed.wait()

    async def _retire(self, child: _Child) -> None:
        child.retired = True
        self._all.discard(child)
        self._grow()
        try:
            await child.channel.send({"type": "stop"})
        except OSError:
            pass

    # -- children ------------------------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Start one more child, if there may be more. It belongs to the pool, not to the call that wants it."""
        if not self._closed and len(self._all) + self._starting < self._pool.size:
            self._starting += 1
            self._app.runtime.tasks.start_soon(self._refill)

    async def _refill(self) -> None:
        try:
            child = await self._spawn()
        finally:
            self._starting -= 1
        if child.failure:
            self._failures += 1
            _logger.error("a child process of the workers %s cannot start. %s", self._pool.label, child.failure)
        self._free(child)

    async def _spawn(self) -> _Child:
        """Start a child and wait until it can take calls, or has failed."""
        if self._quick_ends > 1:
            pause = min(_FIRST_PAUSE * 2 ** (self._quick_ends - 2), _LONGEST_PAUSE)
            _logger.warning("child processes of %s end soon; the next one starts in %.1f s", self._pool.label, pause)
            await anyio.sleep(pause)
        child = await self._open()
        self._all.add(child)
        self._app.runtime.tasks.start_soon(self._listen, child)
        level = logging.getLevelName(logging.getLogger("microkit").getEffectiveLevel())
        try:
            try:
                await child.channel.send({"source": self._source, "log_level": level})
            except OSError:
                pass  # it is gone, which its reader tells
            with anyio.move_on_after(self._app.all_settings["workers"].child_start_timeout) as scope:
                await child.ready.wait()
        except BaseException:
            child.kill()
            raise
        if scope.cancelled_caught:
            child.failure = "It did not load the application in time (child_start_timeout)."
            child.kill()
        return child

    async def _open(self) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            environ = {name: value for name, value in os.environ.items() if name != "MICROKIT_WORKER"}
            process = await anyio.open_process(
                [sys.executable, "-m", "microkit_workers.process.child", str(theirs.fileno()), current_backend()],
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                env=environ,
                pass_fds=[theirs.fileno()],
            )
        return _Child(process, Channel(ours))

    async def _listen(self, child: _Child) -> None:
        """Take what a child sends, until it has ended."""
        with anyio.CancelScope() as scope:
            try:
                while (frame := await child.channel.receive()) is not None:
                    head, body = frame
                    if head["type"] == "ready":
                        child.ready.set()
                    elif head["type"] == "failed":
                        child.failure = head["reason"]
                    elif head["type"] == "ask":
                        self._app.runtime.tasks.start_soon(self._answer, child, head)
                    elif head["type"] == "begun":
                        child.begun = True
                    elif child.waiting is not None:
                        child.outcome = head["outcome"], body
                        child.waiting.set()
            finally:
                scope.shield = True
                await self._bury(child)

    async def _bury(self, child: _Child) -> None:
        with anyio.move_on_after(1.0):
            await child.process.wait()
        child.kill()
        await child.process.wait()
        child.channel.close()
        self._all.discard(child)
        quick = anyio.current_time() - child.started < _QUICK and not child.retired and not self._closed
        self._quick_ends = self._quick_ends + 1 if quick else 0
        if not child.ready.is_set():
            child.failure = child.failure or f"It {child.epitaph()} before it had loaded the application."
        elif not (child.retired or self._closed):
            _logger.error("the child process %d of %s %s", child.process.pid, self._pool.label, child.epitaph())
        child.ended.set()
        child.ready.set()
        if child.waiting is not None:
            child.waiting.set()
        self._freed.set()

    async def _answer(self, child: _Child, head: dict[str, Any]) -> None:
        container = self._app.container
        try:
            told = await answer(head["question"], await container.get(Broker), await container.get(RpcWire))
        except Exception:
            _logger.exception("a child process could not be answered")
            hidden = {"detail": "An internal error occurred.", "status": int(StatusCode.INTERNAL), "unroutable": False}
            told = {"failure": hidden}
        try:
            await child.channel.send({"type": "answer", "number": head["number"], "answer": told})
        except OSError:
            pass


def _name(call: Any) -> str:
    message_id = getattr(call, "message_id", None)
    return f"message {message_id}" if message_id else f"call {call.id}"


def processes_of(pool: Pool, app: App) -> ProcessPool:
    """The child processes of a worker pool."""
    if pool.processes is None:
        pool.processes = ProcessPool(pool, app)
    return pool.processes


@asynccontextmanager
async def running_processes(app: App, pools: list[Pool]) -> AsyncGenerator[None]:
    """Child processes for some worker pools: the first of each starts on entry, all end on exit."""
    started: list[ProcessPool] = []
    try:
        for pool in pools:
            started.append(processes_of(pool, app))
            await started[-1].start()
        yield
    finally:
        for each in started:
            await each.close()
