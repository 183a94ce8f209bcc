"""The broker in a file: the rules of all brokers, and its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from microkit.broker import Broker
from microkit_workers import SqliteBroker
from microkit_workers.brokers.options import SqliteOptions
from microkit_workers.conformance import BrokerSuite


@pytest.mark.feature("FX-08")
@pytest.mark.guarantee("G12")
class TestSqlite(BrokerSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    @asynccontextmanager
    async def broker(self) -> AsyncGenerator[Broker, None]:
        broker = SqliteBroker(self.folder / "broker.db", SqliteOptions(synchronous="normal"))
        await broker.connect()
        yield broker
        await broker.close()

    @asynccontextmanager
    async def another(self, broker: Broker) -> AsyncGenerator[Broker, None]:
        assert isinstance(broker, SqliteBroker)
        other = SqliteBroker(broker.path, broker.options)
        await other.connect()
        yield other
        await other.close()

    def unreachable(self) -> Broker:
        return SqliteBroker(self.folder / "no" / "such" / "folder" / "broker.db")
