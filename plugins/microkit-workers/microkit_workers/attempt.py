"""What handlers and retry policies may know of the attempts before."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from microkit import Call, Depends
from microkit.broker import FIRST_SEEN, LAST_RETRY, REASON


@dataclass(frozen=True)
class Attempt:
    """One attempt to handle a message, or a firing of a schedule. Inject it by its type.

    Attributes:
        number: 1 for the first.
        first_seen: when it was handled for the first time (aware, UTC); None for the first attempt.
        last_retry: when the attempt before failed; None for the first attempt.
        last_error: why the attempt before failed: its type and status, without text that is not public.
    """

    number: int = 1
    first_seen: datetime | None = None
    last_retry: datetime | None = None
    last_error: str = ""

    @property
    def retry_count(self) -> int:
        """How many retries there were, this one included."""
        return self.number - 1

    @property
    def age(self) -> float:
        """Seconds since it was first seen."""
        return max(0.0, time.time() - self.first_seen.timestamp()) if self.first_seen is not None else 0.0

    @classmethod
    def of(cls, call: Any) -> Attempt:
        """The attempt that a call is."""
        headers = call.headers
        return cls(
            getattr(call, "attempt", 1),
            _moment(headers.get(FIRST_SEEN)),
            _moment(headers.get(LAST_RETRY)),
            str(headers.get(REASON, "")),
        )


def _moment(milliseconds: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):  # absent, or written by somebody else
        return None


def current_attempt(call: Call) -> Attempt:
    """A dependency: the attempt of the running call."""
    return Attempt.of(call)


class BackOffData(Attempt):
    """The seed's name of `Attempt`: `@inject(retry=BackOffData())`, or an annotation."""

    def __microkit_depends__(self) -> Depends:
        return Depends(current_attempt)
