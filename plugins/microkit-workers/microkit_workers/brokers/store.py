"""What the broker `sqlite://` does in its file. Every method runs within a transaction that its caller began; one that
raises an error of ours has written nothing."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from microkit.broker import ATTEMPT, DeadLetter, QueueSpec, QueueState, Unroutable
from microkit.codecs import json_dumps, json_loads
from microkit.errors import PublicError, StatusCode

from .hub import check_same
from .options import SqliteOptions
from .stale import StaleDelivery
from .stored import Stored

_FIELDS = "source, event, message_id, content_type, correlation_id, reply_to, headers, body"
_INSERT = (
    f"INSERT INTO messages (queue, due, expires, {_FIELDS}) "  # noqa: S608 -- names of columns only
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SELECT = f"SELECT id, returns, expires, due, {_FIELDS} FROM messages "  # noqa: S608
_BURY = (
    f"INSERT INTO dead (queue, reason, attempts, died_at, {_FIELDS}) "  # noqa: S608
    f"SELECT queue, ?, ?, ?, {_FIELDS} FROM messages WHERE id = ?"
)
_BURY_DAMAGED = f"INSERT INTO dead (queue, reason, attempts, died_at, {_FIELDS}) VALUES (?, ?, 1, ?, {'?, ' * 7}?)"  # noqa: S608
_RAW = ", ".join(f"CAST({each} AS BLOB)" for each in _FIELDS.split(", "))
_DELIVERY_LIMIT = "delivery limit"
_DAMAGED_HEADERS = "x-microkit-damaged-headers"

_logger = logging.getLogger("microkit.workers.brokers")


@dataclass(frozen=True, slots=True)
class Row:
    """A message that is to be inserted, encoded; see `Stored`."""

    expires: float | None
    fields: tuple[Any, ...]


class Store:
    """The tables, as one session sees them.

    Args:
        connection: of the calling thread.
        options: bounds and times.

    Attributes:
        session: number of the session; what it holds comes back if it is lost.
    """

    def __init__(self, connection: sqlite3.Connection, options: SqliteOptions) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.options = options
        self.session = 0

    # -- sessions ------------------------------------------------------------------------------------------------------

    def begin_session(self) -> None:
        """Make a session."""
        cursor = self.execute("INSERT INTO sessions (alive_until) VALUES (?)", (time.time() + self.options.lease,))
        self.session = cursor.lastrowid or 0
        self.recover()

    def alive(self) -> bool:
        """Whether the session is still there: another process ends those that give no sign of life."""
        return self.execute("SELECT 1 FROM sessions WHERE id = ?", (self.session,)).fetchone() is not None

    def beat(self) -> None:
        """Prolong the session, and clean up after others."""
        now = time.time()
        self.execute("UPDATE sessions SET alive_until = ? WHERE id = ?", (now + self.options.lease, self.session))
        self.execute("DELETE FROM messages WHERE expires <= ? AND holder = 0", (now,))
        self.recover()

    def recover(self) -> None:
        """End the sessions whose time is over: what they hold comes again, their exclusive queues go."""
        dead = self.execute("SELECT id FROM sessions WHERE alive_until < ?", (time.time(),)).fetchall()
        for (session,) in dead:
            self.end_session(session)

    def end_session(self, session: int) -> None:
        """End one session."""
        self.execute("DELETE FROM sessions WHERE id = ?", (session,))
        for (name,) in self.execute("SELECT name FROM queues WHERE owner = ?", (session,)).fetchall():
            self.drop_queue(name)
        self.execute("UPDATE queues SET active_session = 0 WHERE active_session = ?", (session,))
        self._return("holder = ?", session)

    # -- queues --------------------------------------------------------------------------------------------------------

    def declare(self, spec: QueueSpec, consumer: int) -> None:
        """Make a queue if there is none, and bind it. The first consumer of one with a single active one is that."""
        found = self.execute("SELECT owner, single_active FROM queues WHERE name = ?", (spec.name,)).fetchone()
        if found is None:
            self.execute(
                "INSERT INTO queues (name, single_active, owner) VALUES (?, ?, ?)",
                (spec.name, spec.single_active, self.session if spec.exclusive else 0),
            )
        else:
            check_same(spec, bool(found[0]), bool(found[1]))
        if spec.source or spec.event:
            values = (spec.source, spec.event, spec.name)
            self.execute("INSERT OR IGNORE INTO bindings (source, event, queue) VALUES (?, ?, ?)", values)
        if spec.single_active:
            self.activate(spec.name, consumer)

    def drop_queue(self, name: str) -> None:
        """Remove a queue with its messages and bindings; dead letters stay."""
        self.execute("DELETE FROM queues WHERE name = ?", (name,))
        self.execute("DELETE FROM bindings WHERE queue = ?", (name,))
        self.execute("DELETE FROM messages WHERE queue = ?", (name,))

    def activate(self, queue: str, consumer: int) -> bool:
        """Try to become the one active consumer of a queue. Waits for what its predecessor still works at."""
        cursor = self.execute(
            "UPDATE queues SET active_session = ?1, active_consumer = ?2 WHERE name = ?3 AND (active_session = 0 OR "
            "(active_session = ?1 AND active_consumer = ?2)) AND NOT EXISTS (SELECT 1 FROM messages WHERE queue = ?3 "
            "AND holder > 0 AND holder <> ?1)",
            (self.session, consumer, queue),
        )
        return cursor.rowcount > 0

    def deactivate(self, queue: str, consumer: int) -> None:
        """Leave a queue to its next consumer."""
        self.execute(
            "UPDATE queues SET active_session = 0 WHERE name = ? AND active_session = ? AND active_consumer = ?",
            (queue, self.session, consumer),
        )

    def state(self, queue: str) -> QueueState:
        """Counts of a queue."""
        now = time.time()
        ready, delayed, unsettled = self.execute(
            "SELECT coalesce(sum(holder = 0 AND due <= ?1), 0), coalesce(sum(holder = 0 AND due > ?1), 0), "
            "coalesce(sum(holder <> 0), 0) FROM messages WHERE queue = ?2 "
            "AND (holder <> 0 OR expires IS NULL OR expires > ?1)",
            (now, queue),
        ).fetchone()
        (dead,) = self.execute("SELECT count(*) FROM dead WHERE queue = ?", (queue,)).fetchone()
        return QueueState(ready, unsettled, delayed, dead)

    # -- what goes in --------------------------------------------------------------------------------------------------

    def publish(self, row: Row, delay: float) -> list[str]:
        """Put a message into every queue that is bound to its event, or into none if one is full."""
        names = [
            name
            for (name,) in self.execute("SELECT queue FROM bindings WHERE source = ? AND event = ?", row.fields[:2])
        ]
        if len(names) > 1:
            for name in names:
                self._check_room(name, 1)
        for name in names:
            self.send(name, row, delay)
        return names

    def send(self, queue: str, row: Row, delay: float) -> None:
        """Put a message into one queue."""
        cursor = self.execute(
            "UPDATE queues SET length = length + 1 WHERE name = ? AND length < ?", (queue, self.options.max_length)
        )
        if not cursor.rowcount:
            self._check_room(queue, 1)
        self.execute(_INSERT, (queue, time.time() + max(0.0, delay), row.expires, *row.fields))

    def _check_room(self, queue: str, count: int) -> None:
        found = self.execute("SELECT length FROM queues WHERE name = ?", (queue,)).fetchone()
        if found is None:
            raise Unroutable(f"There is no queue {queue}.")
        if found[0] + count > self.options.max_length:
            raise PublicError(
                f"The queue {queue} is full: it holds {self.options.max_length} messages.",
                status=StatusCode.RESOURCE_EXHAUSTED,
            )

    def _copy(self, queue: str, row: Row, delay: float) -> None:
        self.execute("UPDATE queues SET length = length + 1 WHERE name = ?", (queue,))
        self.execute(_INSERT, (queue, time.time() + max(0.0, delay), row.expires, *row.fields))

    # -- what goes out -------------------------------------------------------------------------------------------------

    def next_due(self, queue: str) -> float | None:
        """When the next message may be delivered; None if there is none."""
        (due,) = self.execute("SELECT min(due) FROM messages WHERE queue = ? AND holder = 0", (queue,)).fetchone()
        return due

    def waiting(self, queue: str, count: int) -> list[tuple[int, Stored]]:
        """The next messages of a queue, oldest first. Those that have expired are dropped.

        Those that came back too often are buried. They may have been returned by a session with another limit, of a
        process that publishes only, or of a command: the limit of those who consume is what counts.
        """
        now = time.time()
        while True:
            found = self._messages(
                "WHERE queue = ? AND holder = 0 AND due <= ? ORDER BY due, id LIMIT ?", (queue, now, count)
            )
            expired = [number for number, message in found if message.expires is not None and message.expires <= now]
            over = [(number, message) for number, message in found if message.returns > self.options.delivery_limit]
            if not expired and not over:
                return found
            self._bury_over(over)
            self.take(expired)

    def _messages(self, where: str, values: Sequence[Any]) -> list[tuple[int, Stored]]:
        """Messages by a condition. Those that cannot be read are put to the dead letters."""
        try:
            return [_message(row) for row in self.execute(_SELECT + where, values).fetchall()]
        except (ValueError, sqlite3.Error) as exc:
            if not _is_damaged(exc):
                raise
        found: list[tuple[int, Stored]] = []
        for (number,) in self.execute("SELECT id FROM messages " + where, values).fetchall():  # noqa: S608
            try:
                found.append(_message(self.execute(_SELECT + "WHERE id = ?", (number,)).fetchone()))
            except (ValueError, sqlite3.Error) as exc:
                if not _is_damaged(exc):
                    raise
                self._bury_damaged(number)
        return found

    def _bury_damaged(self, id: int) -> None:
        """Put a message that cannot be read to the dead letters, as far as it can be."""
        queue, *raw = self.execute(f"SELECT queue, {_RAW} FROM messages WHERE id = ?", (id,)).fetchone()  # noqa: S608
        *texts, headers, body = raw
        texts = [each.decode(errors="replace") for each in texts]
        try:
            checked = headers.decode()
            _headers(checked)
        except ValueError:
            checked = json_dumps({_DAMAGED_HEADERS: headers.decode(errors="replace")}).decode()
        _logger.error("message %s of queue %s is damaged in the file; it goes to the dead letters", texts[2], queue)
        self.execute(_BURY_DAMAGED, (queue, "damaged in the file", time.time(), *texts, checked, body))
        self._trim_dead(queue)
        self.take([id])

    def hold(self, ids: Iterable[int]) -> None:
        """Mark messages as delivered to this session."""
        self.connection.executemany(
            "UPDATE messages SET holder = ? WHERE id = ?", [(self.session, each) for each in ids]
        )

    def take(self, ids: Iterable[int]) -> None:
        """Delete messages that are delivered without an answer."""
        self.connection.executemany("DELETE FROM messages WHERE id = ?", [(each,) for each in ids])

    # -- answers -------------------------------------------------------------------------------------------------------

    def _check_held(self, id: int, session: int) -> None:
        if self.execute("SELECT 1 FROM messages WHERE id = ? AND holder = ?", (id, session)).fetchone() is None:
            raise StaleDelivery("the lease of this message was lost; it comes again")

    def ack(self, id: int, session: int) -> None:
        """Delete a message that is done."""
        if not self.execute("DELETE FROM messages WHERE id = ? AND holder = ?", (id, session)).rowcount:
            raise StaleDelivery("the lease of this message was lost; it comes again")

    def give_back(self, id: int, session: int) -> None:
        """Put a message back to its place, as returned once more."""
        self._check_held(id, session)
        self._return("id = ?", id)

    def unget(self, id: int, session: int) -> None:
        """Put a message back that no consumer has seen."""
        self.execute("UPDATE messages SET holder = 0 WHERE id = ? AND holder = ?", (id, session))

    def store_retry(self, id: int, session: int, queue: str, row: Row, delay: float) -> None:
        """Store a copy that comes later."""
        self._check_held(id, session)
        self._copy(queue, row, delay)

    def store_dead(self, id: int, session: int, reason: str, attempts: int) -> None:
        """Store a copy among the dead letters."""
        self._check_held(id, session)
        self._bury(id, reason, attempts)

    def _return(self, condition: str, value: int) -> None:
        self._bury_over(self._messages(f"WHERE {condition} AND returns >= ?", (value, self.options.delivery_limit)))
        self.execute(f"UPDATE messages SET holder = 0, returns = returns + 1 WHERE {condition}", (value,))  # noqa: S608

    def _bury_over(self, found: Iterable[tuple[int, Stored]]) -> None:
        for number, message in found:
            self._bury(number, _DELIVERY_LIMIT, message.attempt)
            self.take([number])

    def _bury(self, id: int, reason: str, attempts: int) -> None:
        self.execute(_BURY, (reason, attempts, time.time(), id))
        if self.options.max_dead:
            self._trim_dead(*self.execute("SELECT queue FROM messages WHERE id = ?", (id,)).fetchone())

    def _trim_dead(self, queue: str) -> None:
        if self.options.max_dead:
            self.execute(
                "DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE queue = ? ORDER BY id DESC LIMIT -1 OFFSET ?)",
                (queue, self.options.max_dead),
            )

    # -- dead letters --------------------------------------------------------------------------------------------------

    def dead_letters(self, queue: str, after: int = 0, count: int = 100) -> list[tuple[int, DeadLetter]]:
        """Some dead letters with their numbers, in their order."""
        rows = self.execute(
            f"SELECT id, queue, reason, attempts, died_at, {_FIELDS} FROM dead "  # noqa: S608
            "WHERE id > ?1 AND (queue = ?2 OR ?2 = '') ORDER BY id LIMIT ?3",
            (after, queue, count),
        ).fetchall()
        return [
            (row[0], DeadLetter(str(row[0]), row[1], row[2], row[3], row[4], stored(0, None, row[5:]).published()))
            for row in rows
        ]

    def redrive(self, queue: str, ids: Sequence[int]) -> int:
        """Put dead letters back into their queue."""
        marks = ", ".join("?" * len(ids))
        rows = self.execute(
            f"SELECT id, {_FIELDS} FROM dead WHERE queue = ? AND id IN ({marks}) ORDER BY id",  # noqa: S608
            (queue, *ids),
        ).fetchall()
        if not rows:
            return 0
        self._check_room(queue, len(rows))
        for row in rows:
            self._copy(queue, encode(stored(0, None, row[1:]).fresh()), 0.0)
        self.connection.executemany("DELETE FROM dead WHERE id = ?", [(row[0],) for row in rows])
        return len(rows)


def encode(message: Stored) -> Row:
    """A message as a row.

    Raises:
        TypeError: a header is neither a text nor a number.
    """
    return Row(
        message.expires,
        (
            message.source,
            message.event,
            message.message_id,
            message.content_type,
            message.correlation_id,
            message.reply_to,
            json_dumps(message.headers).decode() if message.headers else "{}",
            message.body,
        ),
    )


def stored(returns: int, expires: float | None, fields: Sequence[Any], due: float | None = None) -> Stored:
    """A message of a row's fields.

    Raises:
        ValueError: they are not what we wrote.
    """
    source, event, message_id, content_type, correlation_id, reply_to, headers, body = fields
    if not isinstance(body, bytes) or not all(isinstance(each, str) for each in fields[:-1]):
        raise ValueError("a field has another type")
    return Stored(
        body,
        content_type,
        _headers(headers) if headers != "{}" else {},
        message_id,
        correlation_id,
        reply_to,
        source,
        event,
        expires,
        returns,
        due,
    )


def _message(row: Sequence[Any]) -> tuple[int, Stored]:
    number, returns, expires, due, *fields = row
    if not isinstance(expires, float | None):
        raise ValueError("a field has another type")
    return number, stored(returns, expires, fields, due)


def _headers(text: str) -> dict[str, Any]:
    found = json_loads(text.encode())
    if not isinstance(found, dict) or not isinstance(found.get(ATTEMPT, 1), int):
        raise ValueError("the headers are none of ours")
    return found


def _is_damaged(exc: Exception) -> bool:
    # Text that is no UTF-8 is an error of the module sqlite3, not of SQLite, so it has no code.
    return isinstance(exc, ValueError) or not hasattr(exc, "sqlite_errorcode")
