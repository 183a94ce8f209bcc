"""A shop, reached in every way that microkit knows."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import anyio

from microkit import (
    App,
    BackgroundTasks,
    Call,
    Depends,
    Event,
    Every,
    NotFound,
    Procedure,
    Reply,
    ServiceProvider,
    Tick,
    WebSocket,
)


@dataclass
class Order:
    """What a customer wants."""

    item: str
    amount: int = 1


class Store:
    """The stock; one instance for the application."""

    def __init__(self) -> None:
        self.stock = {"tea": 12, "cup": 3}
        self.numbers = itertools.count(1)


class ShopServices(ServiceProvider):
    """The services of this application."""

    def services(self):
        yield Store


app = App(name="shop", service_providers=[ShopServices()], settings={"app": {"inspect_path": "/__endpoints__"}})


async def transaction(store: Store) -> AsyncIterator[Store]:
    """Opened for each call; committed before the reply leaves, rolled back if the handler raises."""
    before = dict(store.stock)
    try:
        yield store
    except Exception:
        store.stock = before
        print("      transaction: rolled back")
        raise
    print("      transaction: committed")


InTransaction = Annotated[Store, Depends(transaction)]


async def announce(call: Call, call_next) -> Reply:
    """One middleware for every kind of call."""
    print(f"    > {call.kind.name:7} {call.address}")
    reply = await call_next(call)
    print(f"    < {call.kind.name:7} {reply.status.name}")
    return reply


app.add_middleware(announce)


@app.post("/orders")
@app.on(Procedure("orders.create"))
@app.on(Event("web", "order_wanted"))
async def create_order(order: Order, store: InTransaction, background_tasks: BackgroundTasks):
    """One function: `POST /orders`, the procedure `orders.create`, and the event `web/order_wanted`."""
    if order.item not in store.stock:
        raise NotFound(f"We do not sell {order.item}.")
    store.stock[order.item] -= order.amount
    number = next(store.numbers)
    background_tasks.add(print, f"      background: order {number} is being packed")
    return {"order": number, "item": order.item, "left": store.stock[order.item]}


@app.get("/stock/{item}")
async def stock(item: str, store: Store):
    """Path parameters by name, services by type."""
    if item not in store.stock:
        raise NotFound(f"We do not sell {item}.")
    return {"item": item, "left": store.stock[item]}


@app.get("/countdown")
async def countdown(start: int = 3) -> AsyncIterator[str]:
    """A streamed reply."""
    for number in range(start, 0, -1):
        yield f"{number}\n"
        await anyio.sleep(0.05)


@app.websocket("/chat")
async def chat(ws: WebSocket):
    """Answers until the client leaves."""
    await ws.accept()
    async for message in ws:
        await ws.send_text(f"you said: {message}")


@app.on(Every(seconds=0.5))
async def restock(tick: Tick, store: InTransaction):
    """Twice a second a cup arrives."""
    store.stock["cup"] += 1


@app.on_startup
def opened() -> None:
    print("    the shop opens")


@app.on_shutdown
def closed() -> None:
    print("    the shop closes")
