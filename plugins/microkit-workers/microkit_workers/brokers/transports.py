"""What selects the embedded brokers by their URL schemes."""

from __future__ import annotations

from functools import partial

from microkit import Kind
from microkit.transport import TransportSpec

from .memory import Hubs, MemoryBroker
from .sqlite import SqliteBroker

_KINDS = Kind.MESSAGE | Kind.BATCH | Kind.RPC


def transports() -> list[TransportSpec]:
    """The brokers of one application: what is called plain `memory://` is shared within this list only."""
    memory = partial(MemoryBroker.from_url, hubs=Hubs())
    return [
        TransportSpec("memory", _KINDS, broker=memory, schemes=("memory",), in_process=True),
        TransportSpec("sqlite", _KINDS, broker=SqliteBroker.from_url, schemes=("sqlite",), durable=True),
    ]
