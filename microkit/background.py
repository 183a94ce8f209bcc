"""Work that follows a delivered reply."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from .observe import tell

if TYPE_CHECKING:
    from .call import Call

_logger = logging.getLogger("microkit.background")


class BackgroundTasks:
    """A list of callables to run, in order, after the reply was delivered.

    A failing task is logged and touches neither the reply nor the others. All are dropped if the handler raised.
    """

    __slots__ = ("tasks",)

    def __init__(self) -> None:
        self.tasks: list[Callable[[], Any]] = []

    def add(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Add a task.

        Args:
            func: sync (runs in a worker thread) or async callable.
            args, kwargs: passed to it.
        """
        self.tasks.append(partial(func, *args, **kwargs))

    def __len__(self) -> int:
        return len(self.tasks)


async def run_background(call: Call, tasks: list[Callable[[], Any]]) -> None:
    """Run `tasks` of `call` one after the other, each failure logged."""
    for task in tasks:
        func = task.func  # type: ignore[attr-defined]  # always a partial
        try:
            if inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(getattr(func, "__call__", None)):  # noqa: B004
                await task()
            else:
                result = await anyio.to_thread.run_sync(task)
                if inspect.isawaitable(result):
                    await result
        except Exception as exc:
            name = getattr(func, "__qualname__", repr(func))
            _logger.exception("background task %s of call %s failed", name, call.id)
            for observer in call.app.observers:
                tell(observer.task_failed, call, exc)
