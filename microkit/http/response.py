"""HTTP replies: `Response` and its family."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import anyio.to_thread

from microkit.call import Reply
from microkit.codecs import json_dumps

from .cookies import format_cookie
from .headers import encode_headers

HeaderInput = Mapping[str, str] | Iterable[tuple[str, str]] | None

HTML = (b"content-type", b"text/html; charset=utf-8")
TEXT = (b"content-type", b"text/plain; charset=utf-8")
JSON = (b"content-type", b"application/json")


def checked_status(status: Any) -> int:
    """`status`, if a reply may have it.

    Raises:
        ValueError: it is no whole number from 200 to 599.
    """
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise ValueError(f"{status!r} is no HTTP status for a reply (200-599)")
    return int(status)


def encode_body(body: Any) -> bytes:
    """A complete body as bytes; text becomes UTF-8, None nothing.

    Raises:
        TypeError: it is neither; a stream needs a `StreamingResponse`, other values a `JsonResponse`.
    """
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    if body is None:
        return b""
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    raise TypeError(f"a body is bytes or str, not {type(body).__name__}; see StreamingResponse and JsonResponse")


class Response(Reply):
    """A complete HTTP reply.

    Args:
        body: bytes, or text that is sent as UTF-8.
        status_code: HTTP status, 200 to 599.
        headers: header fields; copied.
        media_type: Content-Type, unless `headers` has one.

    Raises:
        ValueError: the status or a header is not valid.
        TypeError: the body is neither bytes nor text.
    """

    media_type: str | None = None

    def __init__(
        self,
        body: bytes | str | None = b"",
        status_code: int = 200,
        headers: HeaderInput = None,
        media_type: str | None = None,
    ) -> None:
        self._http = checked_status(status_code)
        self.raw_headers = encode_headers(headers) if headers else []
        self.body = encode_body(body)
        media_type = media_type or self.media_type
        if media_type is not None and not any(name == b"content-type" for name, _ in self.raw_headers):
            self.raw_headers.append((b"content-type", media_type.encode("latin-1")))

    def set_cookie(self, name: str, value: str = "", **attributes: Any) -> None:
        """Add a `Set-Cookie` field; attributes as `microkit.http.cookies.format_cookie` takes them."""
        self.headers.add("set-cookie", format_cookie(name, value, **attributes))

    def delete_cookie(self, name: str, *, path: str = "/", domain: str | None = None, secure: bool = False) -> None:
        """Tell the client to forget a cookie; path, domain and secure must be those it was set with."""
        self.set_cookie(name, max_age=0, path=path, domain=domain, secure=secure)


class HTMLResponse(Response):
    """An HTML document."""

    media_type = "text/html; charset=utf-8"


class TextResponse(Response):
    """Plain text."""

    media_type = "text/plain; charset=utf-8"


class JsonResponse(Response):
    """A JSON document.

    Args:
        data: any value with a JSON form.
        status_code, headers: as `Response`.

    Raises:
        TypeError: a part of `data` has no JSON form.
    """

    media_type = "application/json"

    def __init__(self, data: Any, status_code: int = 200, headers: HeaderInput = None) -> None:
        super().__init__(json_dumps(data), status_code, headers)


_UNSAFE_LOCATION = re.compile(r"[\x00-\x1f\x7f\\]")


def safe_location(location: str, *, external: bool = False) -> str:
    """`location`, percent-encoded, if it is safe to send a client there.

    Args:
        external: allow http and https URLs of other origins.

    Raises:
        ValueError: it leads to another origin, to another scheme, or has control characters.
    """
    if _UNSAFE_LOCATION.search(location):
        raise ValueError("a redirect location must not have control characters or backslashes")
    # Browsers ignore spaces at its beginning, which would hide what it really is.
    location = location.strip()
    parts = urlsplit(location)
    if (parts.scheme or parts.netloc or location.startswith("//")) and not (
        external and parts.scheme in ("http", "https") and parts.netloc
    ):
        raise ValueError(
            f"a redirect to another origin or scheme is refused; pass external=True for trusted URLs: {parts.scheme!r}"
        )
    return quote(location, safe="/:?#[]@!$&'()*+,;=%~-._")


class RedirectResponse(Response):
    """A redirect. Other origins, `//host`, other schemes and control characters are refused.

    Args:
        location: where to; relative to this origin.
        status_code: 301, 302, 303, 307 or 308.
        external: allow http and https URLs of other origins.

    Raises:
        ValueError: the location is not safe, or the status is no redirect.
    """

    def __init__(
        self, location: str, status_code: int = 302, headers: HeaderInput = None, *, external: bool = False
    ) -> None:
        if status_code not in (301, 302, 303, 307, 308):
            raise ValueError(f"{status_code} is no redirect status")
        super().__init__(b"", status_code, headers)
        self.headers["location"] = safe_location(location, external=external)


class StreamingResponse(Response):
    """A reply whose body is produced while it is sent.

    Args:
        content: sync or async iterable of str or bytes; a sync one is advanced in worker threads.
        status_code, headers, media_type: as `Response`.
    """

    def __init__(
        self, content: Any, status_code: int = 200, headers: HeaderInput = None, media_type: str | None = None
    ) -> None:
        super().__init__(b"", status_code, headers, media_type)
        self.body = self._encoded = stream_of(content)
        self._content = content

    @property
    def untouched(self) -> bool:
        """Whether its body is still the one that it was made with, which gives bytes."""
        return self.body is self._encoded

    @property
    def source(self) -> Any:
        """What delivery reads: it encodes the items by itself, so an async iterator needs no other one around it."""
        if self.untouched and hasattr(self._content, "__aiter__"):
            iterator = aiter(self._content)
            if hasattr(iterator, "__aiter__"):
                return iterator
        return self.body


def stream_of(content: Any) -> AsyncIterator[bytes]:
    """An async iterator of bytes over any sync or async iterable of str or bytes; closing it closes `content`."""
    if hasattr(content, "__aiter__"):
        return _Encoded(content)
    return _from_sync(iter(content))


def encode_piece(item: Any) -> bytes:
    """One item of a stream as bytes.

    Raises:
        TypeError: it is neither text nor bytes.
    """
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    raise TypeError(f"a stream yields str or bytes, not {type(item).__name__}")


_END = object()


class _Encoded(AsyncIterator[bytes]):
    # No generator: closing one that was never begun would not close what it stands for.
    def __init__(self, content: Any) -> None:
        self._content = content
        self._iterator: Any = None

    async def __anext__(self) -> bytes:
        if self._iterator is None:
            self._iterator = aiter(self._content)
        return encode_piece(await self._iterator.__anext__())

    async def aclose(self) -> None:
        """Close the content."""
        close = getattr(self._iterator or self._content, "aclose", None)
        if close is not None:
            await close()


async def _from_sync(iterator: Iterator[Any]) -> AsyncIterator[bytes]:
    items = items_of(iterator)
    try:
        async for item in items:
            yield encode_piece(item)
    finally:
        await items.aclose()  # type: ignore[attr-defined]


async def items_of(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    """The items of a sync iterator, each made in a worker thread; closing it closes `iterator`."""
    try:
        while (item := await anyio.to_thread.run_sync(next, iterator, _END)) is not _END:
            yield item
    finally:
        close: Callable[[], None] | None = getattr(iterator, "close", None)
        if close is not None:
            with anyio.CancelScope(shield=True):  # a generator's own clean-up must not be cut in half
                await anyio.to_thread.run_sync(close)


class FileResponse(Response):
    """A file, sent in pieces or by the server itself (`http.response.pathsend`).

    Args:
        path: the file. Never build it from client input without checking where it leads.
        status_code, headers: as `Response`.
        media_type: Content-Type; guessed from the name when None.
        filename: offer the file for download under this name.
        chunk_size: bytes per piece.

    Raises:
        FileNotFoundError: there is no such regular file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        status_code: int = 200,
        headers: HeaderInput = None,
        media_type: str | None = None,
        filename: str | None = None,
        chunk_size: int = 64 * 1024,
    ) -> None:
        self.path = os.path.abspath(path)
        if not os.path.isfile(self.path):
            raise FileNotFoundError(f"no such file: {self.path}")
        if media_type is None:
            import mimetypes

            media_type = mimetypes.guess_type(self.path)[0] or "application/octet-stream"
        super().__init__(b"", status_code, headers, media_type)
        stat = os.stat(self.path)
        self.headers["content-length"] = str(stat.st_size)
        if "etag" not in self.headers:
            self.headers["etag"] = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        if filename is not None:
            self.headers["content-disposition"] = content_disposition(filename)
        self.body = self._content = _read_file(self.path, chunk_size, stat.st_size)

    @property
    def untouched(self) -> bool:
        """Whether its body is still the file itself, which no middleware wrapped."""
        return self.body is self._content


def content_disposition(filename: str, kind: str = "attachment") -> str:
    """A Content-Disposition value (RFC 6266) that survives any file name."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    extra = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='', errors='replace')}"
    return f'{kind}; filename="{plain}"{extra}'


async def _read_file(path: str, chunk_size: int, size: int) -> AsyncIterator[bytes]:
    """The file, up to the size that was announced, however it grows meanwhile."""
    async with await anyio.open_file(path, "rb") as file:
        while size > 0 and (chunk := await file.read(min(chunk_size, size))):
            size -= len(chunk)
            yield chunk
