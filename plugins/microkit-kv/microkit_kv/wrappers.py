"""Stores that stand before another store. Opening and closing one opens and closes the other."""

from __future__ import annotations

from .limits import checked_ttl
from .store import Page, Store


class _Wrapper(Store):
    """What is the same for all wrappers.

    Args:
        store: the store that keeps the entries.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.atomic = store.atomic

    async def _open(self) -> None:
        await self._store.open()

    async def _close(self) -> None:
        await self._store.close()

    async def get(self, key: str) -> bytes | None:
        return await self._store.get(key)

    async def has(self, key: str) -> bool:
        return await self._store.has(key)

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        await self._store.put(key, value, ttl=ttl)

    async def delete(self, key: str) -> bool:
        return await self._store.delete(key)

    async def touch(self, key: str, ttl: float | None) -> bool:
        return await self._store.touch(key, ttl)

    async def list_page(self, prefix: str = "", cursor: str | None = None) -> Page:
        return await self._store.list_page(prefix, cursor)

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl: float | None = None
    ) -> bool:
        return await self._store.compare_and_set(key, expected, value, ttl=ttl)


class PrefixStore(_Wrapper):
    """The entries of a store whose keys begin with a prefix, under what follows it.

    Args:
        store: the store that keeps the entries.
        prefix: what its keys begin with. One prefix should not be the beginning of another: end it with `:` or `/`.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        super().__init__(store)
        self._prefix = prefix

    async def get(self, key: str) -> bytes | None:
        return await self._store.get(self._full(key))

    async def has(self, key: str) -> bool:
        return await self._store.has(self._full(key))

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        await self._store.put(self._full(key), value, ttl=ttl)

    async def delete(self, key: str) -> bool:
        return await self._store.delete(self._full(key))

    async def touch(self, key: str, ttl: float | None) -> bool:
        return await self._store.touch(self._full(key), ttl)

    async def list_page(self, prefix: str = "", cursor: str | None = None) -> Page:
        page = await self._store.list_page(self._prefix + prefix, cursor)
        size = len(self._prefix)
        # The prefix alone may be a key of the store; no key of this one is empty.
        return Page([key[size:] for key in page.keys if len(key) > size], page.cursor)

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl: float | None = None
    ) -> bool:
        return await self._store.compare_and_set(self._full(key), expected, value, ttl=ttl)

    def _full(self, key: str) -> str:
        return self._prefix + key if key else ""  # an empty key stays one, and is refused


class ExpiringStore(_Wrapper):
    """A store whose entries have a time to live also where the writer gives none.

    Args:
        store: the store that keeps the entries.
        ttl: seconds that an entry lives unless the writer says otherwise.

    Raises:
        InvalidTTL: the time is out of bounds.
    """

    def __init__(self, store: Store, ttl: float) -> None:
        super().__init__(store)
        self._ttl = checked_ttl(ttl)

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        await self._store.put(key, value, ttl=self._ttl if ttl is None else ttl)

    async def touch(self, key: str, ttl: float | None = None) -> bool:
        return await self._store.touch(key, self._ttl if ttl is None else ttl)

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl: float | None = None
    ) -> bool:
        return await self._store.compare_and_set(key, expected, value, ttl=self._ttl if ttl is None else ttl)
