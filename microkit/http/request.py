"""The HTTP request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from .._deadline import expiring, within
from ..call import MISSING, Kind
from ..codecs import is_json, json_loads
from ..errors import BadRequest, ClientDisconnect, PayloadTooLarge, RequestTimeout
from .connection import HTTPConnection
from .headers import encode_headers

Receive = Callable[[], Awaitable[Any]]


class Request(HTTPConnection):
    """An HTTP request. Made by the app for each request; made by hand for `app.handle(...)`.

    Args:
        method: HTTP method.
        url: absolute URL or path, with query.
        headers: header fields.
        body: bytes of the body.
    """

    kind = Kind.HTTP
    receive: Receive
    _body: bytes | None = None
    _json: Any = MISSING
    _started = False

    def __init__(
        self,
        method: str = "GET",
        url: Any = "/",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method.upper(),
            "headers": encode_headers(headers),
            "root_path": "",
            "client": None,
            "server": None,
        }
        self.url = url
        self._body = body

    @property
    def method(self) -> str:
        """The method, in upper case."""
        return self.scope["method"]

    @property
    def content_type(self) -> str:
        """The Content-Type header, or an empty string."""
        return self.headers.get("content-type", "")

    @property
    def max_body_size(self) -> int | None:
        """The bound of the body in bytes: the binding's option, else the setting; None is none."""
        plan = self.__dict__.get("plan")
        if plan is None:
            return None
        option = plan.options.get("max_body_size", MISSING)
        return self.app.settings.max_body_size if option is MISSING else option

    def _declared_length(self) -> int | None:
        lengths = self.headers.getlist("content-length")
        if not lengths:
            return None
        if len(set(lengths)) > 1 or not lengths[0].isascii() or not lengths[0].isdigit() or len(lengths[0]) > 18:
            raise BadRequest("The Content-Length header is not valid.")
        return int(lengths[0])

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive, at most `max_body_size` bytes in all.

        Raises:
            ClientDisconnect: the client went away before the end.
            PayloadTooLarge: the body is over its bound.
            BadRequest: its length differs from Content-Length.
            RuntimeError: the stream was already read.
        """
        if self._body is not None:
            yield self._body
            return
        if self._started:
            raise RuntimeError("the body stream was already read; use `await request.body()` to read it repeatedly")
        self._started = True
        limit, declared, size = self.max_body_size, self._declared_length(), 0
        if limit is not None and declared is not None and declared > limit:
            raise PayloadTooLarge(f"The body is over the limit of {limit} bytes.")
        more = True
        while more:
            event = await self.receive()
            if event["type"] == "http.disconnect":
                # The end of a connection is never the end of a body: half an input must not be acted on.
                raise ClientDisconnect("the client disconnected before its request was complete")
            chunk = event.get("body", b"")
            more = event.get("more_body", False)
            size += len(chunk)
            if limit is not None and size > limit:
                raise PayloadTooLarge(f"The body is over the limit of {limit} bytes.")
            if chunk:
                yield chunk
        if declared is not None and declared != size:
            raise BadRequest("The body does not have the length that Content-Length says.")

    async def body(self) -> bytes:
        """The whole body; may be called repeatedly.

        Raises:
            RequestTimeout: the client took longer than the setting `body_timeout`.
            ClientDisconnect, PayloadTooLarge, BadRequest: as `stream`.
        """
        if self._body is None:
            timeout = self.app.settings.body_timeout
            try:
                self._body = await within(expiring(timeout), self._read()) if timeout else await self._read()
            except TimeoutError:
                raise RequestTimeout(f"The request was not complete within {timeout:g} seconds.") from None
        return self._body

    async def _read(self) -> bytes:
        pieces = [piece async for piece in self.stream()]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def text(self) -> str:
        """The body as UTF-8 text.

        Raises:
            BadRequest: it is no UTF-8.
        """
        try:
            return (await self.body()).decode()
        except UnicodeDecodeError:
            raise BadRequest("The body is not valid UTF-8.") from None

    async def json(self) -> Any:
        """The parsed JSON body, whatever the content type says; may be called repeatedly.

        Raises:
            BadRequest: it is no JSON.
        """
        if self._json is MISSING:
            try:
                self._json = json_loads(await self.body())
            except ValueError:
                raise BadRequest("The body is not valid JSON.") from None
        return self._json

    @property
    def is_json(self) -> bool:
        """Whether the content type is JSON."""
        return is_json(self.content_type)

    async def disconnected(self) -> None:
        """Return when the client went away; discards what is left of the body."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
