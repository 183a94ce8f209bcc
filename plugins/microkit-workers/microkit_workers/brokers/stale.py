"""What is raised for an answer that comes too late."""

from __future__ import annotations

from microkit.errors import MicrokitError


class StaleDelivery(MicrokitError):
    """A message was answered after its connection, or its lease, was lost: the answer is dropped, and the message comes
    (or came) again."""
