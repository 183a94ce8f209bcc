"""The record of one schedule in a store: every change is one compare-and-set."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from microkit_kv import Lease, Store

from .record import Record


class Ledger:
    """What all processes of a cluster read and write of one schedule.

    Args:
        store: the store that they share.
        namespace: the application.
        name: the schedule.
        trigger: its text; another expression under the same name begins anew.
        ttl: seconds of the lease.
        holder: this process, for people.
    """

    def __init__(self, store: Store, namespace: str, name: str, trigger: str, ttl: float, holder: str) -> None:
        self._store = store
        self._lease = f"cron:{namespace}:{name}"
        self._key = f"{self._lease}:{sha256(trigger.encode()).hexdigest()[:16]}"
        self._ttl = ttl
        self._holder = holder

    async def begin(self, since: float) -> tuple[Record, bool]:
        """The record, and whether there was none.

        Args:
            since: when the schedule began, if there was none; in seconds since the epoch.
        """
        while True:
            data = await self._store.get(self._key)
            if data is not None:
                return Record.parse(data), False
            record = Record((since,))
            if await self._store.compare_and_set(self._key, None, record.dump()):
                return record, True

    async def read(self) -> Record:
        """The record; an empty one if there is none."""
        data = await self._store.get(self._key)
        return Record(()) if data is None else Record.parse(data)

    async def change(self, change: Callable[[Record], Record | None]) -> tuple[Record, bool]:
        """Change the record; `change` is called again if another process was faster.

        Args:
            change: the old record to the new one, or None to leave it.

        Returns:
            The record, and whether this changed it.
        """
        while True:
            data = await self._store.get(self._key)
            before = Record(()) if data is None else Record.parse(data)
            after = change(before)
            if after is None or after == before:
                return before, False
            if await self._store.compare_and_set(self._key, data, after.dump()):
                return after, True

    async def acquire(self) -> Lease | None:
        """The lease of the schedule, which whoever runs a firing holds; None if another has it."""
        return await Lease.acquire(self._store, self._lease, self._ttl, self._holder)
