"""Leases: work that one of many processes may do at a time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from .errors import LeaseLost, StoreError
from .limits import checked_ttl
from .store import Store


@dataclass(eq=False)
class Lease:
    """The right to some work until it is released or over. Made by `acquire`.

    A process may be stopped for longer than its lease lasts and go on without knowing. So whatever the work changes
    should be given the `token`, and refuse one that is lower than the highest it has seen (a fencing token).

    Who holds the lease is judged by the store alone, by its own clock. The record of a name stays for ever, since
    tokens must go on growing: names are those of kinds of work, not of single messages.

    Attributes:
        name: the work.
        holder: who does it, for people.
        token: grows with each holder of this name.
    """

    name: str
    holder: str
    token: int
    _store: Store = field(repr=False)
    _alive: str = field(repr=False)
    _ttl: float = field(repr=False)
    _until: float = field(repr=False)
    _clock: Callable[[], float] = field(repr=False)

    @classmethod
    async def acquire(
        cls, store: Store, name: str, ttl: float, holder: str, *, clock: Callable[[], float] = time.monotonic
    ) -> Self | None:
        """Try to get a lease, once.

        Args:
            store: an atomic store that all contenders share; no `ExpiringStore`, which would forget the last token.
            name: the work; up to about 400 bytes.
            ttl: seconds after which the lease is over, unless it is renewed.
            holder: who asks, for people; it is no proof, so the same holder does not get it twice.
            clock: seconds for `remaining`; only differences count.

        Returns:
            The lease, or None if another holds it.

        Raises:
            InvalidTTL: the time is out of bounds.
            Unsupported: the store is not atomic.
        """
        checked_ttl(ttl)
        record = f"lease:{name}"
        before = await store.get(record)
        last, sign = _read(record, before)
        if sign and await store.has(f"{record}:{sign}"):
            return None
        # A sign of life of its own for each holder. It is there before the record names it, so nobody sees this lease
        # as over before it is; and a sign that is over never comes back.
        sign = os.urandom(16).hex()
        alive = f"{record}:{sign}"
        start = clock()
        await store.put(alive, b"", ttl=ttl)
        after = json.dumps({"token": last + 1, "holder": holder, "alive": sign}).encode()
        if not await store.compare_and_set(record, before, after):
            await store.delete(alive)
            return None
        return cls(name, holder, last + 1, store, alive, ttl, start + ttl, clock)

    @property
    def remaining(self) -> float:
        """Seconds for which the lease holds at least, by the clock of this process; 0 if it is over."""
        return max(0.0, self._until - self._clock())

    async def renew(self, ttl: float | None = None) -> None:
        """Hold the lease for longer.

        Args:
            ttl: seconds from now; None: as long as at first.

        Raises:
            LeaseLost: it is over.
        """
        ttl = self._ttl if ttl is None else ttl
        start = self._clock()
        if not await self._store.touch(self._alive, ttl):
            self._until = 0.0
            raise LeaseLost(f"The lease {self.name!r} of {self.holder!r} (token {self.token}) is over.")
        self._until = start + ttl

    async def release(self) -> bool:
        """Let others have the lease. Returns whether it was still held."""
        self._until = 0.0
        return await self._store.delete(self._alive)


def _read(record: str, data: bytes | None) -> tuple[int, str]:
    """The last token of a name and its holder's sign of life."""
    if data is None:
        return 0, ""
    try:
        values = json.loads(data)
        return int(values["token"]), str(values["alive"])
    except (ValueError, TypeError, KeyError):
        raise StoreError(f"What is stored under {record!r} is no lease.") from None
