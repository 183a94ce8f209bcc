"""The protocol of all stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from .errors import Unsupported


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing.

    Attributes:
        keys: in the order of their code points.
        cursor: what asks for the next page; None after the last one. What it holds is up to the store.
    """

    keys: Sequence[str]
    cursor: str | None


class Store(ABC):
    """Bytes by text keys, with expiry: the least that memory, SQLite, Redis and Workers KV have in common.

    Keys have 1 to 512 bytes in UTF-8. Values are `bytes`, up to a bound of the store. An entry whose time is over is
    seen by nobody, whether or not the store has removed it yet. Every write replaces the time to live as well.

    A store is opened and closed by `async with store:`, which may be done again inside; the outermost opens and closes
    it, in one task, as with a task group. Many tasks may use it at a time.

    Attributes:
        atomic: `compare_and_set` works. A store without it serves values whose last writer may win.
    """

    atomic: bool = True
    _openings: int = 0

    async def open(self) -> None:
        """Connect, unless the store is open already.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        if not self._openings:
            await self._open()
        self._openings += 1

    async def close(self) -> None:
        """Let go of files and connections, once it was closed as often as it was opened. What is stored stays."""
        self._openings = max(0, self._openings - 1)
        if not self._openings:
            await self._close()

    async def _open(self) -> None:  # noqa: B027  # nothing to do for some stores
        """Connect; for stores that have something to connect to."""

    async def _close(self) -> None:  # noqa: B027  # nothing to do for some stores
        """Let go of everything, if anything is open."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @abstractmethod
    async def get(self, key: str) -> bytes | None:
        """The value of a key; None if there is none or its time is over.

        Raises:
            InvalidKey: the key is out of bounds. So do all other methods.
            StoreUnavailable: the store cannot be reached. So do all other methods.
        """

    @abstractmethod
    async def has(self, key: str) -> bool:
        """Whether a key has a value."""

    @abstractmethod
    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """Set the value of a key, whatever it was.

        Args:
            key: the key.
            value: its value from now on.
            ttl: seconds after which the entry is over; None: never.

        Raises:
            ValueTooLarge: the value is out of bounds.
            InvalidTTL: the time is out of bounds.
            StoreFull: the store takes no more keys.
        """

    @abstractmethod
    async def delete(self, key: str) -> bool:
        """Remove a key.

        Returns:
            Whether there was a value.
        """

    @abstractmethod
    async def touch(self, key: str, ttl: float | None) -> bool:
        """Give a key a new time to live and leave its value alone.

        Args:
            key: the key.
            ttl: seconds from now; None: for ever.

        Returns:
            Whether there was a value. One whose time is over is not brought back.

        Raises:
            InvalidTTL: the time is out of bounds.
        """

    @abstractmethod
    async def list_page(self, prefix: str = "", cursor: str | None = None) -> Page:
        """Some of the keys that begin with a prefix, in the order of their code points.

        Args:
            prefix: matched letter by letter; no character in it means anything but itself.
            cursor: of the page before; None for the first page.

        Returns:
            Keys, possibly none although more pages follow.
        """

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        """All keys that begin with a prefix, in the order of their code points, page by page.

        A key that is there all the time is listed exactly once; one that comes or goes meanwhile may be.

        Args:
            prefix: matched letter by letter; no character in it means anything but itself.
        """
        return _Listing(self, prefix)

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl: float | None = None
    ) -> bool:
        """Set a key if its value is the expected one, in one indivisible step.

        Args:
            key: the key.
            expected: the value that it must have; None: it must have none.
            value: its value from now on; None: it is removed.
            ttl: seconds after which the entry is over; None: never.

        Returns:
            Whether the value was the expected one.

        Raises:
            ValueTooLarge: the value is out of bounds.
            InvalidTTL: the time is out of bounds.
            StoreFull: the store takes no more keys.
            Unsupported: the store is not `atomic`.
        """
        raise Unsupported(f"{type(self).__name__} cannot compare and set. Use a store that is `atomic`.")


class _Listing(AsyncIterator[str]):
    """All pages of a listing, one in memory at a time. No generator, so that it may be left half-way with no trace."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._page = Page((), "")
        self._next = 0
        self._begun = False

    async def __anext__(self) -> str:
        while self._next >= len(self._page.keys):
            if self._page.cursor is None:
                raise StopAsyncIteration
            self._page = await self._store.list_page(self._prefix, self._page.cursor if self._begun else None)
            self._next, self._begun = 0, True
        self._next += 1
        return self._page.keys[self._next - 1]
