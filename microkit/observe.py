"""Observers: what sees calls from outside, for metrics, traces and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .call import Call, Reply


class Observer:
    """Base class of observers; override what you need. Methods must be quick; what they raise is logged."""

    def call_started(self, call: Call) -> None:
        """A call was matched and is about to run."""

    def call_finished(self, call: Call, reply: Reply, duration: float) -> None:
        """A call was delivered (settled).

        Args:
            duration: seconds since it started.
        """

    def task_failed(self, call: Call, exc: Exception) -> None:
        """A background task of a call raised."""
