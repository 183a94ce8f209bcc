"""A thousand messages for a service that is a process of its own, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from microkit.broker import DeadLetter, OutgoingMessage, QueueSpec
from microkit.codecs import json_dumps
from microkit_amqp import AmqpBroker, AmqpSettings

from .program import Program

COUNT = 1000
PREFETCH = 20
QUEUE = "shop.order__svc.handle"
ALL = {f"m{number}" for number in range(COUNT)}


def fill(url: str, special: Mapping[str, str] | None = None, count: int = COUNT) -> None:
    """Publish all messages; each is confirmed.

    Args:
        url: of the broker.
        special: ids to payloads; those of the others are `good`.
        count: of messages.
    """
    payloads = special or {}

    async def main() -> None:
        broker = AmqpBroker(url, AmqpSettings())
        await broker.connect()
        limiter = anyio.CapacityLimiter(200)

        async def publish(id: str) -> None:
            async with limiter:
                body = json_dumps(payloads.get(id, "good"))
                await broker.send(QUEUE, OutgoingMessage(body, message_id=id))

        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(publish, f"m{number}")
        await broker.close()

    anyio.run(main)


def declare(url: str, limit: int = 3) -> None:
    """Make the queue, as the service does."""

    async def main() -> None:
        broker = AmqpBroker(url, AmqpSettings(delivery_limit=limit))
        await broker.connect()
        await (await broker.subscribe(QueueSpec(QUEUE, "shop", "order"), 1, lambda *_: None)).cancel()
        await broker.close()

    anyio.run(main)


def left(url: str) -> tuple[int, list[DeadLetter]]:
    """What waits in the queue, and its dead letters."""

    async def main() -> tuple[int, list[DeadLetter]]:
        broker = AmqpBroker(url)
        await broker.connect()
        try:
            return (await broker.state(QUEUE)).ready, [each async for each in broker.dead_letters(QUEUE)]
        finally:
            await broker.close()

    return anyio.run(main)


def check(program: Program, url: str, faults: int, *, patience: float = 120.0) -> int:
    """Nothing is lost, and no more came twice than the faults allow; how many did."""
    program.until(lambda: program.of("done").keys() >= ALL, patience)
    assert program.stop() == 0, program.output
    done = program.of("done")
    assert done.keys() == ALL
    twice = done.total() - COUNT
    assert twice <= faults * PREFETCH
    assert left(url) == (0, [])
    return twice
