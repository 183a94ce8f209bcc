"""Stores by URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from microkit import ConfigurationError
from microkit.errors import contributed

from .memory import MemoryStore
from .redis import RedisStore
from .settings import KvSettings
from .sqlite import SQLiteStore
from .store import Store


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A kind of store that a URL selects.

    Attributes:
        scheme: what the URL begins with, such as `redis`.
        factory: makes the store, not yet open, from the URL and the settings.
        in_process: its entries are those of one process, so an application of several processes is refused.
    """

    scheme: str
    factory: Callable[[str, KvSettings], Store]
    in_process: bool = False


def _memory(url: str, settings: KvSettings) -> Store:
    return MemoryStore(max_value=settings.max_value)


def _sqlite(url: str, settings: KvSettings) -> Store:
    parts = urlsplit(url)
    path = unquote(parts.path)[1:]
    if parts.netloc or not path or parts.query or parts.fragment:
        raise ConfigurationError(
            "The URL of a SQLite store is `sqlite:///relative/path` or `sqlite:////absolute/path`, and no more."
        )
    return SQLiteStore(path, max_value=settings.max_value, timeout=settings.timeout)


def _redis(url: str, settings: KvSettings) -> Store:
    try:
        return RedisStore(url, max_value=settings.max_value, timeout=settings.timeout)
    except ValueError as exc:
        raise ConfigurationError(str(exc)) from None


SCHEMES: Mapping[str, StoreSpec] = MappingProxyType(
    {
        spec.scheme: spec
        for spec in (
            StoreSpec("memory", _memory, in_process=True),
            StoreSpec("sqlite", _sqlite),
            StoreSpec("redis", _redis),
            StoreSpec("rediss", _redis),
        )
    }
)
"""The stores of this plugin, by scheme."""


def store_from_url(url: str, settings: KvSettings | None = None) -> Store:
    """A store of this plugin, not yet open: `async with store_from_url("sqlite:///x.db") as store:`.

    Args:
        url: see `KvSettings.url`; schemes of other plugins are known to applications only.
        settings: bounds and times; `url` in them is not looked at.

    Raises:
        ConfigurationError: the scheme is unknown, or the rest of the URL is wrong.
    """
    return spec_of(url, SCHEMES).factory(url, settings or KvSettings())


def spec_of(url: str, known: Mapping[str, StoreSpec]) -> StoreSpec:
    """The kind of store that a URL selects.

    Raises:
        ConfigurationError: no plugin brings it.
    """
    return contributed(known, url.partition(":")[0], "store")
