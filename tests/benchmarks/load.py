"""A small client that keeps connections busy for some seconds and prints how much was answered, as JSON.

It is for WebSockets and streams, and for all where wrk is not installed. It speaks just enough HTTP/1.1 (RFC 9112) and
WebSocket (RFC 6455): one request or message at a time per connection, all of them over the loopback interface.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from typing import Any

from tests.benchmarks.cases import CASES, IDS, MESSAGE, Case

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HANDSHAKE = (
    b"GET %s HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# Masked with zeros, which leaves the text as it is.
_FRAME = bytes((0x81, 0x80 | len(MESSAGE))) + b"\0\0\0\0" + MESSAGE.encode()
_ECHO = bytes((0x81, len(MESSAGE))) + MESSAGE.encode()


class Connection(asyncio.Protocol):
    """One busy connection."""

    def __init__(self, case: Case, path: str, counters: dict[str, int]) -> None:
        self._case = case
        self._path = path
        self._counters = counters
        self._received = b""
        self._upgraded = False
        self._stopped = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._case.kind == "socket":
            transport.write(_HANDSHAKE % self._path.encode())
        else:
            self._ask()

    def _ask(self) -> None:
        self._counters["number"] = number = (self._counters["number"] + 1) % IDS
        body = self._case.body
        head = f"{self._case.method} {self._path.replace('{id}', str(number))} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        if body:
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self._transport.write(head.encode() + b"\r\n" + body)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._case.kind == "socket":
            self._socket_data()
        elif self._complete():
            good = self._received.startswith(b"HTTP/1.1 200")
            self._counters["answered" if good else "failed"] += 1
            self._received = b""
            if not self._stopped:
                self._ask()

    def _complete(self) -> bool:
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return False
        if length := _LENGTH.search(head):
            return len(body) >= int(length[1])
        return body.endswith(b"0\r\n\r\n")

    def _socket_data(self) -> None:
        if not self._upgraded:
            if not self._received.endswith(b"\r\n\r\n"):
                return
            self._upgraded = self._received.startswith(b"HTTP/1.1 101")
            self._counters["failed"] += not self._upgraded
        elif self._received == _ECHO:
            self._counters["answered"] += 1
        elif len(self._received) >= len(_ECHO):
            self._counters["failed"] += 1
            return
        else:
            return
        self._received = b""
        if self._upgraded and not self._stopped:
            self._transport.write(_FRAME)

    def connection_lost(self, exc: Exception | None) -> None:
        self._counters["failed"] += not self._stopped

    def stop(self) -> None:
        self._stopped = True
        self._transport.close()


async def load(case: Case, port: int, path: str, connections: int, seconds: float) -> dict[str, float]:
    """Keep `connections` busy for some seconds. Returns how many were answered, how many failed, and the time."""
    counters = {"number": 0, "answered": 0, "failed": 0}
    loop = asyncio.get_running_loop()
    made = await asyncio.gather(
        *(
            loop.create_connection(lambda: Connection(case, path, counters), "127.0.0.1", port)
            for _ in range(connections)
        )
    )
    start = time.perf_counter()
    await asyncio.sleep(seconds)
    taken = time.perf_counter() - start
    for _, connection in made:
        connection.stop()
    return {"answered": counters["answered"], "failed": counters["failed"], "seconds": taken}


def main() -> None:
    """Load one server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3)
    given = parser.parse_args()
    import uvloop

    done = uvloop.run(load(CASES[given.case], given.port, given.path, given.connections, given.seconds))
    print(json.dumps(done))


if __name__ == "__main__":
    main()
