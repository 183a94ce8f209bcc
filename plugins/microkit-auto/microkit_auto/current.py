"""The call that is running, for `self.request`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextvars import ContextVar, Token
from typing import Any

from microkit import FileResponse, Reply, StreamingResponse
from microkit.http import HTTPConnection
from microkit.layers import Invoke

_current: ContextVar[HTTPConnection] = ContextVar("microkit_auto_call")


def current_call() -> HTTPConnection | None:
    """The HTTP request or WebSocket that the running code belongs to, if any."""
    return _current.get(None)


def within_call(invoke: Invoke) -> Invoke:
    """A plan's `invoke` during which the call is the current one, a streamed body included."""

    async def run(call: Any) -> Reply:
        token = _current.set(call)
        try:
            reply = await invoke(call)
        finally:
            _current.reset(token)
        if type(reply) is bytes:
            return reply
        # A file is the kernel's own stream: no handler runs in it, and a server may send it by itself.
        if type(reply.body) is not bytes and reply.streams and not isinstance(reply, FileResponse):
            # Nobody but delivery is around this, and it encodes the items by itself.
            items = reply.source if isinstance(reply, StreamingResponse) else reply.body
            reply.body = _Within(items, call)
        return reply

    return run


class _Within(AsyncIterator[Any]):
    """A stream during which a call is the current one, from its first step until it is closed.

    Whoever sends a stream closes it, in the task that has read it; a context variable needs that to be one task.
    """

    def __init__(self, items: Any, call: HTTPConnection) -> None:
        self._items = items
        self._iterator = aiter(items)
        self._call = call
        self._token: Token[HTTPConnection] | None = None

    def __anext__(self) -> Awaitable[Any]:  # no coroutine of its own: there may be many steps
        if self._token is None:
            self._token = _current.set(self._call)
        return self._iterator.__anext__()

    async def aclose(self) -> None:
        """Close the stream."""
        token = self._token or _current.set(self._call)
        try:
            close = getattr(self._items, "aclose", None)
            if close is not None:
                await close()
        finally:
            try:
                _current.reset(token)
            except ValueError:  # closed by another task than the one that read it, which has a context of its own
                pass
