"""Where handled messages are remembered."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Protocol

import anyio.to_thread


class SeenStore(Protocol):
    """What `Idempotent` needs: bytes by text keys, with expiry and an indivisible comparison.

    This is a part of the `Store` of microkit-kv, whose stores can be handed over as they are, if they are `atomic` and
    open: on Redis all machines share them. `SqliteSeenStore` is for what no other store can do: to remember a message
    in the very transaction of its effect.
    """

    async def get(self, key: str) -> bytes | None:
        """The value of a key; None if there is none or its time is over."""
        ...

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """Set the value of a key for `ttl` seconds, whatever it was; None: for ever."""
        ...

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl: float | None = None
    ) -> bool:
        """Set or remove (None) a key if its value is the expected one (None: it has none); whether it was."""
        ...


class MemorySeenStore:
    """Seen messages in this process, forgotten when it ends."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()

    async def get(self, key: str) -> bytes | None:
        """See `SeenStore`."""
        with self._lock:
            return self._get(key)

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """See `SeenStore`."""
        with self._lock:
            self._entries[key] = value, _until(ttl)

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl: float | None = None
    ) -> bool:
        """See `SeenStore`."""
        with self._lock:
            now = time.time()
            for old in [each for each, (_, until) in self._entries.items() if until <= now]:
                del self._entries[old]
            if self._get(key) != expected:
                return False
            self._entries.pop(key, None)
            if value is not None:
                self._entries[key] = value, _until(ttl)
            return True

    def _get(self, key: str) -> bytes | None:
        value, until = self._entries.get(key, (None, 0.0))
        return value if until > time.time() else None


class SqliteSeenStore:
    """Seen messages in an SQLite database, which processes may share: best the one of the effects, see `done`.

    Args:
        path: of the database.
        table: name of the table; made at first use.
    """

    def __init__(self, path: str | Path, table: str = "microkit_seen") -> None:
        if not table.isidentifier():
            raise ValueError(f"{table!r} is no name of a table")
        self._path = str(path)
        self._table = table

    def done(self, key: str, ttl: float, connection: sqlite3.Connection) -> bool:
        """Remember a message in the transaction of its effect, so that both are committed or neither.

        Args:
            key: `seen_key(message)`.
            ttl: seconds.
            connection: to the same database, with the transaction.

        Returns:
            Whether it was new. If not, it has had its effect: leave the transaction without one.
        """
        self._create(connection)
        if self._get(connection, key) == b"done":
            return False
        self._write(connection, key, b"done", ttl)
        return True

    async def get(self, key: str) -> bytes | None:
        """See `SeenStore`."""

        def work() -> bytes | None:
            with closing(self._connect()) as connection:
                return self._get(connection, key)

        return await anyio.to_thread.run_sync(work)

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """See `SeenStore`."""

        def work() -> None:
            with closing(self._connect()) as connection, connection:
                self._write(connection, key, value, ttl)

        await anyio.to_thread.run_sync(work)

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl: float | None = None
    ) -> bool:
        """See `SeenStore`."""

        def work() -> bool:
            with closing(self._connect()) as connection:
                connection.execute("BEGIN IMMEDIATE")
                with connection:
                    connection.execute(f"DELETE FROM {self._table} WHERE until <= ?", (time.time(),))  # noqa: S608
                    if self._get(connection, key) != expected:
                        return False
                    if value is None:
                        connection.execute(f"DELETE FROM {self._table} WHERE key = ?", (key,))  # noqa: S608
                    else:
                        self._write(connection, key, value, ttl)
                    return True

        return await anyio.to_thread.run_sync(work)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=10.0)
        self._create(connection)
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (key TEXT PRIMARY KEY, value BLOB NOT NULL, until REAL NOT NULL)"
        )

    def _get(self, connection: sqlite3.Connection, key: str) -> bytes | None:
        row = connection.execute(
            f"SELECT value FROM {self._table} WHERE key = ? AND until > ?",  # noqa: S608
            (key, time.time()),
        ).fetchone()
        return row[0] if row else None

    def _write(self, connection: sqlite3.Connection, key: str, value: bytes, ttl: float | None) -> None:
        connection.execute(
            f"REPLACE INTO {self._table} (key, value, until) VALUES (?, ?, ?)",  # noqa: S608
            (key, value, _until(ttl)),
        )


def _until(ttl: float | None) -> float:
    return math.inf if ttl is None else time.time() + ttl
