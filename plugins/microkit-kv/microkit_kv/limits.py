"""The bounds of keys, values and times that hold for every store."""

from __future__ import annotations

from .errors import InvalidKey, InvalidTTL, ValueTooLarge

MAX_KEY_BYTES = 512
"""Bytes that a key may have in UTF-8, prefixes of wrappers included; as in Workers KV."""

MAX_VALUE_BYTES = 1024 * 1024
"""Bytes that a value may have, unless a store is told otherwise."""

MAX_TTL = 100 * 365.25 * 86400.0
"""Seconds that an entry with a time to live may live at most: a hundred years."""


def key_bytes(key: str) -> bytes:
    """A key in UTF-8.

    Args:
        key: 1 to `MAX_KEY_BYTES` bytes of any text; `.`, `/`, spaces and NUL are letters like others.

    Raises:
        InvalidKey: it is empty, too long, or holds a lone surrogate.
    """
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise InvalidKey("A key holds a lone surrogate, which is no text.") from None
    if not encoded:
        raise InvalidKey("A key is empty.")
    if len(encoded) > MAX_KEY_BYTES:
        raise InvalidKey(f"A key has {len(encoded)} bytes in UTF-8; at most {MAX_KEY_BYTES} are taken.")
    return encoded


def prefix_bytes(prefix: str) -> bytes:
    """The beginning of keys in UTF-8; may be empty.

    Raises:
        InvalidKey: no key could begin with it.
    """
    return key_bytes(prefix) if prefix else b""


def checked_value(value: bytes, limit: int) -> bytes:
    """A value to be stored.

    Args:
        value: bytes.
        limit: how many it may have.

    Raises:
        TypeError: it is something else than `bytes`.
        ValueTooLarge: it has more.
    """
    if not isinstance(value, bytes):
        raise TypeError(f"A store takes bytes, not {type(value).__name__}; wrap it in a JSONStore for other values.")
    if len(value) > limit:
        raise ValueTooLarge(f"A value has {len(value)} bytes; the store takes at most {limit}.")
    return value


def checked_ttl(ttl: float | None) -> float | None:
    """A time to live in seconds, or None for ever.

    Raises:
        InvalidTTL: it is not above 0 (NaN is not), or over `MAX_TTL`.
    """
    if ttl is not None and not 0 < ttl <= MAX_TTL:
        raise InvalidTTL(f"A time to live is {ttl!r} seconds; it must be above 0 and at most a hundred years.")
    return ttl
