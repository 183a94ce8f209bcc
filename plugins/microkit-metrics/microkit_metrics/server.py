"""The figures on a port of their own: `GET /metrics` and nothing else.

Small on purpose, so that it serves on both backends and also where no HTTP server is installed: one request per
connection, and every size and time is bounded.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import anyio

from microkit.errors import StartupError

from .metrics import Metrics

if TYPE_CHECKING:
    from microkit import App
    from microkit.transport import Process

_logger = logging.getLogger("microkit.metrics")

PATH = "/metrics"
_MAX_HEAD = 8192
_MAX_CONNECTIONS = 16
_PATIENCE = 5.0
_BACKLOG = 64
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}


class MetricsServer:
    """An ingress that answers with the figures; see the settings `host` and `port`.

    Args:
        host: instead of the setting.
        port: instead of the setting.
    """

    name = "metrics"
    ingress = "metrics"

    def __init__(self, host: str | None = None, port: int | None = None) -> None:
        self._host = host
        self._port = port
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        self._running = False

    async def start(self, app: App, process: Process) -> None:
        """Listen and accept.

        Raises:
            StartupError: no port is set, or the address cannot be taken.
        """
        metrics = Metrics.of(app)
        host = metrics.settings.host if self._host is None else self._host
        port = metrics.settings.port if self._port is None else self._port
        if port is None:
            raise StartupError("The ingress 'metrics' has no port. Set MICROKIT_METRICS__PORT, or port of metrics.")
        # Whoever reads the figures must know whose they are, so that workers share neither port nor socket.
        who = "metrics" if process.count == 1 else f"metrics (worker {process.index})"
        sockets = process.listen(who, host, port + process.index if port else 0, _BACKLOG)
        self._running = True
        process.tasks.start_soon(self._run, metrics, sockets)
        for each in sockets:
            name, number = each.getsockname()[:2]
            shown = f"[{name}]" if ":" in name else name
            _logger.info("metrics are at http://%s:%d%s", shown, number, PATH)

    async def stop(self, grace: float) -> None:
        """Stop accepting and cut off what is being sent; the next scrape is another server's."""
        self._scope.cancel()
        if self._running:
            await self._done.wait()

    async def _run(self, metrics: Metrics, sockets: list[socket.socket]) -> None:
        try:
            with self._scope:
                free = anyio.Semaphore(_MAX_CONNECTIONS)
                async with anyio.create_task_group() as group:
                    for each in sockets:
                        group.start_soon(self._accept, metrics, each, free, group)
        finally:
            for each in sockets:
                each.close()
            self._done.set()

    async def _accept(
        self, metrics: Metrics, listener: socket.socket, free: anyio.Semaphore, group: anyio.abc.TaskGroup
    ) -> None:
        while True:
            await free.acquire()
            connection = await _accepted(listener)
            group.start_soon(self._serve, metrics, connection, free)

    async def _serve(self, metrics: Metrics, connection: socket.socket, free: anyio.Semaphore) -> None:
        try:
            with connection, anyio.move_on_after(2 * _PATIENCE):
                await _send(connection, await _answer(metrics, connection))
        except OSError:  # the client is gone
            pass
        finally:
            free.release()


async def _accepted(listener: socket.socket) -> socket.socket:
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            await anyio.wait_readable(listener)
        except OSError as exc:  # the client was gone already, or too many files are open
            _logger.debug("a connection could not be accepted: %s", exc)
            await anyio.sleep(0.05)
        else:
            connection.setblocking(False)
            return connection


async def _answer(metrics: Metrics, connection: socket.socket) -> bytes:
    head: bytes | None = None
    with anyio.move_on_after(_PATIENCE):
        head = await _head(connection)
    if head is None:
        return _response(408)
    if not head.endswith(b"\r\n\r\n"):
        return _response(431 if len(head) >= _MAX_HEAD else 400)
    first, *fields = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return _response(400)
    method, target, _ = parts
    if target.partition("?")[0] != PATH:
        return _response(404)
    if method not in ("GET", "HEAD"):
        return _response(405, fields="Allow: GET, HEAD\r\n")
    accept = ",".join(value for name, _, value in (each.partition(":") for each in fields) if name.lower() == "accept")
    try:
        body, content_type = await metrics.rendered(accept)
    except Exception:
        _logger.exception("the metrics could not be collected")
        return _response(500)
    return _response(200, body, content_type, only_head=method == "HEAD")


async def _head(connection: socket.socket) -> bytes:
    """What was sent up to the first empty line, the bound, or the end."""
    received = b""
    while len(received) < _MAX_HEAD:
        try:
            piece = connection.recv(_MAX_HEAD - len(received))
        except BlockingIOError:
            await anyio.wait_readable(connection)
            continue
        received += piece
        if (end := received.find(b"\r\n\r\n")) >= 0:
            return received[: end + 4]
        if not piece:
            break
    return received


def _response(
    status: int,
    body: bytes | None = None,
    content_type: str = "text/plain; charset=utf-8",
    *,
    fields: str = "",
    only_head: bool = False,
) -> bytes:
    body = f"{_REASONS[status]}\n".encode() if body is None else body
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\n{fields}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if only_head else body)


async def _send(connection: socket.socket, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[connection.send(left) :]
        except BlockingIOError:
            await anyio.wait_writable(connection)
    connection.shutdown(socket.SHUT_WR)
