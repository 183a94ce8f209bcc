"""A store in a file, by SQLite."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from .errors import StoreClosed, StoreUnavailable
from .limits import MAX_VALUE_BYTES, checked_ttl, checked_value, key_bytes, prefix_bytes
from .store import Page, Store

if TYPE_CHECKING:
    # Not imported with the module: some hosts of Python have no sqlite3.
    from sqlite3 import Connection

P = ParamSpec("P")
T = TypeVar("T")

_PAGE = 1000
# After so many writes, so many entries at most are removed whose time is over.
_WRITES_PER_SWEEP, _SWEEP = 64, 256

_SCHEMA = """
CREATE TABLE IF NOT EXISTS microkit_kv (key BLOB PRIMARY KEY, value BLOB NOT NULL, expires REAL);
CREATE INDEX IF NOT EXISTS microkit_kv_expires ON microkit_kv (expires) WHERE expires IS NOT NULL;
"""
# Asked for once per statement, after it has got the lock: waiting for that must not bring back what ended meanwhile.
_NOW = "(SELECT microkit_now())"
_ALIVE = f"(expires IS NULL OR expires > {_NOW})"
_PUT = f"""
INSERT INTO microkit_kv (key, value, expires) VALUES (?, ?, {_NOW} + ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires
"""  # noqa: S608  # of constants, as all below
_GET = f"SELECT value FROM microkit_kv WHERE key = ? AND {_ALIVE}"  # noqa: S608
_HAS = f"SELECT 1 FROM microkit_kv WHERE key = ? AND {_ALIVE}"  # noqa: S608
_DELETE = f"DELETE FROM microkit_kv WHERE key = ? AND {_ALIVE}"  # noqa: S608
_TOUCH = f"UPDATE microkit_kv SET expires = {_NOW} + ? WHERE key = ? AND {_ALIVE}"  # noqa: S608
_LIST = f"""
SELECT key FROM microkit_kv WHERE key >= ? AND key > ? AND key < ? AND {_ALIVE} ORDER BY key LIMIT {_PAGE}
"""  # noqa: S608
# An entry whose time is over is as good as none.
_PUT_IF_NONE = f"{_PUT} WHERE microkit_kv.expires <= {_NOW}"
_PUT_IF_EQUAL = f"""
UPDATE microkit_kv SET value = ?, expires = {_NOW} + ? WHERE key = ? AND value = ? AND {_ALIVE}
"""  # noqa: S608
_DELETE_IF_EQUAL = f"DELETE FROM microkit_kv WHERE key = ? AND value = ? AND {_ALIVE}"  # noqa: S608
_DELETE_OVER = f"""
DELETE FROM microkit_kv WHERE rowid IN (SELECT rowid FROM microkit_kv WHERE expires <= {_NOW} LIMIT {_SWEEP})
"""  # noqa: S608


class SQLiteStore(Store):
    """Entries in a file that several processes of one machine may have open at a time.

    Each write is one transaction of one statement, in a worker thread of the store's own. A call that is cancelled
    while it runs is finished first, so no transaction stays open. What was written outlives the process however it
    ends; a loss of power may take the last moments (`synchronous=NORMAL` in WAL mode), never more.

    Times are those of the machine's clock: setting it forward ends entries early, setting it back prolongs them.

    Args:
        path: the file; made with permissions for its owner only if it is not there. Not on a network drive.
        max_value: bytes that a value may have.
        timeout: seconds to wait for other processes that write.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_value: int = MAX_VALUE_BYTES,
        timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if str(path) == ":memory:":
            raise ValueError("A SQLiteStore is a file. Use a MemoryStore for what need not outlive the process.")
        self._path = Path(path)
        self._max_value = max_value
        self._timeout = timeout
        self._clock = clock
        self._connection: Connection | None = None
        self._limiter: anyio.CapacityLimiter | None = None
        self._lock = threading.Lock()
        self._writes = 0

    async def _open(self) -> None:
        if self._limiter is not None:
            raise StoreClosed(f"The store {self._path} is being opened by another task.")
        self._limiter = anyio.CapacityLimiter(1)
        try:
            self._connection = await anyio.to_thread.run_sync(self._connect, limiter=self._limiter)
        except BaseException:
            self._limiter = None
            raise

    async def _close(self) -> None:
        if self._limiter is None:
            return
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._disconnect, limiter=self._limiter)
        self._limiter = None

    async def get(self, key: str) -> bytes | None:
        rows = await self._run(self._read, _GET, key_bytes(key))
        return rows[0][0] if rows else None

    async def has(self, key: str) -> bool:
        return bool(await self._run(self._read, _HAS, key_bytes(key)))

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        row = key_bytes(key), checked_value(value, self._max_value), checked_ttl(ttl)
        await self._run(self._write, _PUT, *row)

    async def delete(self, key: str) -> bool:
        return await self._run(self._write, _DELETE, key_bytes(key))

    async def touch(self, key: str, ttl: float | None) -> bool:
        return await self._run(self._write, _TOUCH, checked_ttl(ttl), key_bytes(key))

    async def list_page(self, prefix: str = "", cursor: str | None = None) -> Page:
        first = prefix_bytes(prefix)
        after = b"" if cursor is None else cursor.encode()
        # No byte of UTF-8 is 255, so this lies behind every key with the prefix. BLOBs are compared byte by byte, which
        # is the order of code points.
        rows = await self._run(self._read, _LIST, first, after, first + b"\xff")
        keys = [row[0].decode() for row in rows]
        return Page(keys, keys[-1] if len(keys) == _PAGE else None)

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl: float | None = None
    ) -> bool:
        name = key_bytes(key)
        checked_ttl(ttl)
        if value is not None:
            checked_value(value, self._max_value)
        if expected is None:
            if value is None:
                return not await self._run(self._read, _HAS, name)
            return await self._run(self._write, _PUT_IF_NONE, name, value, ttl)
        if value is None:
            return await self._run(self._write, _DELETE_IF_EQUAL, name, expected)
        return await self._run(self._write, _PUT_IF_EQUAL, value, ttl, name, expected)

    async def _run(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in a worker thread, one call at a time: the connection is that of all of them."""
        import sqlite3

        limiter = self._limiter
        if limiter is None:
            raise StoreClosed(f"The store {self._path} is not open: enter it with `async with`.")

        def call() -> T:
            # The limiter keeps calls apart, but for one whose task asyncio itself has cancelled: its thread goes on.
            with self._lock:
                if self._connection is None:
                    raise StoreClosed(f"The store {self._path} was closed.")
                return work(self._connection, *args, **kwargs)

        try:
            # Not abandoned when cancelled: the thread would go on with a connection that the next call uses.
            return await anyio.to_thread.run_sync(call, limiter=limiter)
        except sqlite3.Error as exc:
            raise StoreUnavailable(f"The store {self._path} failed: {exc}") from exc

    # -- in the worker thread ------------------------------------------------------------------------------------------

    def _connect(self) -> Connection:
        import sqlite3

        deadline = time.monotonic() + self._timeout
        try:
            # SQLite gives its other files the permissions of this one.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            while True:
                connection = sqlite3.connect(
                    self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
                )
                try:
                    connection.create_function("microkit_now", 0, self._clock)
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("PRAGMA synchronous = NORMAL")
                    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
                    return connection
                except sqlite3.Error as exc:
                    connection.close()
                    # The change to WAL fails at once, whatever the timeout, while another process is at it.
                    if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                        raise
                time.sleep(0.01)
        except (OSError, sqlite3.Error) as exc:
            raise StoreUnavailable(f"The store {self._path} cannot be opened: {exc}") from exc

    def _disconnect(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _read(self, connection: Connection, sql: str, *arguments: object) -> list[tuple[bytes]]:
        return connection.execute(sql, arguments).fetchall()

    def _write(self, connection: Connection, sql: str, *arguments: object) -> bool:
        changed = connection.execute(sql, arguments).rowcount > 0
        self._writes += 1
        if self._writes % _WRITES_PER_SWEEP == 0:
            connection.execute(_DELETE_OVER)
        return changed
