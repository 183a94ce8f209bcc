"""The one place of the kernel that knows the backends by name."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

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
