"""A transactional outbox: events are stored in the transaction of the data that they tell of, and published after it.

Published at least once: a crash between the broker's confirmation and the deletion repeats an event, with the same
message id.
"""

from __future__ import annotations

import logging
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio.to_thread

from microkit import Every, PublicError
from microkit.broker import Broker, OutgoingMessage
from microkit.codecs import json_dumps
from microkit.endpoint import Binding, Endpoint

_logger = logging.getLogger("microkit.workers")


@dataclass(frozen=True)
class Pending:
    """An event that waits to be published.

    Attributes:
        number: its place in the order.
        source, event, message_id, body: of the event; the body is JSON.
    """

    number: int
    source: str
    event: str
    message_id: str
    body: bytes


class OutboxStore(Protocol):
    """Where an outbox keeps its events. Methods may block; they are called in threads."""

    def pending(self, limit: int) -> Sequence[Pending]:
        """The oldest events."""
        ...

    def remove(self, numbers: Sequence[int]) -> None:
        """Forget events that are published."""
        ...


class SqliteOutbox:
    """Events in a table of the application's own SQLite database.

    Args:
        path: of the database.
        table: name of the table; made at first use.
    """

    def __init__(self, path: str | Path, table: str = "microkit_outbox") -> None:
        if not table.isidentifier():
            raise ValueError(f"{table!r} is no name of a table")
        self._path = str(path)
        self._table = table

    def add(self, connection: sqlite3.Connection, source: str, event: str, payload: Any) -> str:
        """Store an event with the running transaction of a connection; it is published if that is committed.

        Args:
            connection: to the same database, with a transaction.
            source: the service that publishes.
            event: what happened.
            payload: any value with a JSON form.

        Returns:
            The id of the message.
        """
        message_id = uuid.uuid4().hex
        self._create(connection)
        connection.execute(
            f"INSERT INTO {self._table} (source, event, message_id, body) VALUES (?, ?, ?, ?)",  # noqa: S608
            (source, event, message_id, json_dumps(payload)),
        )
        return message_id

    def pending(self, limit: int) -> list[Pending]:
        """See `OutboxStore`."""
        with closing(sqlite3.connect(self._path)) as connection:
            self._create(connection)
            rows = connection.execute(
                f"SELECT number, source, event, message_id, body FROM {self._table} ORDER BY number LIMIT ?",  # noqa: S608
                (limit,),
            ).fetchall()
        return [Pending(*row) for row in rows]

    def remove(self, numbers: Sequence[int]) -> None:
        """See `OutboxStore`."""
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.executemany(
                f"DELETE FROM {self._table} WHERE number = ?",  # noqa: S608
                [(number,) for number in numbers],
            )

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (number INTEGER PRIMARY KEY AUTOINCREMENT, "
            "source TEXT NOT NULL, event TEXT NOT NULL, message_id TEXT NOT NULL, body BLOB NOT NULL)"
        )


class Outbox:
    """Publishes what is in a store, in order. `app.include(Outbox(store))` has it done by a timer, in one process.

    Args:
        store: where the events are.
        interval: seconds between two looks.
        name: of the schedule.
        limit: events at most in one go; the next one follows at once.
    """

    def __init__(self, store: OutboxStore, interval: float = 1.0, name: str = "outbox", limit: int = 100) -> None:
        self.store = store
        self._interval = interval
        self._name = name
        self._limit = limit

    def bindings(self) -> list[Binding]:
        """The timer that publishes."""
        return [Binding(Endpoint(self._publish_all), Every(self._interval, immediate=True), {"name": self._name})]

    async def _publish_all(self, broker: Broker) -> None:
        try:
            await self.publish(broker)
        except PublicError as exc:
            _logger.warning("the events of the outbox wait until the broker is there again: %s", exc)

    async def publish(self, broker: Broker) -> int:
        """Publish all events that wait.

        Returns:
            How many.

        Raises:
            PublicError: UNAVAILABLE, the broker did not confirm one; it and those after it stay.
        """
        count = 0
        while found := await anyio.to_thread.run_sync(self.store.pending, self._limit):
            for each in found:
                await broker.publish(
                    each.source, each.event, OutgoingMessage(bytes(each.body), message_id=each.message_id)
                )
                await anyio.to_thread.run_sync(self.store.remove, [each.number])
                count += 1
        return count
