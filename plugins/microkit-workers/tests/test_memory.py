"""The broker in memory: the rules of all brokers, and its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from microkit.broker import Broker
from microkit_workers import MemoryBroker
from microkit_workers.conformance import BrokerSuite


@pytest.mark.guarantee("G12")
class TestMemory(BrokerSuite):
    @asynccontextmanager
    async def broker(self) -> AsyncGenerator[Broker, None]:
        broker = MemoryBroker()
        await broker.connect()
        yield broker
        await broker.close()

    @asynccontextmanager
    async def another(self, broker: Broker) -> AsyncGenerator[Broker, None]:
        assert isinstance(broker, MemoryBroker)
        other = MemoryBroker(broker.hub)
        await other.connect()
        yield other
        await other.close()
