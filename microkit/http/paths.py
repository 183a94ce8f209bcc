"""The path of a request: what a server says of it, and its segments."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from microkit.errors import BadRequest


def root_length(scope: dict[str, Any]) -> int:
    """How many characters of the path are the prefix that the app is mounted under; 0 where a server leaves it out."""
    path, root = scope["path"], (scope.get("root_path") or "").rstrip("/")
    return len(root) if path == root or path.startswith(f"{root}/") else 0


def path_segments(scope: dict[str, Any]) -> list[str]:
    """The decoded segments of the path below its app's prefix, at least one; an encoded slash stays in its segment.

    Raises:
        BadRequest: the path has no slash at its beginning, or a NUL; an escape is malformed, or is no UTF-8.
    """
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or b""
    start = root_length(scope)
    segments = (path[start:] or "/").split("/")
    if segments.pop(0):
        raise BadRequest("The path must begin with a slash.")
    if b"%" in raw:
        decoded = _decode(raw)
        # Only if nobody rewrote the path since, and the prefix ends where a segment does.
        if "/".join(decoded) == path:
            while start > 0:
                start -= len(decoded.pop(1)) + 1
            if start == 0:
                segments = decoded[1:] or [""]
    if "\0" in path:
        raise BadRequest("The path has a NUL character.")
    return segments


def _decode(raw_path: bytes) -> list[str]:
    if _MALFORMED.search(raw_path):
        raise BadRequest("The path has a malformed percent escape.")
    try:
        return [unquote_to_bytes(segment).decode() for segment in raw_path.split(b"/")]
    except UnicodeDecodeError:
        raise BadRequest("The path is not valid UTF-8.") from None


_MALFORMED = re.compile(rb"%(?![0-9a-fA-F]{2})")
