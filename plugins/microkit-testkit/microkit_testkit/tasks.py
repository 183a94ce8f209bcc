"""A task that runs for the time of a block, and gives its exception as it is; iterators that need no closing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class Items(AsyncIterator[T]):
    """An async iterator over calls of a function. Unlike a generator it may be left early, on trio too.

    Args:
        func: gives the next item, or raises StopAsyncIteration.
    """

    def __init__(self, func: Callable[[], Awaitable[T]]) -> None:
        self._func = func

    async def __anext__(self) -> T:
        return await self._func()


class Task:
    """One function in a task of its own.

    Args:
        func: what runs.
    """

    def __init__(self, func: Callable[[], Awaitable[None]]) -> None:
        self._func = func
        self._group: Any = None
        self._error: Exception | None = None
        self.ended = anyio.Event()

    async def start(self) -> None:
        """Start it. The same task must call `stop` later."""
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._run)

    async def _run(self) -> None:
        try:
            await self._func()
        except Exception as exc:
            self._error = exc  # raised by `stop`, outside of any group
        finally:
            self.ended.set()

    async def stop(self, exc: BaseException | None = None) -> bool:
        """Wait until it has ended.

        Args:
            exc: what ends the block; a cancellation cancels the task too.

        Returns:
            What the block's `__aexit__` returns.

        Raises:
            Exception: what the function raised, unless `exc` is on its way.
        """
        if isinstance(exc, anyio.get_cancelled_exc_class()):
            self._group.cancel_scope.cancel()
            return bool(await self._group.__aexit__(type(exc), exc, exc.__traceback__))
        await self._group.__aexit__(None, None, None)
        if exc is None and self._error is not None:
            raise self._error
        return False
