"""Observers: what sees calls from outside, for metrics, traces and logs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .broker import QueueState
    from .call import Call, Reply
    from .messages import Message
    from .plan import Plan
    from .settlement import Settlement

_logger = logging.getLogger("microkit.observe")


class WorkerPool(Protocol):
    """What may be known of a pool of workers. It is read when somebody wants to know, so a pool tells of no change.

    Attributes:
        label: the `context` of the plans that it runs.
        mode: how it runs them: `async`, `thread`, `process`, ...
        size: calls that it runs at a time.
        running: calls that have a worker.
        waiting: calls that wait for one.
    """

    @property
    def label(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class Observer:
    """Base class of observers; override what you need.

    Methods are called on the event loop and must be quick; what they raise is logged. Whoever calls them does so by
    `tell`.
    """

    def call_started(self, call: Call) -> None:
        """A call was matched and is about to run."""

    def call_finished(self, call: Call, reply: Reply, duration: float) -> None:
        """A call was delivered (settled).

        Args:
            duration: seconds since it started.
        """

    def task_failed(self, call: Call, exc: Exception) -> None:
        """A background task of a call raised."""

    def message_settled(self, message: Message, settlement: Settlement) -> None:
        """A message that was handled, alone or in a batch, or refused, has been answered; `settlement.state` says
        how."""

    def queue_measured(self, plan: Plan, queue: str, state: QueueState) -> None:
        """How a queue is doing on its broker, from time to time: also what reaches no handler, such as dead letters
        that the broker makes.

        Args:
            plan: handles its messages.
            queue: its name.
            state: its messages, those of all processes.
        """

    def pool_opened(self, pool: WorkerPool) -> None:
        """A pool of workers exists from now on; it replaces one of the same label."""


def tell(method: Callable[..., None], *args: Any) -> None:
    """Call a method of an observer; who only looks on must not cost anybody a reply."""
    try:
        method(*args)
    except Exception:
        _logger.exception("an observer failed")


def observed(call: Call) -> Callable[[Reply], None]:
    """Tell the observers that a call starts. Returns what tells them that it ended."""
    observers = call.app.observers
    if not observers:
        return _nobody
    started = time.perf_counter()
    for observer in observers:
        tell(observer.call_started, call)

    def finished(reply: Reply) -> None:
        duration = time.perf_counter() - started
        for observer in observers:
            tell(observer.call_finished, call, reply, duration)

    return finished


def settled(message: Message) -> None:
    """Tell the observers how a message was answered."""
    for observer in message.app.observers if message.settlement is not None else ():
        tell(observer.message_settled, message, message.settlement)


def _nobody(reply: Reply) -> None:
    pass
