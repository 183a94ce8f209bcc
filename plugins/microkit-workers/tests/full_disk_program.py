"""A program whose files may not grow for a while, as if the disk were full. Prints what happened; see its test.

python full_disk_program.py PATH BACKEND
"""

from __future__ import annotations

import resource
import sys

import anyio

from microkit import PublicError
from microkit.broker import OutgoingMessage, QueueSpec
from microkit_workers import SqliteBroker
from microkit_workers.brokers.options import SqliteOptions
from microkit_workers.conformance import Inbox

_QUEUE = QueueSpec("work")


async def main(path: str) -> None:
    broker = SqliteBroker(path, SqliteOptions(synchronous="normal"))
    await broker.connect()
    inbox = await Inbox(5).on(broker, _QUEUE)
    accepted = 0
    for accepted in range(1, 21):
        await broker.send("work", OutgoingMessage(b"%d" % accepted + b" " * 3000))
    _, delivery = await inbox.take()

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((await anyio.Path(path + "-wal").stat()).st_size, hard))
    refused = 0
    for _ in range(3):
        try:
            await broker.send("work", OutgoingMessage(b" " * 200_000))
        except PublicError as exc:
            refused += 1
            print("refused:", exc.status.name, exc.detail)
    try:
        await delivery.store_dead("hopeless")
    except PublicError as exc:
        print("no copy:", exc.status.name)
    waited = anyio.Event()

    async def ack() -> None:
        await inbox.ack(delivery)
        waited.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ack)
        await anyio.sleep(0.5)
        print("acked on a full disk:", waited.is_set())
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with anyio.fail_after(60):
            await waited.wait()
    print("acked after it:", waited.is_set())
    await broker.send("work", OutgoingMessage(b"after"))
    bodies = [message.body.split()[0].decode() for message in await inbox.take_and_ack(accepted)]
    print("accepted and consumed:", bodies == [*map(str, range(2, accepted + 1)), "after"])
    await broker.close()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], backend=sys.argv[2])
