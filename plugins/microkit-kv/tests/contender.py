"""A process that works on a store which others work on too: `python contender.py WHAT URL COUNT`."""

from __future__ import annotations

import sys

import anyio

from microkit_kv import KvSettings, Lease, Store, store_from_url


async def increment(store: Store, count: int) -> None:
    """Increment a counter by compare and set, so often."""
    for _ in range(count):
        done = False
        while not done:
            value = await store.get("count")
            done = await store.compare_and_set("count", value, str(int(value or b"0") + 1).encode())


async def lead(store: Store, count: int) -> None:
    """Hold a lease so often; print each token while it is held, and whether another held it at the time."""
    while count:
        lease = await Lease.acquire(store, "lead", 600, "somebody")
        if lease is None:
            await anyio.sleep(0.002)
            continue
        alone = await store.compare_and_set("leader", None, b"x")
        print(lease.token, "alone" if alone else "with another", flush=True)
        await store.delete("leader")
        assert await lease.release()
        count -= 1


async def forever(store: Store, count: int) -> None:
    """Write until it is killed; print each number once it is written."""
    number = 0
    while True:
        await store.put("last", str(number).encode())
        await store.put(f"n{number:06}", b"x" * 1000)
        print(number, flush=True)
        number += 1


async def main(what: str, url: str, count: int) -> None:
    async with store_from_url(url, KvSettings(timeout=60.0)) as store:
        await {"increment": increment, "lead": lead, "forever": forever}[what](store, count)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
