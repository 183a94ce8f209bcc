"""How a parent and its child process talk: frames of a JSON head and a body of bytes, over a pair of sockets."""

from __future__ import annotations

import socket
import struct
from typing import Any

import anyio

from microkit.codecs import json_dumps, json_loads

_LENGTHS = struct.Struct(">II")
_CHUNK = 256 * 1024


class Channel:
    """One end of the connection.

    Args:
        sock: a connected stream socket; it is made non-blocking, and belongs to the channel from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = bytearray()
        self._writing = anyio.Lock()

    async def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame.

        Raises:
            OSError: the other end is gone.
        """
        encoded = json_dumps(head)
        data = memoryview(_LENGTHS.pack(len(encoded), len(body)) + encoded + body)
        async with self._writing:
            while data:
                try:
                    data = data[self._sock.send(data) :]
                except BlockingIOError:
                    await anyio.wait_writable(self._sock)

    async def receive(self) -> tuple[dict[str, Any], bytes] | None:
        """The next frame; None if the other end is gone."""
        lengths = await self._take(_LENGTHS.size)
        if lengths is None:
            return None
        head_size, body_size = _LENGTHS.unpack(lengths)
        data = await self._take(head_size + body_size)
        return None if data is None else (json_loads(data[:head_size]), data[head_size:])

    async def _take(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            try:
                data = self._sock.recv(_CHUNK)
            except BlockingIOError:
                await anyio.wait_readable(self._sock)
                continue
            except OSError:
                data = b""
            if not data:
                return None
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def close(self) -> None:
        """Close this end."""
        if self._sock.fileno() >= 0:
            anyio.notify_closing(self._sock)
            self._sock.close()
