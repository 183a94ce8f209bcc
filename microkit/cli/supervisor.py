"""Several processes that share their sockets: `--workers` and `--reload`.

The supervisor runs its own command line again in child processes and tells each its place in an environment variable.
It imports nothing of the application: the first child binds the listening sockets and hands them up, the supervisor
keeps them, and every later child inherits them. So a connection that comes while a child is replaced waits instead of
failing.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from microkit.host import Worker

_logger = logging.getLogger("microkit.supervisor")
_VARIABLE = "MICROKIT_WORKER"
_FIRST_PAUSE, _LONGEST_PAUSE, _LONG_LIFE = 0.5, 30.0, 60.0
_RELOAD_GRACE = 5.0
_SKIPPED = {"__pycache__", "node_modules", "site-packages"}
_MAX_SOCKETS = 64


@cache
def own_worker() -> Worker | None:
    """The place of this process, if a supervisor started it. It is taken out of the environment, so that programs which
    this one starts do not believe it is theirs."""
    given = os.environ.pop(_VARIABLE, None)
    if given is None:
        return None
    place = json.loads(given)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the supervisor decides
    return Worker(
        place["index"],
        place["count"],
        _adopt(place["control"]),
        {key: [_adopt(fd) for fd in fds] for key, fds in place["sockets"].items()},
    )


def _adopt(fd: int) -> socket.socket:
    found = socket.socket(fileno=fd)
    found.set_inheritable(False)
    found.setblocking(False)
    return found


@dataclass(eq=False)
class _Child:
    process: anyio.abc.Process
    ready: bool = False
    replaced: bool = False


class Supervisor:
    """Keeps child processes running.

    Args:
        workers: how many.
        reload: replace them when a source file changes, instead of when they crash.
        paths: directories to watch.
    """

    def __init__(self, workers: int, *, reload: bool = False, paths: Sequence[Path] = ()) -> None:
        self._count = workers
        self._reload = reload
        self._paths = paths
        self._command = [sys.executable, *sys.orig_argv[1:]]
        self._sockets: dict[str, list[socket.socket]] = {}
        self._children: dict[int, _Child] = {}
        self._code = 0

    def run(self) -> int:
        """Supervise until a signal. Blocks.

        Returns:
            The exit code: 0, or that of a child that could not start.
        """
        if not hasattr(socket, "send_fds"):
            print("microkit: --workers and --reload need a POSIX system. Run one process.", file=sys.stderr)
            return 1
        anyio.run(self._run)
        return self._code

    async def _run(self) -> None:
        self._stopping, self._first_ready, self._change = anyio.Event(), anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as watchers:
            await watchers.start(self._watch_signals)
            if self._reload:
                watchers.start_soon(self._watch_files)
            async with anyio.create_task_group() as slots:
                slots.start_soon(self._keep, 0)
                await self._first_ready.wait()
                for index in range(1, self._count) if not self._stopping.is_set() else ():
                    slots.start_soon(self._keep, index)
            watchers.cancel_scope.cancel()

    # -- children ------------------------------------------------------------------------------------------------------

    async def _keep(self, index: int) -> None:
        """One child after the other in the same place."""
        pause, was_ready = 0.0, False
        while not self._stopping.is_set():
            started, change = anyio.current_time(), self._change
            child = await self._live(index)
            was_ready = was_ready or child.ready
            if self._stopping.is_set():
                return
            code = child.process.returncode or 0
            if self._reload:
                if not child.replaced:
                    _logger.warning("the process ended with code %d; waiting for a change of the source", code)
                    await change.wait()
                continue
            if not was_ready:
                self._code = code if code > 0 else 1
                self._stop()
                return
            pause = _FIRST_PAUSE if anyio.current_time() - started > _LONG_LIFE else min(pause * 2, _LONGEST_PAUSE)
            pause = pause or _FIRST_PAUSE
            _logger.warning("worker %d (process %d) ended with code %d; its successor starts in %.1f s",
                            index, child.process.pid, code, pause)  # fmt: skip
            with anyio.move_on_after(pause):
                await self._stopping.wait()

    async def _live(self, index: int) -> _Child:
        """Start a child and return when it has ended."""
        change = self._change
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                child = self._children[index] = _Child(await self._spawn(index, theirs))
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen, child, ours)
                if self._stopping.is_set():
                    child.process.terminate()
                elif change is not self._change:  # it may have read the source before, and was not here to be replaced
                    child.replaced = True
                    group.start_soon(_replace, child)
                await child.process.wait()
                group.cancel_scope.cancel()
        return child

    async def _spawn(self, index: int, control: socket.socket) -> anyio.abc.Process:
        fds = {key: [each.fileno() for each in found] for key, found in self._sockets.items()}
        place = {"index": index, "count": self._count, "control": control.fileno(), "sockets": fds}
        return await anyio.open_process(
            self._command,
            stdin=None,
            stdout=None,
            stderr=None,
            env=os.environ | {_VARIABLE: json.dumps(place)},
            pass_fds=[control.fileno(), *(fd for each in fds.values() for fd in each)],
        )

    async def _listen(self, child: _Child, control: socket.socket) -> None:
        await anyio.wait_readable(control)
        message, fds, *_ = socket.recv_fds(control, 65536, _MAX_SOCKETS)
        if not message:
            return
        for key, number in json.loads(message).items():
            taken, fds = [socket.socket(fileno=fd) for fd in fds[:number]], fds[number:]
            self._sockets.setdefault(key, taken)
        child.ready = True
        self._first_ready.set()

    # -- what happens outside ------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._stopping.set()
        self._first_ready.set()
        self._change.set()
        for child in self._children.values():
            _signal(child, signal.SIGTERM)

    async def _watch_signals(self, *, task_status: Any) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if self._stopping.is_set():
                    for child in self._children.values():
                        _signal(child, signal.SIGKILL)
                    signal.signal(number, signal.SIG_DFL)
                    signal.raise_signal(number)
                _logger.info("%s: draining %d processes", signal.Signals(number).name, len(self._children))
                self._stop()

    async def _watch_files(self) -> None:
        async with anyio.create_task_group() as group:
            async for path in changes(self._paths, self._stopping):
                _logger.info("%s changed; restarting", path)
                self._change.set()
                self._change = anyio.Event()
                for child in self._children.values():
                    if not child.replaced:
                        child.replaced = True
                        group.start_soon(_replace, child)


async def _replace(child: _Child) -> None:
    _signal(child, signal.SIGTERM)
    with anyio.move_on_after(_RELOAD_GRACE):
        await child.process.wait()
    _signal(child, signal.SIGKILL)


def _signal(child: _Child, number: signal.Signals) -> None:
    if child.process.returncode is None:
        try:
            child.process.send_signal(number)
        except ProcessLookupError:
            pass


async def changes(paths: Sequence[Path], stop: anyio.Event) -> AsyncIterator[Path]:
    """The Python files below some directories that change, as they do, until `stop`; by watchfiles where it is
    installed."""
    try:
        from watchfiles import PythonFilter, awatch
    except ImportError:
        async for path in _polled(paths):
            yield path
        return
    async for found in awatch(*paths, watch_filter=PythonFilter(), debounce=100, stop_event=stop):
        yield Path(min(path for _, path in found))


async def _polled(paths: Sequence[Path], interval: float = 0.5) -> AsyncIterator[Path]:
    before = _modified(paths)
    while True:
        await anyio.sleep(interval)
        now = await anyio.to_thread.run_sync(_modified, paths)
        changed = [path for path in before.keys() | now.keys() if before.get(path) != now.get(path)]
        before = now
        if changed:
            yield min(changed)


def _modified(paths: Sequence[Path]) -> dict[Path, float]:
    found: dict[Path, float] = {}
    for top in paths:
        for folder, folders, files in os.walk(top):
            folders[:] = [name for name in folders if name not in _SKIPPED and not name.startswith(".")]
            for name in files:
                if name.endswith(".py"):
                    path = Path(folder, name)
                    try:
                        found[path] = path.stat().st_mtime
                    except OSError:  # it went away in between
                        pass
    return found
