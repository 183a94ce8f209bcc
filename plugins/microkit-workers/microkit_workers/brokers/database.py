"""The file of `sqlite://`: opening it, its tables, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import time

from microkit.errors import PublicError, StartupError, StatusCode

from .options import SqliteOptions

_APPLICATION = 0x6D6B6271  # "mkbq"; tells a file of ours from a database of something else
_VERSION = 1

_SCHEMA = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, so an answer of a lost session hits nothing
    alive_until REAL NOT NULL
);
CREATE TABLE queues (
    name TEXT PRIMARY KEY,
    single_active INTEGER NOT NULL,
    owner INTEGER NOT NULL,                -- session of an exclusive queue, else 0
    active_session INTEGER NOT NULL DEFAULT 0,
    active_consumer INTEGER NOT NULL DEFAULT 0,
    length INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE bindings (
    source TEXT NOT NULL, event TEXT NOT NULL, queue TEXT NOT NULL, PRIMARY KEY (source, event, queue)
) WITHOUT ROWID;
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    due REAL NOT NULL,                     -- when it may be delivered, and with that its position
    holder INTEGER NOT NULL DEFAULT 0,     -- session that it was delivered to, or 0
    returns INTEGER NOT NULL DEFAULT 0,
    expires REAL,
    source TEXT NOT NULL, event TEXT NOT NULL, message_id TEXT NOT NULL, content_type TEXT NOT NULL,
    correlation_id TEXT NOT NULL, reply_to TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX messages_waiting ON messages (queue, holder, due);
CREATE INDEX messages_held ON messages (holder) WHERE holder <> 0;
CREATE INDEX messages_expiring ON messages (expires) WHERE expires IS NOT NULL;
CREATE TRIGGER messages_left AFTER DELETE ON messages
    BEGIN UPDATE queues SET length = length - 1 WHERE name = OLD.queue; END;
CREATE TABLE dead (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL, died_at REAL NOT NULL,
    source TEXT NOT NULL, event TEXT NOT NULL, message_id TEXT NOT NULL, content_type TEXT NOT NULL,
    correlation_id TEXT NOT NULL, reply_to TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX dead_of_queue ON dead (queue);
"""

_CODES = {
    sqlite3.SQLITE_FULL: "the disk (or the permitted size) is full",
    sqlite3.SQLITE_BUSY: "another process keeps it locked",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database",
    sqlite3.SQLITE_READONLY: "the file or its folder is not writable",
    sqlite3.SQLITE_PERM: "the file or its folder is not writable",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; its folder has to exist and to be writable",
    sqlite3.SQLITE_IOERR: "the system reports an input/output error (a full or failing disk)",
}


def reason_of(exc: BaseException) -> str:
    """What an error of SQLite means, without a path."""
    code = getattr(exc, "sqlite_errorcode", None)
    return _CODES.get((code or 0) & 0xFF, f"SQLite reports {type(exc).__name__}")


def is_locked(exc: BaseException) -> bool:
    """Whether another connection kept the file, so that nothing that was to be written is to blame."""
    return (getattr(exc, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def unavailable(exc: BaseException) -> PublicError:
    """The public error for an error of SQLite: it may reach callers, so it names no file."""
    error = PublicError(f"The message broker cannot work: {reason_of(exc)}.", status=StatusCode.UNAVAILABLE)
    error.__cause__ = exc
    return error


_FINAL = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
)


def cannot_use(path: str, exc: BaseException) -> StartupError:
    """The error of a start for an error of SQLite."""
    error = StartupError(
        f"The message broker cannot use {os.path.abspath(path)}: {reason_of(exc)}. Correct the path in its URL "
        f"(sqlite:///relative/path or sqlite:////absolute/path), or mend the file.",
        final=(getattr(exc, "sqlite_errorcode", 0) & 0xFF) in _FINAL,
    )
    error.__cause__ = exc
    return error


def open_database(path: str, options: SqliteOptions) -> sqlite3.Connection:
    """Open the file for the calling thread, and make its tables if they are missing.

    Raises:
        StartupError: it cannot be used; the message says why and what to do.
    """
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=options.busy_timeout, isolation_level=None)
        _use_wal(connection, options)
        connection.execute(f"PRAGMA synchronous = {options.synchronous}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        if options.max_size:
            (page_size,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute(f"PRAGMA max_page_count = {max(1, options.max_size // page_size)}")
        _make_tables(connection, path)
    except sqlite3.Error as exc:
        if connection is not None:
            connection.close()
        raise cannot_use(path, exc) from exc
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection, options: SqliteOptions) -> None:
    # Changing the mode takes the whole file, and SQLite does not always wait for that when several processes start.
    until = time.monotonic() + options.busy_timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as exc:
            if not is_locked(exc) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _make_tables(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not application:
            for statement in _statements():
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        elif application != _APPLICATION or version != _VERSION:
            what = f"a broker's file of version {version}" if application == _APPLICATION else "of another program"
            raise StartupError(
                f"The message broker cannot use {os.path.abspath(path)}: it is {what}. Choose another path in its URL."
            )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _statements() -> list[str]:
    found: list[str] = []
    text = ""
    for line in _SCHEMA.splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            found.append(text)
            text = ""
    return found
