"""A key-value store for microkit: memory, SQLite and Redis behind one protocol."""

from .errors import (
    Conflict,
    InvalidKey,
    InvalidTTL,
    LeaseLost,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Unsupported,
    ValueTooLarge,
)
from .json_store import JSONStore
from .lease import Lease
from .limits import MAX_KEY_BYTES, MAX_TTL, MAX_VALUE_BYTES
from .memory import MemoryStore
from .redis import RedisStore
from .schemes import StoreSpec, store_from_url
from .sessions import StoreSessions
from .settings import KvSettings
from .sqlite import SQLiteStore
from .store import Page, Store
from .wrappers import ExpiringStore, PrefixStore

__all__ = [
    "MAX_KEY_BYTES",
    "MAX_TTL",
    "MAX_VALUE_BYTES",
    "Conflict",
    "ExpiringStore",
    "InvalidKey",
    "InvalidTTL",
    "JSONStore",
    "KvSettings",
    "Lease",
    "LeaseLost",
    "MemoryStore",
    "Page",
    "PrefixStore",
    "RedisStore",
    "SQLiteStore",
    "Store",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreSessions",
    "StoreSpec",
    "StoreUnavailable",
    "Unsupported",
    "ValueTooLarge",
    "store_from_url",
]
