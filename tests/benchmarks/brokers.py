"""Publishing and consuming with the embedded brokers: CPU time and wall time per message, all threads of the process.

Run it with `python tests/benchmarks/brokers.py [messages]`. Ways: messages that are published by one task, each one
confirmed before the next; by 100 tasks at once; taken and acked with a prefetch of 100 by a task per message, as a
runner does; and a whole application's handler (binding, onion, settlement). Figures are the best of some rounds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from microkit import App, Event, Message
from microkit.broker import Broker, OutgoingMessage, QueueSpec
from microkit.dispatch import handle_message
from microkit.settlement import Delivery, Settlement
from microkit_workers import MemoryBroker, SqliteBroker
from microkit_workers.brokers.options import SqliteOptions

_ROUNDS = 5
_BODY = b'{"id": 1, "customer": "somebody", "note": "' + b"x" * 100 + b'"}'
_MESSAGE = OutgoingMessage(_BODY)
_QUEUE = QueueSpec("orders", "shop", "order_placed")


async def publish_one_by_one(broker: Broker, count: int) -> None:
    for _ in range(count):
        await broker.publish(_QUEUE.source, _QUEUE.event, _MESSAGE)


async def publish_at_once(broker: Broker, count: int) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(publish_one_by_one, broker, count // 100)


async def consume(broker: Broker, count: int, handle: Callable[[Message, Delivery], Awaitable[Any]]) -> None:
    done, left = anyio.Event(), count

    async def run(message: Message, delivery: Delivery) -> None:
        nonlocal left
        await handle(message, delivery)
        left -= 1
        if not left:
            done.set()

    async with anyio.create_task_group() as tasks:
        subscription = await broker.subscribe(_QUEUE, 100, lambda *args: tasks.start_soon(run, *args))
        await done.wait()
        await subscription.cancel()


async def _ack(message: Message, delivery: Delivery) -> None:
    await delivery.ack()


def _application() -> tuple[App, Callable[[Message, Delivery], Awaitable[Any]]]:
    app = App(discover=False)

    @app.on(Event(_QUEUE.source, _QUEUE.event))
    async def handler(order: dict[str, Any]) -> None:
        pass

    async def handle(message: Message, delivery: Delivery) -> None:
        message.app = app
        (message.plan,) = app.table.events[_QUEUE.source, _QUEUE.event]
        message.settlement = Settlement.of(message.plan, delivery)
        await handle_message(message)

    return app, handle


async def measure(make: Callable[[], Broker], count: int) -> dict[str, tuple[float, float]]:
    """CPU and wall microseconds per message of every way."""
    best: dict[str, tuple[float, float]] = {}
    app, handle = _application()
    async with app.started():
        for _ in range(_ROUNDS):
            broker = make()
            await broker.connect()
            await (await broker.subscribe(_QUEUE, 1, lambda *_: None)).cancel()
            ways: dict[str, Callable[[], Awaitable[None]]] = {
                "publish one by one": partial(publish_one_by_one, broker, count),
                "consume and ack": partial(consume, broker, count, _ack),
                "publish, 100 at once": partial(publish_at_once, broker, count),
                "consume by a handler": partial(consume, broker, count, handle),
            }
            for name, work in ways.items():
                cpu, wall = time.process_time(), time.perf_counter()
                await work()
                taken = (time.process_time() - cpu) / count * 1e6, (time.perf_counter() - wall) / count * 1e6
                best[name] = min(best.get(name, taken), taken)
            await broker.close()
    return best


async def main() -> None:
    """Print one row per broker and way."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("| broker | way | CPU us | wall us |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        files = iter(range(1000))

        def sqlite(synchronous: str) -> Broker:
            return SqliteBroker(Path(folder) / f"{next(files)}.db", SqliteOptions(synchronous=synchronous))

        for broker, make in {
            "memory": MemoryBroker,
            "sqlite, normal": lambda: sqlite("normal"),
            "sqlite, full": lambda: sqlite("full"),
        }.items():
            for way, (cpu, wall) in (await measure(make, count)).items():
                print(f"| {broker} | {way} | {cpu:.1f} | {wall:.1f} |", flush=True)


if __name__ == "__main__":
    anyio.run(main)
