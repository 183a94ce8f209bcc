"""The one place of the kernel that knows the backends by name."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")
_logger = logging.getLogger("microkit.bridge")
_running: set[Any] = set()


def current_backend() -> str:
    """The backend of the running event loop, by looking for the one that is loaded and running."""
    if "trio" in sys.modules:
        import trio

        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            pass
        else:
            return "trio"
    return "asyncio"


def spawn_detached(func: Callable[[], Awaitable[None]], name: str) -> None:
    """Run `func` in a task that belongs to the event loop itself, not to the caller.

    It is cancelled when the loop ends. `func` must not raise.
    """
    if current_backend() == "trio":
        import trio

        trio.lowlevel.spawn_system_task(func, name=name)
        return
    import asyncio

    task = asyncio.get_running_loop().create_task(func(), name=name)  # type: ignore[arg-type]
    _running.add(task)  # the loop itself keeps only a weak reference
    task.add_done_callback(_running.discard)


# -- libraries that need asyncio ---------------------------------------------------------------------------------------


class AsyncioLoop:
    """An asyncio event loop for libraries that know no other backend: the caller's own one, if it has one.

    This class serves a caller on asyncio. `open_asyncio` gives a `ThreadedAsyncioLoop` to one on trio; code that uses
    only these methods runs on both.
    """

    async def run(self, func: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await `func(*args)` on the asyncio loop; a cancellation of the caller cancels it."""
        return await func(*args)

    def call(self, func: Callable[..., object], *args: Any) -> None:
        """Call `func(*args)` on the asyncio loop, in the order of these calls, without waiting for it."""
        func(*args)

    def homeward(self, func: Callable[..., object]) -> Callable[..., None]:
        """What calls `func` on the caller's own loop when it is called on the asyncio loop, in that order."""
        return func  # type: ignore[return-value]

    async def close(self) -> None:
        """Cancel what still runs and end the loop, if it is not the caller's own."""


class ThreadedAsyncioLoop(AsyncioLoop):
    """An asyncio event loop in a thread of its own, for a caller on trio.

    Every operation is a real task there, cancelled by `task.cancel()`: anyio's blocking portal would leave it running.
    Crossings in both directions are batched: of many calls in a row only the first one wakes the other loop.

    Args:
        grace: seconds that a cancelled operation may take to end before its caller goes on without it.
    """

    def __init__(self, grace: float = 10.0) -> None:
        import asyncio
        import threading

        self._grace = grace
        self._loop = asyncio.new_event_loop()
        self._tasks: set[Any] = set()
        self._out = Crossing(self._loop.call_soon_threadsafe)
        self._back = crossing()
        self._thread = threading.Thread(target=self._main, name="microkit-asyncio", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        import asyncio

        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            for task in (left := asyncio.all_tasks(self._loop)):
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    async def run(self, func: Callable[..., Awaitable[T]], *args: Any) -> T:
        done = anyio.Event()
        tasks: list[Any] = []

        def start() -> None:
            task = self._loop.create_task(func(*args))  # type: ignore[arg-type]
            tasks.append(task)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: self._back.post(done.set))

        if self._loop.is_closed():
            raise RuntimeError("the asyncio loop of this bridge is closed")
        self._out.post(start)
        try:
            await done.wait()
        except BaseException:
            self._out.post(lambda: tasks[0].cancel())
            with anyio.move_on_after(self._grace, shield=True):
                await done.wait()
            raise
        if tasks[0].cancelled():  # not by the caller, whose own cancellation has left above
            raise RuntimeError("the operation was cancelled because its asyncio loop ends")
        return tasks[0].result()

    def call(self, func: Callable[..., object], *args: Any) -> None:
        self._out.post(func, *args)

    def homeward(self, func: Callable[..., object]) -> Callable[..., None]:
        return lambda *args: self._back.post(func, *args)

    async def close(self) -> None:
        if not self._loop.is_closed():
            self._out.post(self._loop.stop)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join)


class Crossing:
    """Calls from one thread to the loop of another one; `wake` is what that loop takes calls by."""

    def __init__(self, wake: Callable[[Callable[[], None]], object]) -> None:
        self._wake = wake
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._armed = False

    def post(self, func: Callable[..., object], *args: Any) -> None:
        """Have `func(*args)` called there soon; nothing happens once that loop has ended."""
        self._calls.append((func, args))
        if not self._armed:
            self._armed = True
            try:
                self._wake(self._flush)
            except RuntimeError:  # the other loop has ended, so nobody is left to be told
                self._calls.clear()

    def _flush(self) -> None:
        # Disarmed first: a call that arrives from now on wakes this loop again, at worst for nothing.
        self._armed = False
        for _ in range(len(self._calls)):
            func, args = self._calls.popleft()
            try:
                func(*args)
            except Exception:
                _logger.exception("a call between two event loops failed")


def crossing() -> Crossing:
    """How other threads call functions on the running event loop, without waiting for it."""
    if current_backend() == "trio":
        import trio

        return Crossing(trio.lowlevel.current_trio_token().run_sync_soon)
    import asyncio

    return Crossing(asyncio.get_running_loop().call_soon_threadsafe)


def open_asyncio(grace: float = 10.0) -> AsyncioLoop:
    """An asyncio event loop for a library that needs one, on whatever backend the caller runs.

    Args:
        grace: seconds that a cancelled operation may take to end, under trio.
    """
    return ThreadedAsyncioLoop(grace) if current_backend() == "trio" else AsyncioLoop()
