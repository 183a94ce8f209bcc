"""Embedded message brokers, and remote procedures over the queues of any broker."""

from .memory import MemoryBroker
from .rpc import QueueRpc
from .sqlite import SqliteBroker
from .transports import transports

__all__ = ["MemoryBroker", "QueueRpc", "SqliteBroker", "transports"]
