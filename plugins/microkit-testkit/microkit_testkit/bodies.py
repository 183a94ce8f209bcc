"""Request bodies from Python values."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from microkit.codecs import json_dumps

Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]
Content = bytes | str | AsyncIterable[bytes]
_BOUNDARY = "microkit-testkit-boundary"


def encode_body(
    json: Any, data: Pairs | None, files: Mapping[str, Any] | None, content: Content | None
) -> tuple[bytes | AsyncIterable[bytes], list[tuple[str, str]]]:
    """A body and the header fields that describe it.

    Args:
        json: a value for a JSON body, or the marker `...` for none.
        data: fields of a form.
        files: files of a multipart form: bytes, or (file name, bytes[, content type]), by field.
        content: the body itself; an async iterable is sent in pieces.

    Raises:
        TypeError: several kinds of body are given.
    """
    given = [json is not ..., data is not None or files is not None, content is not None]
    if sum(given) > 1:
        raise TypeError("give one of json=, data=/files= and content=")
    if json is not ...:
        return _sized(json_dumps(json), "application/json")
    if files is not None:
        return _sized(_multipart(data or {}, files), f"multipart/form-data; boundary={_BOUNDARY}")
    if data is not None:
        return _sized(query_string(data).encode(), "application/x-www-form-urlencoded")
    if content is None:
        return b"", []
    if isinstance(content, AsyncIterable):
        return content, [("transfer-encoding", "chunked")]
    return _sized(content.encode() if isinstance(content, str) else content, "")


def _sized(body: bytes, content_type: str) -> tuple[bytes, list[tuple[str, str]]]:
    headers = [("content-length", str(len(body)))]
    return body, [("content-type", content_type), *headers] if content_type else headers


def query_string(params: Pairs) -> str:
    """Pairs as `a=1&b=2`; a list gives its name several times, None leaves the name out, true and false as such."""
    pairs: list[tuple[str, str]] = []
    for name, value in _pairs(params):
        values: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, _text(each)) for each in values if each is not None]
    return urlencode(pairs)


def _pairs(pairs: Any) -> list[tuple[str, Any]]:
    return list(pairs.items() if isinstance(pairs, Mapping) else pairs)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _multipart(data: Pairs, files: Mapping[str, Any]) -> bytes:
    parts: list[tuple[str, str, bytes]] = []
    for name, value in _pairs(data):
        values: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
        parts += [(f'name="{_quoted(name)}"', "", _text(each).encode()) for each in values]
    for name, value in files.items():
        filename, body, *rest = value if isinstance(value, tuple) else (name, value)
        content_type = rest[0] if rest else "application/octet-stream"
        disposition = f'name="{_quoted(name)}"; filename="{_quoted(filename)}"'
        parts.append(
            (disposition, f"Content-Type: {content_type}\r\n", body.encode() if isinstance(body, str) else body)
        )
    lines = [
        f"--{_BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n{extra}\r\n".encode() + body + b"\r\n"
        for disposition, extra, body in parts
    ]
    return b"".join(lines) + f"--{_BOUNDARY}--\r\n".encode()


def _quoted(name: str) -> str:
    # As browsers do it (HTML, multipart/form-data encoding).
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
