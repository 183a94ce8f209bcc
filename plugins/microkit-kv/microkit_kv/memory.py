"""A store in the memory of one process."""

from __future__ import annotations

import heapq
import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable

from .errors import StoreFull
from .limits import MAX_VALUE_BYTES, checked_ttl, checked_value, key_bytes, prefix_bytes
from .store import Page, Store

_PAGE = 1000
# Entries that one write removes at most of those whose time is over.
_SWEEP = 16


class MemoryStore(Store):
    """Entries of this process; gone when it ends, and unknown to other processes.

    Args:
        max_entries: how many it takes. More are refused: dropping one in silence would break a promise to its writer.
        max_value: bytes that a value may have.
        clock: seconds; only differences count.
    """

    def __init__(
        self,
        *,
        max_entries: int = 100_000,
        max_value: int = MAX_VALUE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max = max_entries
        self._max_value = max_value
        self._clock = clock
        self._entries: dict[str, tuple[bytes, float]] = {}
        self._order: list[str] = []
        # Moments at which something ends; those of entries that were replaced meanwhile are stale.
        self._ends: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: str) -> bytes | None:
        key_bytes(key)
        return self._value(key)

    async def has(self, key: str) -> bool:
        key_bytes(key)
        return self._value(key) is not None

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        key_bytes(key)
        self._set(key, checked_value(value, self._max_value), checked_ttl(ttl))

    async def delete(self, key: str) -> bool:
        key_bytes(key)
        found = self._value(key) is not None
        self._remove(key)
        return found

    async def touch(self, key: str, ttl: float | None) -> bool:
        key_bytes(key)
        checked_ttl(ttl)
        value = self._value(key)
        if value is not None:
            self._set(key, value, ttl)
        return value is not None

    async def list_page(self, prefix: str = "", cursor: str | None = None) -> Page:
        prefix_bytes(prefix)
        now, keys = self._clock(), list[str]()
        start = bisect_left(self._order, prefix) if cursor is None else bisect_right(self._order, cursor)
        looked_at = self._order[start : start + _PAGE]
        for key in looked_at:
            if not key.startswith(prefix):
                return Page(keys, None)
            if self._entries[key][1] > now:
                keys.append(key)
        return Page(keys, looked_at[-1] if len(looked_at) == _PAGE else None)

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl: float | None = None
    ) -> bool:
        key_bytes(key)
        checked_ttl(ttl)
        if value is not None:
            checked_value(value, self._max_value)
        if self._value(key) != expected:
            return False
        if value is None:
            self._remove(key)
        else:
            self._set(key, value, ttl)
        return True

    def _value(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        return entry[0] if entry is not None and entry[1] > self._clock() else None

    def _set(self, key: str, value: bytes, ttl: float | None) -> None:
        now = self._clock()
        self._sweep(now, _SWEEP)
        if key not in self._entries:
            if len(self._entries) >= self._max:
                self._sweep(now, len(self._ends))
            if len(self._entries) >= self._max:
                raise StoreFull(f"The store holds {self._max} entries, and takes no more (max_entries).")
            self._order.insert(bisect_left(self._order, key), key)
        end = math.inf if ttl is None else now + ttl
        self._entries[key] = value, end
        if ttl is not None:
            heapq.heappush(self._ends, (end, key))
            if len(self._ends) > 2 * len(self._entries) + _SWEEP:  # an entry that is written again leaves a stale one
                self._ends = [(each, key) for key, (_, each) in self._entries.items() if each < math.inf]
                heapq.heapify(self._ends)

    def _remove(self, key: str) -> None:
        if self._entries.pop(key, None) is not None:
            del self._order[bisect_left(self._order, key)]

    def _sweep(self, now: float, count: int) -> None:
        while count and self._ends and self._ends[0][0] <= now:
            end, key = heapq.heappop(self._ends)
            if self._entries.get(key, (b"", 0.0))[1] == end:
                self._remove(key)
            count -= 1
