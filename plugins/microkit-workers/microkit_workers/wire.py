"""The broker of an application, connected, and its wire for remote procedures."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

import anyio

from microkit import App, StartupError
from microkit.broker import Broker, RpcWire, broker_for

from .brokers import QueueRpc
from .context import pools_of

_logger = logging.getLogger("microkit.workers")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


async def connected_broker(app: App) -> AsyncGenerator[Broker]:
    """The broker that the settings name, connected; closed at shutdown.

    Raises:
        StartupError: there is no such broker, it could not be reached for `connect_patience` seconds, or will never be.
    """
    settings = pools_of(app).settings
    broker = broker_for(app, settings.broker)
    await _connect(broker, settings.connect_patience)
    try:
        yield broker
    finally:
        await broker.close()


async def _connect(broker: Broker, patience: float) -> None:
    pause, began, told = _FIRST_PAUSE, anyio.current_time(), ""
    while True:
        try:
            return await broker.connect()
        except (StartupError, OSError) as exc:
            if getattr(exc, "final", False):
                raise
            left = patience - (anyio.current_time() - began)
            if patience >= 0 and left <= 0:
                raise StartupError(
                    f"{exc} To wait longer than {patience:g} seconds, set connect_patience (negative: without limit)."
                ) from exc
            why = "as before" if str(exc) == told else str(exc)
            _logger.warning("the broker cannot be reached (%s); trying again in %.1f s", why, pause)
            told = str(exc)
        await anyio.sleep(pause if patience < 0 else min(pause, max(left, 0.01)))
        pause = min(pause * 2, _LONGEST_PAUSE)


async def rpc_wire(broker: Broker) -> AsyncGenerator[RpcWire]:
    """What carries remote procedures over the broker: its own wire, or one that needs queues only."""
    own = broker.rpc()
    if own is not None:
        yield own
        return
    wire = QueueRpc(broker)
    try:
        yield wire
    finally:
        await wire.close()
