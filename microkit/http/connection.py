"""What HTTP requests and WebSocket handshakes share: address, headers, query, cookies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote_to_bytes, urlsplit

from microkit.call import Call
from microkit.errors import BadRequest, HTTPException

from .cookies import Cookies, parse_cookies
from .headers import Headers
from .paths import root_length

# RFC 3986 section 3.2.2, without percent-encoded names: DNS has none.
_HOST = re.compile(r"(?:[0-9A-Za-z._~!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_SENT_AS_IT_IS = "/:?#[]@!$&'()*+,;=%~-._"


class QueryParams(Mapping[str, str]):
    """A multi-valued mapping: indexing gives the first value of a name, `getlist` all of them."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = list(pairs)

    @classmethod
    def parse(cls, query: str, max_fields: int | None = None) -> QueryParams:
        """The parameters of a query string; blank values are kept, bytes that are no UTF-8 become U+FFFD.

        Raises:
            HTTPException: 414, more than `max_fields` fields.
        """
        if not query:
            return cls()
        try:
            return cls(parse_qsl(query, keep_blank_values=True, max_num_fields=max_fields))
        except ValueError:
            raise HTTPException(414, f"The query string has more than {max_fields} fields.") from None

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
        path: str = self.scope["path"]
        return path[root_length(self.scope) :] or "/"

    @property
    def method(self) -> str:
        """The method, in upper case; a WebSocket begins with a GET."""
        return self.scope.get("method", "GET")

    @property
    def host(self) -> str:
        """Host and port that the client asked for; those of the server if it sent none.

        Raises:
            BadRequest: the Host header is malformed, or there are several (RFC 9112 section 3.2).
        """
        hosts = self.headers.getlist("host")
        if len(hosts) > 1 or (hosts and hosts[0] and not _HOST.fullmatch(hosts[0])):
            raise BadRequest("The Host header is not valid.")
        if hosts and hosts[0]:
            return hosts[0]
        server = self.scope.get("server") or ("localhost", None)
        return server[0] if server[1] is None else f"{server[0]}:{server[1]}"

    @property
    def url(self) -> SplitResult:
        """The full address as the client used it, split. Setting it accepts text or the result of `urlsplit`.

        Raises:
            BadRequest: the Host header is not valid.
        """
        scope, host = self.scope, self.host
        path = scope.get("raw_path") or quote(scope["path"]).encode()
        return SplitResult(
            scope.get("scheme", "http"), host, path.decode("latin-1"), scope["query_string"].decode("latin-1"), ""
        )

    @url.setter
    def url(self, value: Any) -> None:
        parts = _split(value) if isinstance(value, str) else value
        scope = self.scope
        scope["scheme"] = parts.scheme or "http"
        scope["raw_path"] = quote(parts.path or "/", _SENT_AS_IT_IS).encode()
        scope["path"] = unquote_to_bytes(scope["raw_path"]).decode("utf-8", "replace")
        scope["query_string"] = quote(parts.query, _SENT_AS_IT_IS).encode()
        if parts.netloc:
            host = parts.netloc.rpartition("@")[2].encode("idna" if not parts.netloc.isascii() else "ascii")
            scope["headers"] = [*(pair for pair in scope["headers"] if pair[0] != b"host"), (b"host", host)]
            self._headers = None
        self._query = None

    @property
    def headers(self) -> Headers:
        """The header fields.

        Raises:
            HTTPException: 431, they are over the settings `max_headers` or `max_header_size`.
        """
        if self._headers is None:
            raw = self.scope["headers"]
            if "app" in self.__dict__:  # one made by hand has no limits yet
                settings = self.app.settings
                if len(raw) > settings.max_headers:
                    raise HTTPException(431, f"The request has more than {settings.max_headers} header fields.")
                size = 0
                for name, value in raw:  # twice as fast as sum()
                    size += len(name) + len(value)
                if size > settings.max_header_size:
                    raise HTTPException(431, f"The header fields have more than {settings.max_header_size} bytes.")
            self._headers = Headers(raw)
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
        """What the lifespans yielded, a copy per request (ASGI lifespan state), also if the server keeps none."""
        if "state" not in self.scope:
            self.scope["state"] = dict(self.app.runtime.state)
        return self.scope["state"]

    def __getitem__(self, key: str) -> Any:
        return self.scope[key]


def _split(url: str) -> SplitResult:
    """Split an address; one that begins with a slash is a path, also with a second slash (RFC 9112 section 3.2.1)."""
    if not url.startswith("/"):
        return urlsplit(url)
    path, _, query = url.partition("#")[0].partition("?")
    return SplitResult("", "", path, query, "")
