"""What a cluster knows of one schedule, as a value: which firings were claimed, and which of them are not done."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Self

from microkit_kv import StoreError

CLAIMS = 32
"""Due times that are remembered. More than one, so that a clock that is far ahead cannot make others forget."""

ATTEMPTS = 2
"""How often a firing is begun at most: one that ends its process must not end those of the whole cluster in turn."""

GIVEN_BACK = ""
"""Owner of a firing that a process gave back when it shut down."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A firing that was claimed and is not done.

    Attributes:
        due: seconds since the epoch.
        owner: who has it; unlike any other owner.
        running: it was begun.
        attempt: how often it was begun, this time included.
        missed: firings that were left out before it.
    """

    due: float
    owner: str
    running: bool = False
    attempt: int = 1
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """All that is stored of a schedule. Its methods return a new one.

    Attributes:
        claims: due times of the last firings that were claimed, in that order; at first the time when the schedule was
            first seen.
        open: what is not done.
    """

    claims: tuple[float, ...]
    open: tuple[Entry, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The record of what `dump` gave.

        Raises:
            StoreError: it is something else.
        """
        try:
            claims, entries = json.loads(data)
            return cls(tuple(float(due) for due in claims), tuple(Entry(*entry) for entry in entries))
        except (ValueError, TypeError):
            raise StoreError("What is stored for a schedule is no record of firings.") from None

    def dump(self) -> bytes:
        """The record as bytes."""
        entries = [[each.due, each.owner, each.running, each.attempt, each.missed] for each in self.open]
        return json.dumps([self.claims, entries]).encode()

    def last(self, now: float, skew: float) -> float | None:
        """The last due time that was claimed, but for those of clocks that are ahead by more than they may.

        Args:
            now: this clock, in seconds since the epoch.
            skew: seconds that clocks may be apart.
        """
        return max((due for due in self.claims if due <= now + skew), default=None)

    def owned(self, due: float, owner: str) -> bool:
        """Whether somebody has a firing that is not done."""
        return any(each.due == due and each.owner == owner for each in self.open)

    def claim(self, entry: Entry, now: float, skew: float, *, keep: bool, replace_waiting: bool) -> Self | None:
        """Claim a firing.

        Args:
            entry: the firing.
            now, skew: as for `last`.
            keep: it stays open until it is done.
            replace_waiting: it takes the place of those that wait to be begun.

        Returns:
            None if it, or a later one, was claimed before.
        """
        last = self.last(now, skew)
        if entry.due in self.claims or (last is not None and entry.due <= last):
            return None
        entries = [each for each in self.open if not replace_waiting or each.running or each.owner == GIVEN_BACK] + [
            entry
        ] * keep
        return replace(self, claims=(*self.claims, entry.due)[-CLAIMS:], open=tuple(entries))

    def take(self, owner: str, misfire: str) -> tuple[Self, tuple[Entry, ...], tuple[Entry, ...]]:
        """Take over what is open; only for whom holds the lease, since what runs then has lost its process.

        Args:
            owner: who takes it.
            misfire: `once` takes the last one for all, `skip` only what was not begun, `all` takes each.

        Returns:
            The new record; what to run, the first one first; what was given up because it was begun too often.
        """
        waiting = [each for each in self.open if not (each.running and misfire == "skip")]
        over = tuple(each for each in waiting if each.running and each.attempt >= ATTEMPTS)
        todo = sorted((each for each in waiting if each not in over), key=lambda each: each.due)
        if misfire != "all" and todo:
            missed = sum(each.missed + 1 for each in todo) - 1
            todo = [replace(todo[-1], missed=missed)]
        taken = tuple(replace(each, owner=owner, running=True, attempt=each.attempt + each.running) for each in todo)
        return replace(self, open=taken), taken, over

    def done(self, due: float, owner: str) -> Self:
        """A firing is done, if it still belongs to its owner."""
        return replace(self, open=tuple(each for each in self.open if (each.due, each.owner) != (due, owner)))

    def give_back(self, due: float, owner: str) -> Self:
        """A firing was broken off and waits for another owner."""
        entries = (
            replace(each, owner=GIVEN_BACK, running=False) if (each.due, each.owner) == (due, owner) else each
            for each in self.open
        )
        return replace(self, open=tuple(entries))
