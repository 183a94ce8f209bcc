"""JSON values in a store."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import anyio

from .errors import Conflict, StoreError
from .store import Store

_ATTEMPTS = 100
# Seconds that a writer steps back at most after its first lost race; it grows with each further one.
_PAUSE, _LONGEST_PAUSE = 0.001, 0.1


class JSONStore:
    """Values of JSON (None, booleans, numbers, text, lists, dicts with text as keys) by text keys.

    What `put` was given `get` gives back, equal, integers of any size included. Opening and closing it opens and
    closes the store.

    Args:
        store: the store that keeps the entries.
        last_write_wins: let `update` and `merge` read and write in two steps where the store is not atomic. Of two at
            a time one is lost then.
    """

    def __init__(self, store: Store, *, last_write_wins: bool = False) -> None:
        self._store = store
        self._two_steps = last_write_wins and not store.atomic

    async def __aenter__(self) -> Self:
        await self._store.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._store.close()

    async def get(self, key: str) -> Any:
        """The value of a key; None if there is none (`has` tells it from a stored None).

        Raises:
            StoreError: what is stored is no JSON.
        """
        return _load(key, await self._store.get(key))

    async def has(self, key: str) -> bool:
        """Whether a key has a value."""
        return await self._store.has(key)

    async def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Set the value of a key, whatever it was.

        Args:
            key: the key.
            value: a value of JSON.
            ttl: seconds after which the entry is over; None: never.

        Raises:
            TypeError: the value is none of JSON's.
            ValueError: it holds NaN, infinity, itself or a lone surrogate.
        """
        await self._store.put(key, _dump(value), ttl=ttl)

    async def delete(self, key: str) -> bool:
        """Remove a key. Returns whether there was a value."""
        return await self._store.delete(key)

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        """All keys that begin with a prefix, in the order of their code points."""
        return self._store.list(prefix)

    async def update(self, key: str, change: Callable[[Any], Any], *, ttl: float | None = None) -> Any:
        """Change a value so that no change of another is lost.

        Args:
            key: the key.
            change: gets the value, None if there is none, and returns the new one. It is called again with what
                another wrote if that came in between, so it should do nothing else.
            ttl: seconds after which the entry is over; None: never.

        Returns:
            The new value.

        Raises:
            Conflict: others changed the entry a hundred times in between.
            Unsupported: the store is not atomic.
        """
        for attempt in range(_ATTEMPTS):
            before = await self._store.get(key)
            value = change(_load(key, before))
            after = _dump(value)
            if self._two_steps:
                await self._store.put(key, after, ttl=ttl)
                return value
            if await self._store.compare_and_set(key, before, after, ttl=ttl):
                return value
            pause = min(_PAUSE * (attempt + 1), _LONGEST_PAUSE)
            await anyio.sleep(random.random() * pause)  # noqa: S311  # spreads writers, no secret
        raise Conflict(f"The entry {key!r} was changed by others {_ATTEMPTS} times in between.")

    async def merge(self, key: str, values: Mapping[str, Any], *, ttl: float | None = None) -> dict[str, Any]:
        """Set some members of an object, so that no change of another is lost. The others stay as they are.

        Args:
            key: the key. Without a value it begins as an empty object.
            values: the members.
            ttl: seconds after which the entry is over; None: never.

        Returns:
            The whole object.

        Raises:
            TypeError: the value is no object.
            Conflict: others changed the entry a hundred times in between.
            Unsupported: the store is not atomic.
        """

        def merged(value: Any) -> dict[str, Any]:
            if value is not None and not isinstance(value, dict):
                raise TypeError(f"The entry {key!r} is no object, so nothing can be merged into it.")
            return {**(value or {}), **values}

        return await self.update(key, merged, ttl=ttl)


def _dump(value: Any) -> bytes:
    # The kernel's encoder turns NaN into null, and its decoder great integers into floats; here nothing may change.
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except RecursionError:
        raise ValueError("The value is nested too deeply.") from None


def _load(key: str, data: bytes | None) -> Any:
    try:
        return None if data is None else json.loads(data)
    except (ValueError, RecursionError):
        raise StoreError(f"What is stored under {key!r} is no JSON.") from None
