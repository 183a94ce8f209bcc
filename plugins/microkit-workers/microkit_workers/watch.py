"""What is reported of handlers that take too long: for their broker, or for the event loop."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import anyio

from microkit.annotations import unwrap

if TYPE_CHECKING:
    from .consumers import Consumers

_logger = logging.getLogger("microkit.workers")
_NEAR = 0.8


class Watch:
    """Looks at running messages from time to time, and at the event loop from a thread of its own.

    Args:
        consumers: the ingress.
        consumer_timeout: seconds after which the broker gives up on an unanswered message; 0: none.
        block_warning: seconds that the event loop may be blocked before it is reported; 0: no watch.
    """

    def __init__(self, consumers: Consumers, consumer_timeout: float, block_warning: float) -> None:
        self._consumers = consumers
        self._timeout = consumer_timeout
        self._block = block_warning
        self._interval = min(10.0, *(each / 4 for each in (consumer_timeout * _NEAR, block_warning) if each)) if (
            consumer_timeout or block_warning
        ) else 10.0  # fmt: skip
        self._beat = time.monotonic()
        self._ended = threading.Event()
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Watch until `stop`."""
        if self._block:
            watcher = threading.Thread(
                target=self._watch_loop, args=(threading.get_ident(),), name="microkit-watch", daemon=True
            )
            watcher.start()
        try:
            with self._scope:
                while True:
                    self._beat = time.monotonic()
                    self._look_at_messages()
                    await anyio.sleep(self._interval)
        finally:
            self._ended.set()

    def stop(self) -> None:
        """End it."""
        self._scope.cancel()

    def _look_at_messages(self) -> None:
        if not self._timeout:
            return
        now = anyio.current_time()
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

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _watch_loop(self, loop_thread: int) -> None:
        reported = 0.0
        while not self._ended.wait(self._block / 4):
            beat = self._beat
            late = time.monotonic() - beat - self._interval
            if late < self._block or beat == reported:
                continue
            reported = beat  # once for each time that it is blocked
            frame = sys._current_frames().get(loop_thread)
            if frame is not None:
                _logger.warning("the event loop has been blocked for %.1f s %s", late, self._culprit(frame))

    def _culprit(self, frame: Any) -> str:
        stack = list(traceback.walk_stack(frame))
        codes = {getattr(unwrap(each.plan.endpoint.handler), "__code__", None): each.what
                 for each in list(self._consumers.running.values())}  # fmt: skip
        place = f"at {frame.f_code.co_filename}:{frame.f_lineno}"
        for each, _ in stack:
            if each.f_code in codes:
                return f"by {codes[each.f_code]}, {place}"
        return place
