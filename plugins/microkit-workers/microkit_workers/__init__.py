"""Message workers for microkit."""

from .brokers import MemoryBroker, QueueRpc, SqliteBroker

__all__ = ["MemoryBroker", "QueueRpc", "SqliteBroker"]
