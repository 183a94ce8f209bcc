"""ASGI scopes of requests and handshakes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

Fields = Mapping[str, str] | Iterable[tuple[str, str]] | None


def merge_fields(
    url: str, described: list[tuple[str, str]], cookie: str, client: Mapping[str, str], own: Fields
) -> list[tuple[str, str]]:
    """The header fields of a request: its own ones replace those of the client, which replace the defaults, by name.

    Args:
        url: gives the host.
        described: what describes the body.
        cookie: value of the Cookie field, or empty.
        client: fields of the client.
        own: fields of the request.
    """
    pairs: Any = own.items() if isinstance(own, Mapping) else own or ()
    defaults = [("host", urlsplit(url).netloc), ("accept", "*/*"), ("user-agent", "microkit-testkit"), *described]
    merged = [*defaults, ("cookie", cookie)] if cookie else defaults
    for fields in (list(client.items()), list(pairs)):
        given = {name.lower() for name, _ in fields}
        merged = [each for each in merged if each[0].lower() not in given] + fields
    return merged


def path_of(url: str) -> str:
    """The decoded path of a URL."""
    return unquote_to_bytes(urlsplit(url).path).decode(errors="replace")


def make_scope(kind: str, method: str, url: str, fields: list[tuple[str, str]]) -> dict[str, Any]:
    """An ASGI scope.

    Args:
        kind: `http` or `websocket`.
        method: of an HTTP request.
        url: with scheme and host.
        fields: header fields.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    scheme = ("wss" if secure else "ws") if kind == "websocket" else parts.scheme
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": scheme,
        "path": path_of(url),
        "raw_path": parts.path.encode("latin-1"),
        "query_string": parts.query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields],
        "client": ("127.0.0.1", 50000),
        "server": (parts.hostname or "testserver", parts.port or (443 if secure else 80)),
        "extensions": {},
    }
    if kind == "http":
        scope["method"] = method
    return scope
