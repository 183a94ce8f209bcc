"""Where handlers run: on the event loop, or in worker threads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread

if TYPE_CHECKING:
    from .plan import Plan


@dataclass(frozen=True)
class ExecutorSpec:
    """A contributed executor.

    Attributes:
        name: what the option `executor=` selects it by.
        wrap: makes an async callable of a sync one.
        accepts_async: whether coroutine functions may be given to it too.
        remote: makes of a plan what has a call of it run elsewhere, and returns the handler's result. The handler's
            parameters and dependencies are then made there, and nothing of them here; middleware and delivery stay
            here. It keeps the plan's `timeout` itself, since getting there may take time. Raises ConfigurationError for
            a plan that cannot run there. None, also as its result: run here.
    """

    name: str
    wrap: Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]]
    accepts_async: bool = False
    remote: Callable[[Plan], Callable[[Any], Awaitable[Any]] | None] | None = None


def in_thread(func: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Run a sync function in a worker thread. Cancellation waits for it, since a thread cannot be stopped."""
    run = anyio.to_thread.run_sync

    async def call(*args: Any) -> Any:
        return await run(partial(func, *args))

    return call


def inline(func: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Run a sync function on the event loop: for functions that never block."""

    async def call(*args: Any) -> Any:
        return func(*args)

    return call


THREAD = ExecutorSpec("thread", in_thread)
INLINE = ExecutorSpec("inline", inline)
