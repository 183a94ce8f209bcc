"""Ships what was ordered: each order once, although its event may come several times."""

from sqlite3 import Connection
from typing import Annotated

from database import BROKER, transaction

from microkit import App, Depends, Event, Kind, Message
from microkit_workers import Idempotent, SqliteSeenStore, seen_key

app = App(name="shipping", settings={"workers": {"broker": BROKER}})
seen = SqliteSeenStore("shipping.db")
app.add_middleware(Idempotent(seen), kinds=Kind.MESSAGE)  # acks copies of what was handled

Database = Annotated[Connection, Depends(transaction("shipping.db", "parcels (number INTEGER, item TEXT)"))]
DAY = 86_400


@app.on(Event("orders", "order_placed"))
def ship(order: dict, message: Message, db: Database) -> None:
    """The parcel and the mark of the message are committed together, or neither is."""
    key = seen_key(message)
    if key is None or seen.done(key, DAY, db):
        db.execute("INSERT INTO parcels VALUES (?, ?)", (order["number"], order["item"]))
        print(f"shipping order {order['number']}: {order['item']}", flush=True)
