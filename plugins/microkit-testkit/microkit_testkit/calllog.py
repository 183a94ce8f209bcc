"""What an application ran."""

from __future__ import annotations

from microkit import Call, Reply, StatusCode
from microkit.observe import Observer


class CallLog(Observer):
    """Every call that the application ran, whatever started it: an observer that keeps what it sees.

    Attributes:
        calls: finished calls and their replies, in the order in which they finished.
        failed_tasks: background tasks that failed: the call and the exception.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Call, Reply]] = []
        self.failed_tasks: list[tuple[Call, Exception]] = []

    def call_finished(self, call: Call, reply: Reply, duration: float) -> None:
        self.calls.append((call, reply))

    def task_failed(self, call: Call, exc: Exception) -> None:
        self.failed_tasks.append((call, exc))

    @property
    def lines(self) -> list[tuple[str, str, StatusCode]]:
        """Kind, address and status of each call."""
        return [(call.kind.names(), call.address, reply.status) for call, reply in self.calls]
