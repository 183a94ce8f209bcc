"""Sessions in a store."""

from __future__ import annotations

from hashlib import sha256
from types import TracebackType
from typing import Any, Self

from microkit import SessionBackend

from .json_store import JSONStore
from .store import Store
from .wrappers import PrefixStore


class StoreSessions(SessionBackend):
    """Sessions in a store, as `App(session_backend=StoreSessions(store))`.

    The ids are hashed (SHA-256): whoever reads the store can use none of its sessions, and an id of any length fits.

    Args:
        store: where they are kept, under the prefix `session:`.
        owned: the application opens and closes the store with itself; otherwise whoever made it does.
    """

    def __init__(self, store: Store, *, owned: bool = False) -> None:
        self.owned = owned
        self._values = JSONStore(PrefixStore(store, "session:"))

    async def __aenter__(self) -> Self:
        await self._values.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._values.__aexit__(exc_type, exc, traceback)

    async def load(self, session_id: str) -> dict[str, Any]:
        return await self._values.get(_key(session_id)) or {}

    async def save(self, session_id: str, data: dict[str, Any], timeout: int) -> None:
        if data:
            await self._values.put(_key(session_id), data, ttl=timeout)
        else:
            await self._values.delete(_key(session_id))


def _key(session_id: str) -> str:
    return sha256(session_id.encode(errors="surrogatepass")).hexdigest()
