"""Takes orders: each is written in one transaction with the event that tells of it, and a relay publishes that."""

from sqlite3 import Connection
from typing import Annotated

from database import BROKER, transaction

from microkit import App, Depends
from microkit_workers import BrokerProcedure, Outbox, SqliteOutbox

app = App(name="orders", settings={"workers": {"broker": BROKER}})
outbox = SqliteOutbox("orders.db")
app.include(Outbox(outbox, interval=0.2))  # the relay

Database = Annotated[Connection, Depends(transaction("orders.db", "orders (number INTEGER PRIMARY KEY, item TEXT)"))]


@app.on(BrokerProcedure("orders.place"))
def place(item: str, db: Database) -> int:
    """Returns the number of the order, which is kept then, and so is its event."""
    number = db.execute("INSERT INTO orders (item) VALUES (?)", (item,)).lastrowid
    assert number is not None
    outbox.add(db, "orders", "order_placed", {"number": number, "item": item})
    return number
