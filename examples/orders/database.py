"""What both services have in common: where the broker is, and a transaction for each call."""

import os
import sqlite3
from collections.abc import Callable, Iterator

BROKER = os.environ.get("BROKER", "sqlite:///broker.db")


def transaction(path: str, schema: str) -> Callable[[], Iterator[sqlite3.Connection]]:
    """A dependency: a connection with a transaction, committed before the reply or the ack, rolled back on failure."""

    def connection() -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(path, check_same_thread=False)  # made on the event loop, used in a worker thread
        try:
            with db:
                db.execute(f"CREATE TABLE IF NOT EXISTS {schema}")
                yield db
        finally:
            db.close()

    return connection
