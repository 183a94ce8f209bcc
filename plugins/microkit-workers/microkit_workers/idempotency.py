"""Handling each message once: a memory of the messages that were handled, for brokers that deliver some twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio.to_thread

from microkit import CallNext, Message, PublicError, Reply, StatusCode

Claim = Literal["new", "busy", "done"]


class SeenStore(Protocol):
    """Remembers messages. Methods may block; they are called in threads."""

    def claim(self, key: str, lease: float) -> Claim:
        """Begin to handle a message, unless it is done or somebody else has begun.

        Args:
            lease: seconds after which a claim counts for nothing, because its process is gone.
        """
        ...

    def done(self, key: str, ttl: float) -> None:
        """The message was handled; remember that for `ttl` seconds."""
        ...

    def release(self, key: str) -> None:
        """The message was not handled."""
        ...


class MemorySeenStore:
    """Seen messages in this process, forgotten when it ends."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[bool, float]] = {}
        self._lock = threading.Lock()

    def claim(self, key: str, lease: float) -> Claim:
        """See `SeenStore`."""
        now = time.time()
        with self._lock:
            for old in [each for each, (_, until) in self._entries.items() if until <= now]:
                del self._entries[old]
            if key in self._entries:
                return "done" if self._entries[key][0] else "busy"
            self._entries[key] = False, now + lease
            return "new"

    def done(self, key: str, ttl: float) -> None:
        """See `SeenStore`."""
        with self._lock:
            self._entries[key] = True, time.time() + ttl

    def release(self, key: str) -> None:
        """See `SeenStore`."""
        with self._lock:
            self._entries.pop(key, None)


class SqliteSeenStore:
    """Seen messages in an SQLite database, which processes may share.

    Args:
        path: of the database.
        table: name of the table; made at first use.
    """

    def __init__(self, path: str | Path, table: str = "microkit_seen") -> None:
        if not table.isidentifier():
            raise ValueError(f"{table!r} is no name of a table")
        self._path = str(path)
        self._table = table

    def claim(self, key: str, lease: float) -> Claim:
        """See `SeenStore`."""
        now = time.time()
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                connection.execute(f"DELETE FROM {self._table} WHERE until <= ?", (now,))  # noqa: S608
                row = connection.execute(f"SELECT done FROM {self._table} WHERE key = ?", (key,)).fetchone()  # noqa: S608
                if row is not None:
                    return "done" if row[0] else "busy"
                self._write(connection, key, False, now + lease)
                return "new"

    def done(self, key: str, ttl: float, connection: sqlite3.Connection | None = None) -> None:
        """See `SeenStore`.

        Args:
            connection: with the transaction in which the message is handled, so that both are committed or neither.
        """
        if connection is not None:
            self._create(connection)
            self._write(connection, key, True, time.time() + ttl)
            return
        with closing(self._connect()) as own, own:
            self._write(own, key, True, time.time() + ttl)

    def release(self, key: str) -> None:
        """See `SeenStore`."""
        with closing(self._connect()) as connection, connection:
            connection.execute(f"DELETE FROM {self._table} WHERE key = ? AND NOT done", (key,))  # noqa: S608

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=10.0)
        self._create(connection)
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} "
            "(key TEXT PRIMARY KEY, done INTEGER NOT NULL, until REAL NOT NULL)"
        )

    def _write(self, connection: sqlite3.Connection, key: str, done: bool, until: float) -> None:
        connection.execute(f"REPLACE INTO {self._table} (key, done, until) VALUES (?, ?, ?)", (key, done, until))  # noqa: S608


class Idempotent:
    """Middleware: a message that was handled is acked without its handler. Add it to a context or an application:
    `context.add_middleware(Idempotent(SqliteSeenStore("seen.db")), kinds=Kind.MESSAGE)`.

    Messages are told apart by id and queue; those without an id, and batches, are handled each time. A crash after the
    handler's own commit and before this store's repeats the message; call `done` in the handler's transaction where
    that matters.

    Args:
        store: remembers them.
        ttl: seconds; longer than a message may be on its way.
        lease: seconds after which the claim of a process that is gone ends; longer than any handler runs.
    """

    def __init__(self, store: SeenStore, ttl: float = 86_400.0, lease: float = 3600.0) -> None:
        self._store = store
        self._ttl = ttl
        self._lease = lease

    async def __call__(self, message: Message, call_next: CallNext) -> Reply:
        key = seen_key(message) if isinstance(message, Message) else None  # a batch is none
        if key is None:
            return await call_next(message)
        claim = await anyio.to_thread.run_sync(self._store.claim, key, self._lease)
        if claim == "done":
            return Reply()
        if claim == "busy":
            raise PublicError("The same message is being handled right now.", status=StatusCode.UNAVAILABLE)
        try:
            reply = await call_next(message)
        except BaseException:
            await self._end(self._store.release, key)
            raise
        decided: Any = message.settlement.decision if message.settlement is not None else None
        if reply.ok and (decided is None or decided.verdict.value == "ack"):
            await self._end(self._store.done, key, self._ttl)
        else:
            await self._end(self._store.release, key)
        return reply

    @staticmethod
    async def _end(func: Any, *args: Any) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(func, *args)


def seen_key(message: Message) -> str | None:
    """What a message is remembered by; None for one without an id."""
    return f"{message.queue or message.address} {message.message_id}" if message.message_id else None
