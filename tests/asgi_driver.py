"""Drives an ASGI application by its own interface: scopes, scripted events, recorded answers. No server, no client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anyio

Event = dict[str, Any]
_LEFT: Event = {"type": "http.disconnect"}


class Hang:
    """In a script of events: wait here for good, or until the exchange is told that the client left."""


HANG = Hang()


def body(data: bytes, *, more: bool = False) -> Event:
    """A piece of a request's body."""
    return {"type": "http.request", "body": data, "more_body": more}


def http_scope(
    method: str = "GET",
    target: str = "/",
    headers: Iterable[tuple[bytes, bytes]] | Mapping[str, str] = (),
    **changes: Any,
) -> dict[str, Any]:
    """The scope of a request, as a server makes it."""
    from urllib.parse import unquote

    path, _, query = target.partition("?")
    if isinstance(headers, Mapping):
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8000),
        **changes,
    }


class Exchange:
    """One request and what came back.

    Attributes:
        sent: every event that the application sent.
        received: how many events it took from the script.
        error: what it raised to its server, if anything.
    """

    def __init__(self, app: Any, scope: dict[str, Any], events: Iterable[Any] = ()) -> None:
        self.app = app
        self.scope = scope
        self.sent: list[Event] = []
        self.received = 0
        self.error: BaseException | None = None
        self.on_send: Callable[[Event], Any] | None = None
        self._events = list(events)
        self._left = anyio.Event()
        self.started = anyio.Event()

    def leave(self) -> None:
        """The client goes away."""
        self._left.set()

    async def _receive(self) -> Event:
        if self._events and not isinstance(self._events[0], Hang):
            self.received += 1
            return self._events.pop(0)
        await self._left.wait()
        return _LEFT

    async def _send(self, event: Event) -> None:
        if self.on_send is not None:
            await self.on_send(event)
        self.sent.append(event)
        self.started.set()

    async def run(self) -> Exchange:
        """Run it to its end; an exception of the application is kept in `error`."""
        try:
            with anyio.fail_after(60):
                await self.app(self.scope, self._receive, self._send)
        except Exception as exc:
            self.error = exc
        return self

    @property
    def start(self) -> Event:
        starts = [event for event in self.sent if event["type"] == "http.response.start"]
        assert len(starts) == 1, self.sent
        return starts[0]

    @property
    def status(self) -> int:
        return self.start["status"]

    @property
    def headers(self) -> dict[str, str]:
        """The header fields; that none is sent twice is asserted, but for Set-Cookie."""
        names = [name for name, _ in self.start["headers"] if name != b"set-cookie"]
        assert len(names) == len(set(names)), names
        return {name.decode(): value.decode("latin-1") for name, value in self.start["headers"]}

    def all_headers(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self.start["headers"] if key == name.encode()]

    @property
    def pieces(self) -> list[bytes]:
        """The bodies of all body events but an empty last one."""
        found = [event.get("body", b"") for event in self.sent if event["type"] == "http.response.body"]
        return found[:-1] if found and not found[-1] else found

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def complete(self) -> bool:
        """Whether the end marker was sent, and nothing after it."""
        return self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body", False)


async def request(
    app: Any,
    method: str = "GET",
    target: str = "/",
    headers: Iterable[tuple[bytes, bytes]] | Mapping[str, str] = (),
    data: bytes = b"",
    events: Iterable[Any] | None = None,
    **changes: Any,
) -> Exchange:
    """One whole exchange."""
    events = [body(data)] if events is None else events
    return await Exchange(app, http_scope(method, target, headers, **changes), events).run()


class Socket:
    """One WebSocket seen from its client.

    Attributes:
        sent: every event that the application sent.
        error: what it raised to its server, if anything.
    """

    def __init__(self, app: Any, target: str = "/", headers: Mapping[str, str] | None = None, **changes: Any) -> None:
        scope = http_scope("GET", target, headers or {}, **changes)
        del scope["method"]
        self.app = app
        self.scope = {"subprotocols": [], "extensions": {}, **scope, "type": "websocket"}
        self.scope["scheme"] = changes.get("scheme", "ws")
        self.sent: list[Event] = []
        self.error: BaseException | None = None
        self.on_send: Callable[[Event], Any] | None = None
        self._to_app, self._app_receives = anyio.create_memory_object_stream[Event](1000)
        self._to_app.send_nowait({"type": "websocket.connect"})
        self._news = anyio.Event()
        self.done = anyio.Event()

    async def run(self) -> Socket:
        """Run it to its end; an exception of the application is kept in `error`."""
        try:
            with anyio.fail_after(60):
                await self.app(self.scope, self._app_receives.receive, self._send)
        except Exception as exc:
            self.error = exc
        finally:
            self._to_app.close()
            self._app_receives.close()
            self.done.set()
            self._news.set()
        return self

    async def _send(self, event: Event) -> None:
        if self.on_send is not None:
            await self.on_send(event)
        self.sent.append(event)
        self._news.set()

    def say(self, data: str | bytes) -> None:
        """The client sends a message."""
        key, other = ("text", "bytes") if isinstance(data, str) else ("bytes", "text")
        self.give({"type": "websocket.receive", key: data, other: None})

    def give(self, event: Event) -> None:
        self._to_app.send_nowait(event)

    def leave(self, code: int = 1001, reason: str = "") -> None:
        """The client goes away."""
        self.give({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that the application sends makes `condition` true."""
        with anyio.fail_after(60):
            while not condition():
                assert not self.done.is_set(), (self.sent, self.error)
                self._news = anyio.Event()
                await self._news.wait()

    @property
    def untaken(self) -> int:
        """How many events the application has not taken yet."""
        return self._app_receives.statistics().current_buffer_used

    @property
    def accepted(self) -> bool:
        return any(event["type"] == "websocket.accept" for event in self.sent)

    @property
    def messages(self) -> list[str | bytes]:
        """What the application sent as messages."""
        return [
            event["text"] if event.get("text") is not None else event["bytes"]
            for event in self.sent
            if event["type"] == "websocket.send"
        ]

    @property
    def close(self) -> tuple[int, str]:
        closes = [event for event in self.sent if event["type"] == "websocket.close"]
        assert len(closes) == 1, self.sent
        return closes[0].get("code", 1000), closes[0].get("reason") or ""


async def socket(app: Any, target: str = "/", headers: Mapping[str, str] | None = None, **changes: Any) -> Socket:
    """One whole WebSocket whose client says nothing."""
    return await Socket(app, target, headers, **changes).run()
