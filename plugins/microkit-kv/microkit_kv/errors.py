"""What a store raises."""

from __future__ import annotations


class StoreError(Exception):
    """Base of everything that a store raises on purpose."""


class InvalidKey(StoreError, ValueError):
    """A key is empty, too long, or no text."""


class InvalidTTL(StoreError, ValueError):
    """A time to live is not a number of seconds above 0, or longer than a hundred years."""


class ValueTooLarge(StoreError, ValueError):
    """A value has more bytes than the store takes."""


class StoreFull(StoreError):
    """The store takes no more entries; nothing was written."""


class StoreClosed(StoreError, RuntimeError):
    """The store is used before it was opened, or after it was closed."""


class StoreUnavailable(StoreError, ConnectionError):
    """The store cannot be reached, or did not answer in time. Of a write it is not known whether it was done."""


class Unsupported(StoreError, NotImplementedError):
    """This store cannot do that."""


class Conflict(StoreError):
    """Others changed the entry again and again in between; nothing was written."""


class LeaseLost(StoreError):
    """The lease is over, and another may hold it by now."""
