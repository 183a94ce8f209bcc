"""One WebSocket to an application, through its ASGI interface."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, NoReturn, Self

import anyio

from microkit import App, ConnectionClosed
from microkit.codecs import json_dumps, json_loads
from microkit.http.headers import Headers

from .failures import capture_failures
from .responses import Response
from .tasks import Items, Task


class HandshakeRejected(ConnectionClosed):
    """The application did not accept the WebSocket.

    Attributes:
        code, reason: the close code and reason.
        response: the HTTP response that a client sees; 403 without a body if the application only closed.
    """

    def __init__(self, code: int, reason: str, response: Response) -> None:
        super().__init__(code, reason)
        self.response = response


class WebSocketSession:
    """A WebSocket; the block of `client.websocket(...)`. Leaving the block closes it.

    Attributes:
        subprotocol: the one that the application chose.
        headers: fields of the handshake's response.
        close_code, close_reason: how it was closed, once it is.
    """

    def __init__(self, app: App, scope: dict[str, Any], url: str, *, original: bool, done: Any) -> None:
        self._app = app
        self._scope = scope
        self._url = url
        self._original = original
        self._done = done
        self._to_app, self._app_receives = anyio.create_memory_object_stream[dict[str, Any]](float("inf"))
        self._app_sends, self._from_app = anyio.create_memory_object_stream[dict[str, Any]](float("inf"))
        self._task = Task(self._run)
        self._failures: list[BaseException] = []
        self.subprotocol: str | None = None
        self.headers = Headers([])
        self.close_code: int | None = None
        self.close_reason = ""

    async def _run(self) -> None:
        with self._app_receives, self._app_sends, capture_failures() as self._failures:
            await self._app(self._scope, self._app_receives.receive, self._send)

    async def _send(self, message: dict[str, Any]) -> None:
        await self._app_sends.send(message)

    async def __aenter__(self) -> Self:
        await self._task.start()
        self._to_app.send_nowait({"type": "websocket.connect"})
        try:
            message = await self._from_app.receive()
        except anyio.EndOfStream:
            await self._task.stop()
            raise AssertionError("the application ended without an answer to the handshake") from None
        if message["type"] == "websocket.accept":
            self.subprotocol = message.get("subprotocol")
            self.headers = Headers(list(message.get("headers", ())))
            self._done(self._response(101, self.headers, b""))
            return self
        return await self._reject(message)

    async def _reject(self, message: dict[str, Any]) -> NoReturn:
        code, reason = message.get("code", 1006), message.get("reason") or ""
        status, headers, body = 403, Headers([]), b""
        if message["type"] == "websocket.http.response.start":
            status, headers = message["status"], Headers(list(message["headers"]))
            more = True
            while more:
                part = await self._from_app.receive()
                body += part.get("body", b"")
                more = part.get("more_body", False)
        self._leave(code)
        await self._task.stop()
        self._close()
        if self._original and self._failures and status >= 500:
            raise self._failures[0]
        response = self._response(status, headers, body)
        self._done(response)
        raise HandshakeRejected(code, reason, response)

    def _response(self, status: int, headers: Headers, body: bytes) -> Response:
        return Response(status, headers, body, self._url, error=self._failures[0] if self._failures else None)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._leave(1000)
        try:
            swallowed = await self._task.stop(exc)
        finally:
            self._close()
        if exc is None and self._original and self._failures:
            raise self._failures[0]
        return swallowed

    def _leave(self, code: int, reason: str = "") -> None:
        try:
            self._to_app.send_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the application has ended

    def _close(self) -> None:
        self._to_app.close()
        self._from_app.close()

    # -- talking -------------------------------------------------------------------------------------------------------

    async def send_text(self, data: str) -> None:
        """Send text. Raises ConnectionClosed if the connection is closed."""
        self._put({"type": "websocket.receive", "text": data})

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes. Raises ConnectionClosed if the connection is closed."""
        self._put({"type": "websocket.receive", "bytes": data})

    async def send_json(self, data: Any) -> None:
        """Send a value as JSON text. Raises ConnectionClosed if the connection is closed."""
        await self.send_text(json_dumps(data).decode())

    def _put(self, message: dict[str, Any]) -> None:
        try:
            self._to_app.send_nowait(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ConnectionClosed(self.close_code or 1006, self.close_reason) from None

    async def receive(self) -> str | bytes:
        """The next message.

        Raises:
            ConnectionClosed: the application closed the connection.
            Exception: its handler failed, if the client raises server exceptions.
        """
        if self.close_code is not None:
            raise ConnectionClosed(self.close_code, self.close_reason)
        try:
            message = await self._from_app.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            raise ConnectionClosed(1006) from None
        if message["type"] == "websocket.close":
            self.close_code, self.close_reason = message.get("code", 1000), message.get("reason") or ""
            if self._original and self._failures:
                raise self._failures[0]
            raise ConnectionClosed(message.get("code", 1000), self.close_reason)
        text = message.get("text")
        return message["bytes"] if text is None else text

    async def receive_text(self) -> str:
        """The next message, which must be text. Raises as `receive`."""
        message = await self.receive()
        assert isinstance(message, str), f"the application sent bytes: {message!r}"
        return message

    async def receive_bytes(self) -> bytes:
        """The next message, which must be binary. Raises as `receive`."""
        message = await self.receive()
        assert isinstance(message, bytes), f"the application sent text: {message!r}"
        return message

    async def receive_json(self) -> Any:
        """The value of the next message. Raises as `receive`."""
        message = await self.receive()
        return json_loads(message.encode() if isinstance(message, str) else message)

    def messages(self) -> AsyncIterator[str | bytes]:
        """The messages until the application closes."""
        return Items(self._next)

    async def _next(self) -> str | bytes:
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def wait_closed(self) -> int:
        """Wait until the application closes, and drop what it sends before. Returns the close code."""
        async for _ in self.messages():
            pass
        assert self.close_code is not None, "the application ended without closing the connection"
        return self.close_code

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close from the client's side; the application is told so."""
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
            self._leave(code, reason)

    async def vanish(self) -> None:
        """Go away without a close frame, as when the network is cut."""
        await self.close(1006)
