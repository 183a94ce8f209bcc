"""RabbitMQ, held to what microkit-workers asks of every broker."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from microkit.broker import Broker
from microkit_amqp import AmqpBroker, AmqpSettings
from microkit_workers.conformance import BrokerSuite, Capabilities


@pytest.mark.guarantee("G8")
@pytest.mark.guarantee("G12")
class TestRabbit(BrokerSuite):
    capabilities = Capabilities(delay_precision=0.5)

    @pytest.fixture(autouse=True)
    def _server(self, rabbit: Any, url: str) -> None:
        self.url = url
        self.settings = AmqpSettings(management=rabbit.management)

    @asynccontextmanager
    async def broker(self) -> AsyncGenerator[Broker, None]:
        broker = AmqpBroker(self.url, self.settings)
        await broker.connect()
        try:
            yield broker
        finally:
            await broker.close()

    @asynccontextmanager
    async def another(self, broker: Broker) -> AsyncGenerator[Broker, None]:
        async with self.broker() as other:
            yield other

    def unreachable(self) -> Broker:
        return AmqpBroker("amqp://guest:guest@127.0.0.1:1/", AmqpSettings(connect_attempts=1))
