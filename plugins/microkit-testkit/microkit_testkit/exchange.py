"""One HTTP exchange with an application, through its ASGI interface."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel

from microkit import App
from microkit.errors import StreamAborted
from microkit.http.headers import Headers

from .failures import capture_failures
from .responses import ConnectionCut, Response
from .tasks import Items, Task


class ProtocolError(AssertionError):
    """The application broke the ASGI protocol; a bug of the framework, never of a handler."""


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise ProtocolError(problem)


class Exchange:
    """The server's side of one request: it feeds the body and takes the messages of the application.

    Args:
        app: the application.
        scope: ASGI scope of the request.
        body: the whole body, or its pieces.
        sink: takes each piece of the response's body; None collects them.
    """

    def __init__(
        self, app: App, scope: dict[str, Any], body: bytes | AsyncIterable[bytes], sink: Any | None = None
    ) -> None:
        self.app = app
        self.scope = scope
        self.status = 0
        self.headers = Headers([])
        self.chunks: list[bytes] = []
        self.failures: list[BaseException] = []
        self.aborted = False
        self.started = anyio.Event()
        self._complete = False
        self._gone = anyio.Event()
        self._body = _pieces(body)
        self._sent_all = False
        self._sink = sink
        self._size = 0

    async def run(self) -> None:
        """Run the application until it has done everything for this request, background tasks included."""
        try:
            with capture_failures() as self.failures:
                await self.app(self.scope, self._receive, self._send)
        except StreamAborted:
            self.aborted = True
        finally:
            self.started.set()
            await self._body.aclose()
            if self._sink is not None:
                self._sink.close()
        _check(self._complete or self.aborted or self._gone.is_set(), "the application ended without a full response")

    def disconnect(self) -> None:
        """The client goes away: the application is told so, and what it still sends goes nowhere."""
        self._gone.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._sent_all and not self._gone.is_set():
            piece = await anext(self._body, None)
            if piece is not None:
                body, more = piece
                self._sent_all = not more
                return {"type": "http.request", "body": body, "more_body": more}
            self._sent_all = True
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        _check(not self._complete, f"{kind} was sent after the end of the response")
        if kind == "http.response.start":
            _check(not self.started.is_set(), "the response was started twice")
            self._start(message)
            await anyio.lowlevel.checkpoint()
            return
        _check(kind == "http.response.body", f"{kind} is no message of an HTTP response")
        _check(self.started.is_set(), "a body was sent before the start of the response")
        body, more = message.get("body", b""), message.get("more_body", False)
        _check(type(body) is bytes, f"a body is {type(body).__name__}, not bytes")
        self._size += len(body)
        if self._gone.is_set():
            await anyio.lowlevel.checkpoint()  # a server goes on, too, and the application learns of it by `receive`
        else:
            await self._take(body)
        if not more:
            self._check_length()
            self._complete = True
            self._gone.set()  # the exchange is over: whoever waits for a disconnect gets it
            if self._sink is not None:
                self._sink.close()

    def _start(self, message: dict[str, Any]) -> None:
        self.status = message["status"]
        raw = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        for name, _ in raw:
            _check(name == name.lower(), f"the header {name!r} is not in lower case")
        self.headers = Headers(raw)
        _check(len(self.headers.getlist("content-length")) < 2, "the response has several lengths")
        self.started.set()

    async def _take(self, body: bytes) -> None:
        if self._sink is None:
            self.chunks.append(body)
            await anyio.lowlevel.checkpoint()
        elif body:
            try:
                await self._sink.send(body)
            except anyio.BrokenResourceError:
                self._gone.set()

    def _check_length(self) -> None:
        head = self.scope["method"] == "HEAD"
        if head or self.status in (204, 304):
            _check(self._size == 0, f"the response to {'HEAD' if head else self.status} has a body")
            return
        length = self.headers.get("content-length")
        _check(
            length is None or int(length) == self._size or self._gone.is_set(),
            f"the response has {self._size} bytes, but declares {length}",
        )

    def response(self, url: str) -> Response:
        """What the client got; all of it, if `run` has ended."""
        return Response(
            status_code=self.status,
            headers=self.headers,
            content=b"".join(self.chunks),
            url=url,
            error=self.failures[0] if self.failures else None,
        )

    def raise_failure(self, response: Response, *, original: bool) -> None:
        """Raise what went wrong.

        Args:
            original: raise the exception behind a reply of status 500 or above.

        Raises:
            Exception: the exception that the application logged.
            ConnectionCut: the response was cut off.
        """
        if original and self.failures and (self.aborted or self.status >= 500):
            raise self.failures[0]
        if self.aborted:
            raise ConnectionCut(response)


async def _pieces(body: bytes | AsyncIterable[bytes]) -> AsyncGenerator[tuple[bytes, bool], None]:
    if isinstance(body, bytes):
        yield body, False
        return
    async for piece in body:
        yield piece, True
    yield b"", False


class StreamedResponse:
    """A response that is read while it is made; the block of `client.stream(...)`. Leaving the block early disconnects.

    Attributes:
        status_code, headers: of the response.
    """

    def __init__(self, app: App, scope: dict[str, Any], body: Any, url: str, *, original: bool, done: Any) -> None:
        sink, self._source = anyio.create_memory_object_stream[bytes](0)
        self._exchange = Exchange(app, scope, body, sink)
        self._task = Task(self._exchange.run)
        self._url = url
        self._original = original
        self._done = done
        self._rest = b""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        return self._exchange.status

    @property
    def headers(self) -> Headers:
        """The header fields."""
        return self._exchange.headers

    async def __aenter__(self) -> Self:
        await self._task.start()
        await self._exchange.started.wait()
        if not self._exchange.status:
            await self._task.stop()
            self._finish()
        self._done(self._exchange.response(self._url))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool:
        complete = self._exchange._complete
        await self.disconnect()
        swallowed = await self._task.stop(exc)
        if exc is None and (complete or self._exchange.aborted):
            self._finish()
        return swallowed

    def _finish(self) -> None:
        self._exchange.raise_failure(self._exchange.response(self._url), original=self._original)

    async def receive(self) -> bytes | None:
        """The next piece of the body; None at its end.

        Raises:
            Exception: the response was cut off; the exception that the application logged, or `ConnectionCut`.
        """
        try:
            return await self._source.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            if not self._exchange._complete and not self._exchange._gone.is_set():
                await self._task.ended.wait()
                self._finish()
            return None

    def chunks(self) -> AsyncIterator[bytes]:
        """The pieces of the body, as the application sends them; it waits until each is taken."""
        return Items(self._next_chunk)

    async def _next_chunk(self) -> bytes:
        chunk = await self.receive()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def lines(self) -> AsyncIterator[str]:
        """The lines of a text body, without their ends."""
        return Items(self._next_line)

    async def _next_line(self) -> str:
        while b"\n" not in self._rest:
            chunk = await self.receive()
            if chunk is None:
                break
            self._rest += chunk
        if not self._rest:
            raise StopAsyncIteration
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode().removesuffix("\r")

    async def read(self) -> bytes:
        """The rest of the body."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def disconnect(self) -> None:
        """Go away before the end."""
        self._exchange.disconnect()
        self._source.close()
