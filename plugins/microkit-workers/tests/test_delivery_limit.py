"""The delivery limit of `sqlite://`, where several processes with options of their own share a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkit.broker import OutgoingMessage, QueueSpec
from microkit_workers import SqliteBroker
from microkit_workers.conformance import Inbox, eventually

_QUEUE = QueueSpec("work")


@pytest.mark.feature("FX-10")
async def test_the_limit_of_who_consumes_counts_whoever_returned_the_message(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    strict, generous = SqliteBroker.from_url(f"{url}?delivery_limit=2"), SqliteBroker.from_url(url)
    await strict.connect()
    await generous.connect()
    inbox = await Inbox().on(generous, _QUEUE)
    await generous.send("work", OutgoingMessage(b"x"))
    for _ in range(4):
        await (await inbox.take())[1].give_back()
    await inbox.cancel()
    for _, delivery in inbox.left():
        await delivery.give_back()
    inbox = await Inbox().on(strict, _QUEUE)
    await strict.send("work", OutgoingMessage(b"y"))
    assert (await inbox.take_and_ack())[0].body == b"y"

    async def buried() -> bool:  # the last delivery of the other may still be on its way back
        return [each.reason async for each in strict.dead_letters("work")] == ["delivery limit"]

    await eventually(buried)
    await strict.close()
    await generous.close()
