"""How late the event loop is: what a handler that blocks it costs all others."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from .series import Distribution


@asynccontextmanager
async def watched_loop(interval: float, lag: Distribution) -> AsyncGenerator[None]:
    """Look at the loop again and again while the block runs.

    Args:
        interval: seconds between two looks.
        lag: gets how late each of them was, in seconds.
    """
    async with anyio.create_task_group() as group:
        group.start_soon(_watch, interval, lag)
        yield
        group.cancel_scope.cancel()


async def _watch(interval: float, lag: Distribution) -> None:
    while True:
        due = anyio.current_time() + interval
        await anyio.sleep_until(due)
        lag.add(max(0.0, anyio.current_time() - due))
