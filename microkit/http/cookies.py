"""Cookies by RFC 6265, strictly: malformed pairs are ignored on reading and refused on writing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
_ATTRIBUTE = re.compile(r"[\x20-\x3a\x3c-\x7e]*")

Cookies = dict[str, str]


def parse_cookies(headers: Iterable[str] | str) -> Cookies:
    """The cookies of one or several `Cookie` header values; of a repeated name the first counts.

    Pairs without `=` or with an illegal name are ignored; `=` inside a value is kept; a quoted value loses its quotes.
    """
    cookies: Cookies = {}
    for header in [headers] if isinstance(headers, str) else headers:
        for pair in header.split(";"):
            name, found, value = pair.strip(" \t").partition("=")
            if not found or not _NAME.fullmatch(name):
                continue
            if len(value) >= 2 and value[0] == value[-1] == '"':
                value = value[1:-1]
            if _VALUE.fullmatch(value):
                cookies.setdefault(name, value)
    return cookies


def format_cookie(
    name: str,
    value: str = "",
    *,
    max_age: int | None = None,
    expires: datetime | None = None,
    path: str | None = "/",
    domain: str | None = None,
    secure: bool = False,
    http_only: bool = False,
    same_site: Literal["lax", "strict", "none"] | None = "lax",
) -> str:
    """A `Set-Cookie` value.

    Args:
        max_age: life in seconds; 0 deletes the cookie.
        expires: end of its life (aware).

    Raises:
        ValueError: a part has characters that a cookie cannot carry, or the prefix rules of the name are broken.
    """
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError(f"cookie {name!r}: its name or value has characters that a cookie cannot carry")
    if name.startswith(("__Host-", "__Secure-")) and not secure:
        raise ValueError(f"cookie {name!r} must be secure because of its prefix")
    if name.startswith("__Host-") and (domain or path != "/"):
        raise ValueError(f"cookie {name!r} must have the path / and no domain because of its prefix")
    if same_site == "none" and not secure:
        raise ValueError(f"cookie {name!r}: SameSite=None needs secure=True")
    parts = [f"{name}={value}"]
    for label, attribute in (("Path", path), ("Domain", domain)):
        if attribute is not None:
            if not _ATTRIBUTE.fullmatch(attribute):
                raise ValueError(f"cookie {name!r}: illegal {label} {attribute!r}")
            parts.append(f"{label}={attribute}")
    if max_age is not None:
        parts.append(f"Max-Age={int(max_age)}")
    if expires is not None:
        from email.utils import format_datetime  # a heavy module for a rare attribute

        parts.append(f"Expires={format_datetime(expires.astimezone(UTC), usegmt=True)}")
    if same_site is not None:
        parts.append(f"SameSite={same_site.capitalize()}")
    if http_only:
        parts.append("HttpOnly")
    if secure:
        parts.append("Secure")
    return "; ".join(parts)
