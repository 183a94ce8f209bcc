"""What is reported of handlers that take too long: for their broker, or for the event loop."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from microkit.annotations import unwrap

if TYPE_CHECKING:
    from microkit import App
    from microkit.plan import Plan

    from .consumers import Consumers

_logger = logging.getLogger("microkit.workers")
_NEAR = 0.8


def name_of(plan: Plan) -> str:
    """The handler of a plan, for logs."""
    return f"{plan.endpoint.name} ({plan.address})"


class Watch:
    """Looks at running messages from time to time.

    Args:
        consumers: the ingress.
        consumer_timeout: seconds after which the broker gives up on an unanswered message; 0: never.
    """

    def __init__(self, consumers: Consumers, consumer_timeout: float) -> None:
        self._consumers = consumers
        self._timeout = consumer_timeout
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Watch until `stop`."""
        if not self._timeout:
            return
        with self._scope:
            while True:
                self._look()
                await anyio.sleep(min(10.0, self._timeout * (1 - _NEAR) / 4))

    def stop(self) -> None:
        """End it."""
        self._scope.cancel()

    def _look(self) -> None:
        now = time.monotonic()
        for each in self._consumers.running.values():
            if not each.warned and now - each.since > self._timeout * _NEAR:
                each.warned = True
                _logger.warning(
                    "%s has been working on message %s for %.0f s; the broker gives up on it after %.0f s "
                    "(consumer_timeout)",
                    each.what,
                    each.message_ids,
                    now - each.since,
                    self._timeout,
                )


@asynccontextmanager
async def watched_loop(app: App, block: float) -> AsyncGenerator[None]:
    """Watch the event loop from a thread while the block runs, and report handlers of any kind that block it.

    Args:
        app: whose handlers they are.
        block: seconds that the loop may be blocked; 0: no watch.
    """
    if not block:
        yield
        return
    watch = _LoopWatch(app, block)
    thread = threading.Thread(target=watch.look, name="microkit-watch", daemon=True)
    async with anyio.create_task_group() as group:
        group.start_soon(watch.beat)
        thread.start()
        try:
            yield
        finally:
            watch.ended.set()
            group.cancel_scope.cancel()


class _LoopWatch:
    # The loop gives a sign of life several times within the permitted time; the thread looks for them.
    def __init__(self, app: App, block: float) -> None:
        self._app = app
        self._block = block
        self._interval = block / 4
        self._beat = time.monotonic()
        self._loop_thread = threading.get_ident()
        self.ended = threading.Event()

    async def beat(self) -> None:
        while True:
            self._beat = time.monotonic()
            await anyio.sleep(self._interval)

    def look(self) -> None:
        reported = 0.0
        while not self.ended.wait(self._interval):
            beat = self._beat
            late = time.monotonic() - beat - self._interval
            if late < self._block or beat == reported:
                continue
            reported = beat  # once for each time that it is blocked
            frame = sys._current_frames().get(self._loop_thread)
            if frame is not None:
                _logger.warning("the event loop has been blocked for %.1f s %s", late, self._culprit(frame))

    def _culprit(self, frame: Any) -> str:
        names = {_code(plan): name_of(plan) for plan in self._app.table.plans if plan.ingress}
        place = f"at {frame.f_code.co_filename}:{frame.f_lineno}"
        for each, _ in traceback.walk_stack(frame):
            if each.f_code in names:
                return f"by {names[each.f_code]}, {place}"
        return place


def _code(plan: Plan) -> Any:
    handler = unwrap(plan.endpoint.handler)
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
