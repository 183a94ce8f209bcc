"""Values that come later: one face for sync handlers in threads and for coroutines on the event loop."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

T = TypeVar("T")


class Loop:
    """The event loop of a running call, for functions that may be called on it or from a thread.

    Args:
        tasks: where work goes on that nobody awaits: the application's task group.
    """

    def __init__(self, tasks: Any) -> None:
        self.tasks = tasks
        self._token = anyio.lowlevel.current_token()
        self._thread = threading.get_ident()

    @property
    def is_here(self) -> bool:
        """Whether this thread is that of the event loop."""
        return threading.get_ident() == self._thread

    def call(self, func: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run a coroutine function on the loop from a thread and wait for its result."""

        async def run() -> T:
            return await func(*args)

        return anyio.from_thread.run(run, token=self._token)

    def call_sync(self, func: Callable[..., T], *args: Any) -> T:
        """Run a function on the loop from wherever this is called."""
        return func(*args) if self.is_here else anyio.from_thread.run_sync(func, *args, token=self._token)

    def either(self, func: Callable[[], Awaitable[T]]) -> Any:
        """The result of a coroutine function, in a thread; what has to be awaited, on the loop."""
        return func() if self.is_here else self.call(func)


class Future(Generic[T]):
    """A result that is on its way. In a thread `result` waits for it; on the event loop `await` does.

    Args:
        loop: where it is worked on.
        func: gives the result.
    """

    def __init__(self, loop: Loop, func: Callable[[], Awaitable[T]]) -> None:
        self._loop = loop
        self._func = func
        self._done: Any = None
        self._value: Any = None
        self._error: BaseException | None = None
        loop.call_sync(self._start)

    def _start(self) -> None:
        self._done = anyio.Event()
        self._loop.tasks.start_soon(self._run)

    async def _run(self) -> None:
        try:
            self._value = await self._func()
        except Exception as exc:
            self._error = exc
        except BaseException as exc:
            self._error = RuntimeError("what the call belongs to was closed before its result came")
            raise exc
        finally:
            self._done.set()

    def done(self) -> bool:
        """Whether the result, or a failure, is there."""
        return self._done.is_set()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result, in a thread.

        Args:
            timeout: seconds; None: as long as the call itself may take.

        Raises:
            TimeoutError: it is not there yet.
            RuntimeError: this is the thread of the event loop, which must not wait: await the future there.
            Exception: what the call failed with.
        """
        if not self._loop.is_here:
            return self._loop.call(self._wait, timeout)
        if not self.done():
            raise RuntimeError("result() would block the event loop: await the future itself in async functions")
        return self._outcome()

    async def _wait(self, timeout: float | None = None) -> T:
        with anyio.fail_after(timeout):
            await self._done.wait()
        return self._outcome()

    def _outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()
