"""The answers of the kernel to the deliveries of the embedded brokers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from microkit import Message
from microkit.broker import Broker, OutgoingMessage, QueueSpec
from microkit.settlement import Delivery
from microkit_testkit.conformance.deliveries import DeliverySuite
from microkit_workers import MemoryBroker, SqliteBroker
from microkit_workers.conformance import Inbox, eventually

_QUEUE = QueueSpec("suite")


class Taken:
    def __init__(self, message: Message, delivery: Delivery) -> None:
        self.body, self.attempt, self.delivery = message.body, message.attempt, delivery


class Bench:
    def __init__(self, broker: Broker) -> None:
        self.broker, self.inbox = broker, Inbox()

    async def open(self) -> None:
        self.inbox = await Inbox().on(self.broker, _QUEUE)

    async def put(self, body: bytes) -> None:
        await self.broker.send(_QUEUE.name, OutgoingMessage(body))

    async def take(self) -> Taken | None:
        await eventually(self._handed_out)  # what there is comes, however slow the machine
        try:
            return Taken(*await self.inbox.take(0.3))
        except TimeoutError:
            return None

    async def _handed_out(self) -> bool:
        state = await self.broker.state(_QUEUE.name)
        return not state.ready and not state.delayed

    async def dead(self) -> list[bytes]:
        return [letter.message.body async for letter in self.broker.dead_letters(_QUEUE.name)]

    async def reconnect(self) -> None:
        await self.broker.close()
        await self.broker.connect()
        await self.open()


@asynccontextmanager
async def _bench(broker: Any) -> AsyncGenerator[Bench, None]:
    bench = Bench(broker)
    await broker.connect()
    await bench.open()
    yield bench
    await broker.close()


@pytest.mark.guarantee("G8")
class TestMemoryDeliveries(DeliverySuite):
    def bench(self) -> Any:
        return _bench(MemoryBroker())


@pytest.mark.feature("FX-08")
@pytest.mark.guarantee("G8")
class TestSqliteDeliveries(DeliverySuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def bench(self) -> Any:
        return _bench(SqliteBroker.from_url(f"sqlite:///{self.folder}/suite.db?synchronous=normal"))
