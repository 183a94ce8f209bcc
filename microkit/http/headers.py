"""Header fields: case-insensitive, multi-valued, checked before they are sent (RFC 9110 section 5)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, cast

RawHeaders = list[tuple[bytes, bytes]]

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def encode_header(name: str, value: str | int) -> tuple[bytes, bytes]:
    """One header field as ASGI wants it.

    Raises:
        ValueError: the name is no token, or the value has control characters or is not latin-1.
        TypeError: the value is neither text nor a whole number.
    """
    if not isinstance(value, str):
        if type(value) is not int:
            raise TypeError(f"header {name!r} has a value of type {type(value).__name__}; it must be a str")
        value = str(value)
    try:
        raw = name.lower().encode("ascii"), value.strip(" \t").encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"header {name!r} has characters that cannot be sent") from None
    if not _NAME.fullmatch(raw[0]) or _BAD_VALUE.search(raw[1]):
        raise ValueError(f"header {name!r} has characters that would split or spoil the response")
    return raw


def encode_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> RawHeaders:
    """A new list of encoded header fields; the argument is left alone."""
    items = headers.items() if isinstance(headers, Mapping) else headers
    return [encode_header(name, value) for name, value in cast("Iterable[tuple[str, str]]", items)]


@lru_cache(256)
def _key(name: str) -> bytes:
    return name.lower().encode("latin-1", "replace")  # what is not latin-1 is no name of a field, and finds none


class Headers(Mapping[str, str]):
    """Read-only view of header fields.

    Args:
        raw: pairs of lower-case name and value.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: Iterable[tuple[bytes, bytes]] | Mapping[str, str] = ()) -> None:
        self.raw: RawHeaders = encode_headers(raw) if isinstance(raw, Mapping) else raw  # type: ignore[assignment]

    def __getitem__(self, name: str) -> str:
        wanted = _key(name)
        for key, value in self.raw:
            if key == wanted:
                return value.decode("latin-1")
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:  # Mapping's own goes by way of KeyError, which is dear
        wanted = _key(name)
        for key, value in self.raw:
            if key == wanted:
                return value.decode("latin-1")
        return default

    def getlist(self, name: str) -> list[str]:
        """All values of a name, in order."""
        wanted = _key(name)
        return [value.decode("latin-1") for key, value in self.raw if key == wanted]

    def items_multi(self) -> list[tuple[str, str]]:
        """All pairs, repeated names included."""
        return [(key.decode("latin-1"), value.decode("latin-1")) for key, value in self.raw]

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        wanted = _key(name)
        return any(key == wanted for key, _ in self.raw)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.decode("latin-1") for key, _ in self.raw))

    def __len__(self) -> int:
        return len({key for key, _ in self.raw})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.items_multi()})"


class MutableHeaders(Headers, MutableMapping[str, str]):
    """Header fields of a reply; writes go to the reply."""

    __slots__ = ()

    def __setitem__(self, name: str, value: str) -> None:
        pair = encode_header(name, value)
        self.raw[:] = [each for each in self.raw if each[0] != pair[0]]
        self.raw.append(pair)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        wanted = _key(name)
        self.raw[:] = [each for each in self.raw if each[0] != wanted]

    def add(self, name: str, value: str) -> None:
        """Add a field beside others of the same name."""
        self.raw.append(encode_header(name, value))

    def add_vary(self, name: str) -> None:
        """Add a name to `Vary` unless it is there."""
        present = [part.strip().lower() for value in self.getlist("vary") for part in value.split(",")]
        if name.lower() not in present and "*" not in present:
            self["vary"] = ", ".join([*self.getlist("vary"), name])
