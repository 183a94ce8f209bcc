"""What HTTP requests and WebSocket handshakes share: address, headers, query, cookies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote_to_bytes, urlsplit

from ..call import Call
from ..errors import BadRequest, PayloadTooLarge
from .cookies import Cookies, parse_cookies
from .headers import Headers


class QueryParams(Mapping[str, str]):
    """A multi-valued mapping: indexing gives the first value of a name, `getlist` all of them."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = list(pairs)

    @classmethod
    def parse(cls, query: str, max_fields: int | None = None) -> QueryParams:
        """The parameters of a query string; blank values are kept, bytes that are no UTF-8 become U+FFFD.

        Raises:
            PayloadTooLarge: more than `max_fields` fields.
        """
        if not query:
            return cls()
        try:
            return cls(parse_qsl(query, keep_blank_values=True, max_num_fields=max_fields))
        except ValueError:
            raise PayloadTooLarge(f"The query string has more than {max_fields} fields.") from None

    def __getitem__(self, name: str) -> str:
        for key, value in self.pairs:
            if key == name:
                return value
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:  # Mapping's own goes by way of KeyError, which is dear
        for key, value in self.pairs:
            if key == name:
                return value
        return default

    def getlist(self, name: str) -> list[str]:
        """All values of a name, in order."""
        return [value for key, value in self.pairs if key == name]

    def to_lists(self) -> dict[str, list[str]]:
        """A plain dict of name to all values."""
        lists: dict[str, list[str]] = {}
        for key, value in self.pairs:
            lists.setdefault(key, []).append(value)
        return lists

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key for key, _ in self.pairs))

    def __len__(self) -> int:
        return len({key for key, _ in self.pairs})

    def __repr__(self) -> str:
        return f"QueryParams({self.pairs})"


class HTTPConnection(Call):
    """Base of `Request` and `WebSocket`: a view of an ASGI scope. Everything is parsed on first use."""

    scope: dict[str, Any]
    _headers: Headers | None = None
    _query: QueryParams | None = None
    _cookies: Cookies | None = None

    @property
    def path(self) -> str:
        """The decoded path, without the prefix that the app is mounted under."""
        path, root = self.scope["path"], self.scope.get("root_path")
        return (path[len(root) :] or "/") if root and path.startswith(root) else path

    @property
    def url(self) -> SplitResult:
        """The full address as the client used it, split."""
        scope = self.scope
        host = self.headers.get("host")
        if host is None:
            server = scope.get("server") or ("localhost", None)
            host = server[0] if server[1] is None else f"{server[0]}:{server[1]}"
        path = scope.get("raw_path") or scope["path"].encode()
        return SplitResult(
            scope.get("scheme", "http"), host, path.decode("latin-1"), scope["query_string"].decode("latin-1"), ""
        )

    @url.setter
    def url(self, value: Any) -> None:
        parts = urlsplit(value) if isinstance(value, str) else value
        scope = self.scope
        scope["scheme"] = parts.scheme or "http"
        scope["raw_path"] = (parts.path or "/").encode("latin-1", "replace")
        scope["path"] = unquote_to_bytes(scope["raw_path"]).decode("utf-8", "replace")
        scope["query_string"] = parts.query.encode("latin-1", "replace")
        if parts.netloc and "host" not in self.headers:
            scope["headers"] = [*scope["headers"], (b"host", parts.netloc.encode("latin-1", "replace"))]
            self._headers = None
        self._query = None

    @property
    def headers(self) -> Headers:  # type: ignore[override]
        """The header fields."""
        if self._headers is None:
            self._headers = Headers(self.scope["headers"])
        return self._headers

    @property
    def query(self) -> QueryParams:
        """The query parameters."""
        if self._query is None:
            limit = self.app.settings.max_query_fields if "app" in self.__dict__ else 1000
            self._query = QueryParams.parse(self.scope["query_string"].decode("latin-1"), limit)
        return self._query

    @property
    def cookies(self) -> Cookies:
        """The cookies, strictly parsed."""
        if self._cookies is None:
            self._cookies = parse_cookies(self.headers.getlist("cookie"))
        return self._cookies

    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the peer that the server saw."""
        client = self.scope.get("client")
        return (client[0], client[1]) if client else None

    @property
    def scope_state(self) -> dict[str, Any]:
        """The lifespan state of the server, a copy per request (ASGI lifespan state)."""
        return self.scope.setdefault("state", {})

    def __getitem__(self, key: str) -> Any:
        return self.scope[key]


def decode_segments(raw_path: bytes) -> list[str]:
    """The decoded segments of a raw path; an encoded slash stays inside its segment.

    Raises:
        BadRequest: an escape is malformed, is no UTF-8, or stands for NUL.
    """
    segments = []
    for raw in raw_path.lstrip(b"/").split(b"/") if raw_path == b"/" else raw_path[1:].split(b"/"):
        if b"%" in raw:
            rest = raw.split(b"%")[1:]
            if any(len(part) < 2 or not _is_hex(part[:2]) for part in rest):
                raise BadRequest("The path has a malformed percent escape.")
            raw = unquote_to_bytes(raw)
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise BadRequest("The path is not valid UTF-8.") from None
        if "\x00" in text:
            raise BadRequest("The path has a NUL character.")
        segments.append(text)
    return segments


_HEX = frozenset(b"0123456789abcdefABCDEF")


def _is_hex(pair: bytes) -> bool:
    return pair[0] in _HEX and pair[1] in _HEX
