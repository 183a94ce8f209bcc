"""Remote procedures over RabbitMQ: the wires of nameko and of micro-framework, servers and clients."""

from .client import AmqpRpcClient, ServiceProxy
from .errors import RemoteError
from .sync import SyncRpcClient, rpc_proxy

__all__ = ["AmqpRpcClient", "RemoteError", "ServiceProxy", "SyncRpcClient", "rpc_proxy"]
