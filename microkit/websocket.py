"""WebSockets (RFC 6455) over ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import anyio

from .call import Kind
from .codecs import json_dumps, json_loads
from .errors import ConnectionClosed, Forbidden
from .http import HTTPConnection
from .http.headers import encode_headers

_BUFFERED = 16  # messages that wait for the handler; beyond them the client is not read
_PATIENCE = 0.05  # seconds that a handler may be busy before somebody else looks whether its client is still there


class WebSocket(HTTPConnection):
    """One WebSocket, from handshake to close.

    Args:
        receive, send: ASGI callables.
        scope: ASGI scope of the handshake.

    Attributes:
        accepted: whether the handshake was accepted.
        closed: whether either side closed it.
        close_code: the code that it was closed with, once it is.
        session_id: session id given to `accept`, if any.
        max_message_size: bytes of one message; None for no limit.
    """

    kind = Kind.SOCKET
    max_message_size: int | None = None

    def __init__(
        self,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        scope: dict[str, Any] | None = None,
    ) -> None:
        self.scope = scope or {"type": "websocket", "path": "/", "query_string": b"", "headers": [], "subprotocols": []}
        self._receive = receive
        self._send_event = send
        self._messages: list[Any] = []  # few of them: smaller than a deque, and there may be many sockets
        self._reading = False  # somebody is in `receive` of the server: one task at a time
        self._waiting = 0  # tasks of the handler that wait for what that one brings
        self._arrived: anyio.Event | None = None
        self._space: anyio.Event | None = None
        self._idle: anyio.Event | None = None  # where the watch rests while the handler reads by itself
        self._watched = False
        self._told = False  # the handler knows that the connection is closed
        self._by_peer = False
        self.accepted = False
        self.closed = False
        self.close_code: int | None = None
        self.close_reason = ""
        self.session_id: str | None = None
        self._handler_scope: anyio.CancelScope | None = None

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers."""
        return list(self.scope.get("subprotocols", ()))

    def check_origin(self) -> None:
        """Refuse foreign origins: those outside `allowed_origins`; without that setting, those that send cookies.

        Raises:
            Forbidden: the handshake comes from a page of another origin.
        """
        origin = self.headers.get("origin")
        allowed = self.app.settings.allowed_origins
        if origin is None or (allowed is not None and ("*" in allowed or origin in allowed)):
            return
        own = f"{'https' if self.scope.get('scheme') == 'wss' else 'http'}://{self.headers.get('host', '')}"
        if origin.lower() != own.lower() and (allowed is not None or "cookie" in self.headers):
            raise Forbidden("WebSocket connections from this origin are not accepted.")

    async def accept(
        self,
        subprotocol: str | None = None,
        session_id: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        """Accept the handshake.

        Args:
            subprotocol: one of `subprotocols`.
            session_id: set as the session cookie.
            headers: extra fields of the handshake's response.

        Raises:
            RuntimeError: it was answered already.
            ConnectionClosed: the client left before.
            ValueError: the client did not offer the subprotocol.
        """
        if self.closed and self._by_peer:
            raise ConnectionClosed(self.close_code or 1006, self.close_reason)
        if self.accepted or self.closed:
            raise RuntimeError("the handshake was answered already")
        if subprotocol is not None and subprotocol not in self.subprotocols:
            raise ValueError(f"the client does not offer the subprotocol {subprotocol!r}")
        raw = encode_headers(headers or ())
        if session_id is not None:
            from .http.cookies import format_cookie

            secure = self.scope.get("scheme") == "wss"
            cookie = format_cookie("session_id", session_id, secure=secure, http_only=True)
            raw.append((b"set-cookie", cookie.encode("latin-1")))
            self.session_id = session_id
        self.accepted = True
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": raw})

    # -- receiving -----------------------------------------------------------------------------------------------------

    async def receive(self) -> str | bytes:
        """The next message.

        Raises:
            ConnectionClosed: the connection is closed and nothing is left to read.
            RuntimeError: it was not accepted yet.
        """
        if not self.accepted:
            raise RuntimeError("accept the WebSocket before receiving")
        while not self._messages:
            if self.closed:
                raise self._end()
            if not self._reading:
                await self._read()
            else:
                self._waiting += 1
                self._arrived = self._arrived or anyio.Event()
                try:
                    await self._arrived.wait()
                finally:
                    self._waiting -= 1
        if self._space is not None:
            self._space.set()
            self._space = None
        return self._messages.pop(0)

    async def _read(self) -> None:
        """Take the next event of the server, for whoever wants it."""
        self._reading = True
        try:
            event = await self._receive()
        finally:
            self._reading = False
            if self._arrived is not None:
                self._arrived.set()
                self._arrived = None
            if self._idle is not None:  # also if this was given up: the handler may be busy from now on
                self._idle.set()
        if event["type"] == "websocket.disconnect":
            self._closed_by_peer(event)
        elif event["type"] == "websocket.receive":
            text = event.get("text")
            message = event["bytes"] if text is None else text
            limit = self.max_message_size
            if limit is not None and len(message) * 4 > limit and _size(message) > limit:
                with suppress(OSError):  # whoever reads hears that it is closed, not that nobody is there to be told
                    await self._close(1009, "message too big")
            else:
                self._messages.append(message)

    def _closed_by_peer(self, event: dict[str, Any]) -> None:
        self.closed = self._by_peer = True
        if self.close_code is None:
            self.close_code = event.get("code") or 1005
            self.close_reason = event.get("reason") or ""

    async def watch(self) -> None:
        """Cancel the handler when the client leaves while it is busy with something else than reading.

        A handler that waits for a message reads from the server itself, which costs no task switch. This reads in its
        place, ahead of it, once it has not done so for a moment.
        """
        while not self._by_peer and self.close_code != 1009:
            await anyio.sleep(_PATIENCE)
            if self._reading or self._waiting:
                self._idle = anyio.Event()
                await self._idle.wait()
                self._idle = None
                continue
            while not self._waiting and not self._by_peer and self.close_code != 1009:
                while len(self._messages) >= _BUFFERED:
                    self._space = anyio.Event()
                    await self._space.wait()
                if self._reading:
                    break
                await self._read()
        self.cancel_if_abandoned()
        # Whatever it is about, it does not outlive its client for long.
        await anyio.sleep(self.app.settings.teardown_timeout)
        if self._handler_scope is not None:
            self._handler_scope.cancel()

    def cancel_if_abandoned(self) -> None:
        """Cancel the handler if the connection is closed and it will not find out by itself.

        One that waits for a message gets ConnectionClosed; one with messages to read may read them first; one that is
        busy with something else is cancelled.
        """
        abandoned = self.closed and not (self._told or self._waiting or self._messages)
        if abandoned and self._watched and self._handler_scope is not None:
            self._handler_scope.cancel()

    async def receive_text(self) -> str:
        """The next message, which must be text.

        Raises:
            ConnectionClosed: the connection is closed.
            ValueError: the message is binary.
        """
        message = await self.receive()
        if not isinstance(message, str):
            raise ValueError("the client sent a binary message where text was expected")
        return message

    async def receive_bytes(self) -> bytes:
        """The next message, which must be binary.

        Raises:
            ConnectionClosed: the connection is closed.
            ValueError: the message is text.
        """
        message = await self.receive()
        if not isinstance(message, bytes):
            raise ValueError("the client sent a text message where a binary one was expected")
        return message

    async def receive_json(self) -> Any:
        """The value of the next message, text or binary.

        Raises:
            ConnectionClosed: the connection is closed.
            ValueError: it is no JSON.
        """
        message = await self.receive()
        return json_loads(message.encode() if isinstance(message, str) else message)

    # An iterator, not a generator: one that is left early needs no closing, which trio would ask for with a warning.
    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """The messages until the connection is closed."""
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    # -- sending -------------------------------------------------------------------------------------------------------

    async def send_text(self, data: str) -> None:
        """Send text.

        Raises:
            RuntimeError: not accepted yet.
            ConnectionClosed: the connection is closed.
        """
        self._check_open()
        await self._send({"type": "websocket.send", "text": data})

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes. Raises as `send_text`."""
        self._check_open()
        await self._send({"type": "websocket.send", "bytes": data})

    async def send_json(self, data: Any) -> None:
        """Send a value as JSON text. Raises as `send_text`, and TypeError if it has no JSON form."""
        await self.send_text(json_dumps(data).decode())

    async def _send(self, event: dict[str, Any]) -> None:
        try:
            await self._send_event(event)
        except OSError as exc:  # how ASGI servers tell that the client is gone
            self._closed_by_peer({"code": 1006})
            raise self._end() from exc

    def _check_open(self) -> None:
        if not self.accepted:
            raise RuntimeError("accept the WebSocket before sending")
        if self.closed:
            raise self._end()

    def _end(self) -> ConnectionClosed:
        """What tells the handler that the connection is closed."""
        self._told = True
        return ConnectionClosed(self.close_code or 1006, self.close_reason)

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close; before accept this rejects the handshake. A second close does nothing.

        Args:
            code: 1000, 1001, 1003, 1007 to 1014, or 3000 to 4999 (RFC 6455 section 7.4).
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: the code cannot be sent, or the reason is too long.
        """
        if code not in _SENDABLE and not 3000 <= code <= 4999:
            raise ValueError(f"{code} is no close code that can be sent")
        if reason is not None and len(reason.encode()) > 123:
            raise ValueError("a close reason has at most 123 bytes")
        if self.closed:
            return
        try:
            await self._close(code, reason or "")
        except OSError as exc:
            self._closed_by_peer({})
            raise self._end() from exc

    async def _close(self, code: int, reason: str) -> None:
        self.closed = True
        self.close_code, self.close_reason = code, reason
        await self._send_event({"type": "websocket.close", "code": code, "reason": reason})


def _size(message: str | bytes) -> int:
    return len(message) if isinstance(message, bytes) else len(message.encode())


_SENDABLE = frozenset({1000, 1001, 1003, *range(1007, 1015)})
