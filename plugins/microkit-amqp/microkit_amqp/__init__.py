"""RabbitMQ for microkit: a broker, retries and dead letters, remote procedures."""

from .broker import AmqpBroker
from .rpc import RemoteError
from .settings import AmqpSettings
from .topology import Topology, work_topology
from .topology_text import topology_of, topology_text

__all__ = [
    "AmqpBroker",
    "AmqpSettings",
    "RemoteError",
    "Topology",
    "topology_of",
    "topology_text",
    "work_topology",
]
