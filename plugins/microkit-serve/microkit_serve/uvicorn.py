"""uvicorn, driven by the host: no signals, no lifespan, no sockets of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import anyio

from microkit.errors import StartupError

from .settings import QUIET, checked, effective

if TYPE_CHECKING:
    import socket

    from microkit import App
    from microkit.transport import Process

_logger = logging.getLogger("microkit.serve")


class UvicornServer:
    """HTTP and WebSocket by uvicorn; on asyncio only.

    Args:
        settings: fields of `ServeSettings` that differ from the application's settings, such as `port`.
    """

    name = "uvicorn"
    ingress = "http"

    def __init__(self, **settings: Any) -> None:
        self._given = checked(settings)
        self._server: Any = None
        self._done = anyio.Event()

    async def start(self, app: App, process: Process) -> None:
        """Listen and accept.

        Raises:
            StartupError: uvicorn is not installed, the address cannot be taken, or the TLS files cannot be used.
        """
        try:
            import uvicorn
        except ModuleNotFoundError as exc:
            raise StartupError(
                f"The transport 'uvicorn' misses the library {exc.name}. Install it (`pip install {exc.name}`)."
            ) from exc

        settings = effective(app, process, self._given)
        sockets = process.listen(self.ingress, settings.host, settings.port, settings.backlog)
        config = uvicorn.Config(
            app,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=settings.access_log,
            server_header=False,
            proxy_headers=False,
            root_path=settings.root_path,
            backlog=settings.backlog,
            timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]  # any number will do
            limit_concurrency=settings.max_connections,
            h11_max_incomplete_event_size=app.settings.max_header_size,
            ws="websockets-sansio",
            ws_max_size=app.settings.max_websocket_message,
            ws_ping_interval=settings.websocket_ping,
            ws_ping_timeout=settings.websocket_ping,
            ssl_certfile=settings.certfile,
            ssl_keyfile=settings.keyfile,
            ssl_keyfile_password=settings.keyfile_password,
        )
        errors = logging.getLogger("uvicorn.error")
        errors.addFilter(QUIET)
        if not _logger.isEnabledFor(logging.DEBUG):
            errors.setLevel(logging.WARNING)  # the host tells of start and end
        try:
            config.load()
        except OSError as exc:  # ssl.SSLError is one
            raise StartupError(
                f"The TLS files {settings.certfile} and {settings.keyfile} cannot be used: {exc}. Correct the settings "
                f"certfile, keyfile and keyfile_password of serve."
            ) from exc
        self._server = _server(config)
        await process.tasks.start(self._run, sockets, app.settings.teardown_timeout)
        for each in sockets:
            _logger.info("uvicorn listens on %s", address(settings.scheme, each))

    async def _run(self, sockets: list[socket.socket], grace: float, *, task_status: Any) -> None:
        server = self._server
        server.opened = task_status.started
        try:
            await server.serve(sockets)
            # What was cancelled may still be tearing down.
            if server.server_state.tasks:
                await asyncio.wait(server.server_state.tasks, timeout=grace)
        finally:
            self._done.set()

    async def stop(self, grace: float) -> None:
        """Stop accepting, close WebSockets, let requests finish for at most `grace` seconds, cancel the rest."""
        if self._server is None or not self._server.started:
            return
        self._server.config.timeout_graceful_shutdown = grace
        self._server.should_exit = True
        await self._done.wait()


def _server(config: Any) -> Any:
    """An embedded server. The class is made here, so that importing this module does not import uvicorn."""
    import uvicorn

    class Embedded(uvicorn.Server):
        opened: Callable[[], None]

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None]:
            yield  # signals belong to the host

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.opened()

    return Embedded(config)


def address(scheme: str, sock: socket.socket) -> str:
    """The URL of a listening TCP socket."""
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
