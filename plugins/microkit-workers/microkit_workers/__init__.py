"""Worker pools, retries, dead letters and embedded brokers for microkit."""

from .attempt import Attempt, BackOffData
from .backoff import AsyncBackOff, Backoff, ConstantInterval, ExponentialInterval, LinearInterval
from .brokers import MemoryBroker, QueueRpc, SqliteBroker
from .client import RpcClient
from .context import RunnerContext
from .dependencies import Config, Configuration, Dependency
from .entrypoints import EventListener, QueueListener, RPCListener, TimeEntrypoint
from .idempotency import Idempotent, seen_key
from .outbox import Outbox, OutboxStore, SqliteOutbox
from .pool import Pool
from .process import RemoteFailure, WorkerCrashed
from .producer import EventProducer, Producer
from .proxy import RPCProxyProvider, RPCSystemProxyProvider, ServiceProxy, SystemProxy
from .queues import BrokerProcedure, Queue
from .routes import CallbackRoute, Route
from .runner import Runner
from .seen import MemorySeenStore, SeenStore, SqliteSeenStore
from .settings import WorkersSettings
from .translators import JSONTranslator, MessageTranslator
from .worker import Worker

__all__ = [
    "AsyncBackOff",
    "Attempt",
    "BackOffData",
    "Backoff",
    "BrokerProcedure",
    "CallbackRoute",
    "Config",
    "Configuration",
    "ConstantInterval",
    "Dependency",
    "EventListener",
    "EventProducer",
    "ExponentialInterval",
    "Idempotent",
    "JSONTranslator",
    "LinearInterval",
    "MemoryBroker",
    "MemorySeenStore",
    "MessageTranslator",
    "Outbox",
    "OutboxStore",
    "Pool",
    "Producer",
    "Queue",
    "QueueListener",
    "QueueRpc",
    "RPCListener",
    "RPCProxyProvider",
    "RPCSystemProxyProvider",
    "RemoteFailure",
    "Route",
    "RpcClient",
    "Runner",
    "RunnerContext",
    "SeenStore",
    "ServiceProxy",
    "SqliteBroker",
    "SqliteOutbox",
    "SqliteSeenStore",
    "SystemProxy",
    "TimeEntrypoint",
    "Worker",
    "WorkerCrashed",
    "WorkersSettings",
    "seen_key",
]
