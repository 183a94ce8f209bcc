"""The HTTP request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from time import monotonic
from typing import Any

import anyio

from microkit._deadline import limited
from microkit.call import MISSING, Kind
from microkit.codecs import is_json, json_loads
from microkit.errors import BadRequest, ClientDisconnect, PayloadTooLarge, RequestTimeout

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
    _complete = False
    _size = 0
    _limit: int | None
    _declared: int | None
    _patience: float | None
    _failure: Exception | None = None

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
        given = [pair for pair in self.scope["headers"] if pair[0] == b"host"]
        self.url = url
        if given:
            self.scope["headers"] = [pair for pair in self.scope["headers"] if pair[0] != b"host"] + given
        self._body = body
        self.receive = _wait_for_the_end

    @property
    def content_type(self) -> str:
        """The Content-Type header, or an empty string."""
        return self.headers.get("content-type", "")

    @property
    def max_body_size(self) -> int | None:
        """The bound of the body in bytes: the binding's option, else the setting; None is none."""
        plan = self.__dict__.get("plan")
        return None if plan is None else plan.max_body_size

    @property
    def body_timeout(self) -> float | None:
        """Seconds that the client may be waited for while the body is read: option, else setting; None is none."""
        plan = self.__dict__.get("plan")
        return None if plan is None else plan.body_timeout

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive, at most `max_body_size` bytes in all.

        The time that is spent waiting for the client is bounded as a whole, by `body_timeout`.

        Raises:
            ClientDisconnect: the client went away before the end.
            PayloadTooLarge: the body is over its bound.
            RequestTimeout: the client took longer than `body_timeout`.
            BadRequest: its length differs from Content-Length.
            RuntimeError: the stream was already read.
        """
        if self._body is not None:
            yield self._body
            return
        self._begin()
        while not self._complete:
            if piece := await self._piece():
                yield piece

    async def body(self) -> bytes:
        """The whole body; may be called repeatedly.

        Raises:
            RequestTimeout, ClientDisconnect, PayloadTooLarge, BadRequest: as `stream`, again at each call.
        """
        if self._body is None:
            self._begin()
            body = await self._piece()
            if not self._complete:
                pieces = [body]
                while not self._complete:
                    pieces.append(await self._piece())  # no comprehension can end by a flag
                body = b"".join(pieces)
            self._body = body
        return self._body

    def _begin(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._started:
            raise RuntimeError("the body stream was already read; use `await request.body()` to read it repeatedly")
        self._started = True
        self._limit, self._declared = self.max_body_size, self._declared_length()
        self._patience = self.body_timeout or None
        if self._limit is not None and self._declared is not None and self._declared > self._limit:
            raise self._too_large()

    def _declared_length(self) -> int | None:
        lengths = self.headers.getlist("content-length")
        if not lengths:
            return None
        length = lengths[0]
        if not (length.isdigit() and length.isascii() and len(length) < 19 and lengths.count(length) == len(lengths)):
            raise self._fail(BadRequest("The Content-Length header is not valid.", self._close()))
        return int(length)

    async def _piece(self) -> bytes:
        """What one event brings; sets `_complete` with the last one."""
        if self._patience is None:
            event = await self.receive()
        else:
            if self._patience <= 0:
                raise self._too_slow()
            around = self.app.runtime.innermost_scope()
            waiting = self.receive().__await__()
            try:
                trap = next(waiting)
            except StopIteration as done:  # it was there already
                event = done.value
            else:
                event = await self._wait(waiting, trap, around)
        if event["type"] == "http.disconnect":
            # The end of a connection is never the end of a body: half an input must not be acted on.
            raise self._fail(ClientDisconnect("the client disconnected before its request was complete"))
        piece: bytes = event.get("body", b"")
        self._size += len(piece)
        if self._limit is not None and self._size > self._limit:
            raise self._too_large()
        if not event.get("more_body", False):
            if self._declared is not None and self._declared != self._size:
                text = "The body does not have the length that Content-Length says."
                raise self._fail(BadRequest(text, self._close()))
            self._complete = True
        return piece

    async def _wait(self, waiting: Any, trap: Any, around: object) -> Any:
        """The event that `receive` is waiting for, within what is left of the time that the client has."""
        assert self._patience is not None
        began = monotonic()
        try:
            event = await limited(self._patience, waiting, trap, around)
        except TimeoutError:
            raise self._too_slow() from None
        self._patience -= monotonic() - began
        return event

    def _too_slow(self) -> Exception:
        text = f"The request was not complete within {self.body_timeout:g} seconds."
        return self._fail(RequestTimeout(text, self._close()))

    def _too_large(self) -> Exception:
        return self._fail(PayloadTooLarge(f"The body is over the limit of {self._limit} bytes.", self._close()))

    def _fail(self, exc: Exception) -> Exception:
        self._failure = exc
        return exc

    def _close(self) -> list[tuple[str, str]]:
        """What ends a connection whose client may still be sending; HTTP/2 has no such header."""
        return [("connection", "close")] if self.scope.get("http_version", "1.1").startswith("1") else []

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

    @property
    def fully_read(self) -> bool:
        """Whether no part of the body is still to come, so that what the server tells next is the disconnect."""
        if self._started or self._body is not None:
            return self._complete or self._body is not None
        for name, value in self.scope["headers"]:
            if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
                return False
        # HTTP/2 needs neither header for a body.
        return self.scope.get("http_version", "1.1").startswith("1") or self.method in ("GET", "HEAD", "OPTIONS")

    async def disconnected(self) -> None:
        """Return when the client went away; discards what is left of the body."""
        while (await self.receive())["type"] != "http.disconnect":
            pass


async def _wait_for_the_end() -> Any:
    """What a request made by hand receives: its client never leaves."""
    await anyio.sleep_forever()
