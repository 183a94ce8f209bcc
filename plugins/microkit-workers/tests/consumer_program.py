"""A program that consumes, for tests that kill it. It writes what it begins into a ledger, before it acks.

python consumer_program.py URL LEDGER PREFETCH SECONDS_PER_MESSAGE; a message `poison` kills it at once.
"""

from __future__ import annotations

import os
import signal
import sys

import anyio

from microkit import Message
from microkit.broker import QueueSpec
from microkit.settlement import Delivery
from microkit_workers import SqliteBroker


async def main(url: str, ledger: str, prefetch: str, seconds: str) -> None:
    broker = SqliteBroker.from_url(url)
    await broker.connect()
    log = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    inbox, arrived = anyio.create_memory_object_stream[tuple[Message, Delivery]](1000)
    await broker.subscribe(QueueSpec("work"), int(prefetch), lambda *each: inbox.send_nowait(each))
    async for message, delivery in arrived:
        os.write(log, b"%d %s\n" % (os.getpid(), message.body))
        if message.body == b"poison":
            os.kill(os.getpid(), signal.SIGKILL)
        await anyio.sleep(float(seconds))
        await delivery.ack()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
