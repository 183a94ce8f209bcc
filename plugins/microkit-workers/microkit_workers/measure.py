"""Looks at the queues of an application from time to time: what a broker makes by itself reaches no handler."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from microkit.observe import tell

if TYPE_CHECKING:
    from microkit import App
    from microkit.broker import Broker, QueueSpec
    from microkit.plan import Plan

_logger = logging.getLogger("microkit.workers")


class QueueMeasure:
    """Tells the observers how queues are doing, and the log that dead letters have come.

    A dead letter may come from this process, from others, or from the broker (its delivery limit, an expiry, a
    rejection): the count is the broker's own.

    Args:
        app: the application.
        broker: its broker.
        queues: what it consumes; exclusive ones are left out, which have no dead letters of their own.
        interval: seconds between two looks; 0: none.
    """

    def __init__(self, app: App, broker: Broker, queues: Sequence[tuple[Plan, QueueSpec]], interval: float) -> None:
        self._app = app
        self._broker = broker
        self._queues = [(plan, queue.name) for plan, queue in queues if not queue.exclusive]
        self._interval = interval
        self._dead: dict[str, int] = {}
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Look until `stop`."""
        if not self._interval or not self._queues:
            return
        with self._scope:
            while True:
                for plan, queue in self._queues:
                    await self._look(plan, queue)
                await anyio.sleep(self._interval)

    def stop(self) -> None:
        """End it."""
        self._scope.cancel()

    async def _look(self, plan: Plan, queue: str) -> None:
        try:
            state = await self._broker.state(queue)
        except Exception as exc:  # the connection is lost, of which the broker tells
            _logger.debug("the queue %s cannot be measured: %s", queue, exc)
            return
        known = self._dead.get(queue)
        if state.dead > (known or 0):
            # What is there at the first look may be old.
            more = "" if known is None else f", {state.dead - known} more than before"
            _logger.warning(
                "dead letters of %s: %d%s; `microkit dead-letters` lists them with reasons", queue, state.dead, more
            )
        self._dead[queue] = state.dead
        for observer in self._app.observers:
            tell(observer.queue_measured, plan, queue, state)
