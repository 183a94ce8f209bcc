"""RabbitMQ for microkit: a broker, retries and dead letters, remote procedures."""

from .broker import AmqpBroker
from .rpc import (
    AmqpRpcClient,
    RemoteError,
    RPCProxyProvider,
    ServiceProxy,
    SyncRpcClient,
    SyncServiceProxy,
    rpc_proxy,
)
from .settings import AmqpSettings
from .topology import Topology, work_topology
from .topology_text import topology_of, topology_text

__all__ = [
    "AmqpBroker",
    "AmqpRpcClient",
    "AmqpSettings",
    "RPCProxyProvider",
    "RemoteError",
    "ServiceProxy",
    "SyncRpcClient",
    "SyncServiceProxy",
    "Topology",
    "rpc_proxy",
    "topology_of",
    "topology_text",
    "work_topology",
]
