"""Consuming from and publishing to RabbitMQ: microkit-amqp against hand-written aio-pika with the same rule for acks.

Run it with `python tests/benchmarks/amqp.py [messages [URL]]`; without a URL it starts a private RabbitMQ. All take
turns in one event loop; the figures are CPU microseconds of this process per message, the best round and the median.

- `ack each`: aio-pika's callback, an ack for each message.
- `same rule`: aio-pika, one ack for the finished messages without a gap, at most 64 of them or 5 ms later.
- `broker`: microkit's broker alone. `kernel`: each message as a call of a handler, settled by the kernel.
"""

from __future__ import annotations

import asyncio
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aio_pika
import anyio

from microkit import App, Event, Message
from microkit.broker import OutgoingMessage, QueueSpec
from microkit.dispatch import handle_message
from microkit.settlement import Delivery, Settlement
from microkit_amqp import AmqpBroker

_ROOT = Path(__file__).resolve().parents[2]
_ROUNDS = 7
_PREFETCH = 500
_BODY = b'{"id": 1, "customer": "somebody", "total": 12.5}'
_QUEUE = QueueSpec("bench", "shop", "order_placed")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    with ExitStack() as stack:
        url = sys.argv[2] if len(sys.argv) > 2 else _private(stack)
        asyncio.run(_bench(url, count))


def _private(stack: ExitStack) -> str:
    sys.path.insert(0, str(_ROOT))
    spec = importlib.util.spec_from_file_location("rabbit", _ROOT / "plugins/microkit-amqp/tests/rabbit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not module.PROGRAM.exists():
        sys.exit("RabbitMQ is not installed. Install it, or give the URL of one.")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    rabbit = stack.enter_context(module.private_rabbit(folder))
    return f"amqp://guest:guest@127.0.0.1:{rabbit.port}/"


async def _bench(url: str, count: int) -> None:
    broker = AmqpBroker(url)
    await broker.connect()
    await (await broker.subscribe(_QUEUE, 1, lambda message, delivery: None)).cancel()
    connection = await aio_pika.connect_robust(url)
    bench = Bench(broker, connection, count)
    consumers = {
        "aio-pika, ack each": bench.consume_each,
        "aio-pika, same rule": bench.consume_same_rule,
        "microkit, broker": bench.consume_broker,
        "microkit, kernel": bench.consume_kernel,
    }
    publishers = {"aio-pika": bench.publish_aio_pika, "microkit": bench.publish_broker}
    async with bench.app.started():
        await _turns("consume", consumers, count, bench.fill)
        await _turns("publish, 500 at a time, confirmed", publishers, count, bench.purge)
    await bench.purge()
    await connection.close()
    await broker.close()


async def _turns(
    title: str, contenders: dict[str, Callable[[], Awaitable[None]]], count: int, prepare: Callable[[], Awaitable[None]]
) -> None:
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(_ROUNDS):
        for name, run in contenders.items():
            await prepare()
            began = time.process_time()
            await run()
            figures[name].append((time.process_time() - began) / count * 1e6)
    base = min(figures[next(iter(figures))])
    print(f"{title}: CPU us per message\n{'':24}  best  median  ratio of the best")
    for name, values in figures.items():
        print(f"{name:24}{min(values):6.0f}{statistics.median(values):8.0f}{min(values) / base:8.2f}")


class Bench:
    """The contenders, on one queue."""

    def __init__(self, broker: AmqpBroker, connection: Any, count: int) -> None:
        self._broker, self._connection, self._count = broker, connection, count
        self.app = App(discover=False)

        @self.app.on(Event("shop", "order_placed"))
        async def handler(message: Message) -> None:
            pass

    async def purge(self) -> None:
        channel = await self._connection.channel()
        await (await channel.get_queue(_QUEUE.name)).purge()
        await channel.close()

    async def fill(self) -> None:
        await self.purge()
        await self.publish_broker()

    # -- consuming -----------------------------------------------------------------------------------------------------

    async def consume_each(self) -> None:
        left, done = self._count, asyncio.Event()

        async def on_message(message: Any) -> None:
            nonlocal left
            await message.ack()
            left -= 1
            if not left:
                done.set()

        await self._consume_by_hand(on_message, done)

    async def consume_same_rule(self) -> None:
        left, done = self._count, asyncio.Event()
        last: Any = None
        waiting = 0
        timer: asyncio.TimerHandle | None = None
        tasks: set[asyncio.Task[None]] = set()

        def flush() -> None:
            nonlocal waiting, timer
            if timer is not None:
                timer.cancel()
                timer = None
            waiting = 0
            task = asyncio.create_task(last.ack(multiple=True))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async def on_message(message: Any) -> None:
            # Deliveries come and end in order here, so that there is never a gap to look for.
            nonlocal left, last, waiting, timer
            last = message
            waiting += 1
            if waiting >= 64:
                flush()
            elif timer is None:
                timer = asyncio.get_running_loop().call_later(0.005, flush)
            left -= 1
            if not left:
                done.set()

        await self._consume_by_hand(on_message, done)
        if tasks:
            await asyncio.wait(tasks)

    async def _consume_by_hand(self, on_message: Any, done: asyncio.Event) -> None:
        channel = await self._connection.channel()
        await channel.set_qos(_PREFETCH)
        queue = await channel.get_queue(_QUEUE.name)
        tag = await queue.consume(on_message)
        await done.wait()
        await asyncio.sleep(0.01)  # the last acks
        await queue.cancel(tag)
        await channel.close()

    async def consume_broker(self) -> None:
        left, done = self._count, asyncio.Event()

        async def work(delivery: Delivery) -> None:
            nonlocal left
            await delivery.ack()
            delivery.ended()  # type: ignore[attr-defined]
            left -= 1
            if not left:
                done.set()

        async with anyio.create_task_group() as tasks:
            await self._consume(lambda message, delivery: tasks.start_soon(work, delivery), done)

    async def consume_kernel(self) -> None:
        left, done = self._count, asyncio.Event()
        (plan,) = self.app.table.events["shop", "order_placed"]

        async def work(message: Message, delivery: Delivery) -> None:
            nonlocal left
            message.app, message.plan = self.app, plan
            message.settlement = Settlement.of(plan, delivery)
            await handle_message(message)
            left -= 1
            if not left:
                done.set()

        async with anyio.create_task_group() as tasks:
            await self._consume(lambda message, delivery: tasks.start_soon(work, message, delivery), done)

    async def _consume(self, on_message: Callable[[Message, Delivery], None], done: asyncio.Event) -> None:
        subscription = await self._broker.subscribe(_QUEUE, _PREFETCH, on_message)
        await done.wait()
        await asyncio.sleep(0.01)
        await subscription.cancel()

    # -- publishing ----------------------------------------------------------------------------------------------------

    async def publish_broker(self) -> None:
        await self._in_windows(lambda: self._broker.publish("shop", "order_placed", OutgoingMessage(_BODY)))

    async def publish_aio_pika(self) -> None:
        channel = await self._connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange("shop.events")

        async def publish() -> None:
            message = aio_pika.Message(_BODY, content_type="application/json", delivery_mode=2)
            await exchange.publish(message, "order_placed")

        await self._in_windows(publish)
        await channel.close()

    async def _in_windows(self, publish: Callable[[], Any]) -> None:
        for begin in range(0, self._count, 500):
            await asyncio.gather(*(publish() for _ in range(min(500, self._count - begin))))


if __name__ == "__main__":
    main()
