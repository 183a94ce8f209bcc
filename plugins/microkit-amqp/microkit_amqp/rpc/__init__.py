"""Remote procedures over RabbitMQ: the wires of nameko and of micro-framework, servers and clients."""

from .client import AmqpRpcClient, ServiceProxy
from .errors import RemoteError
from .injected import RPCProxyProvider
from .sync import SyncRpcClient, SyncServiceProxy, rpc_proxy

__all__ = [
    "AmqpRpcClient",
    "RPCProxyProvider",
    "RemoteError",
    "ServiceProxy",
    "SyncRpcClient",
    "SyncServiceProxy",
    "rpc_proxy",
]
