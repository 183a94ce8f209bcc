"""The call that is running, for `self.request`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

from microkit import FileResponse, Reply
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
            reply.body = _Within(reply.body, call)
        return reply

    return run


class _Within(AsyncIterator[Any]):
    """A stream during each step of which a call is the current one."""

    def __init__(self, items: Any, call: HTTPConnection) -> None:
        self._items = items
        self._iterator = aiter(items)
        self._call = call

    async def __anext__(self) -> Any:
        token = _current.set(self._call)
        try:
            return await anext(self._iterator)
        finally:
            _current.reset(token)

    async def aclose(self) -> None:
        """Close the stream."""
        close = getattr(self._items, "aclose", None)
        if close is not None:
            token = _current.set(self._call)
            try:
                await close()
            finally:
                _current.reset(token)
