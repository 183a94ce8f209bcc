"""hypercorn, driven by the host: on asyncio and trio, with HTTP/2 over TLS."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any

import anyio

from microkit.errors import StartupError

from .settings import QUIET, ServeSettings, checked, effective
from .uvicorn import address

if TYPE_CHECKING:
    import socket

    from microkit import App
    from microkit.transport import Process

_logger = logging.getLogger("microkit.serve")


class HypercornServer:
    """HTTP and WebSocket by hypercorn; on asyncio and trio, with HTTP/2 where TLS is on.

    Args:
        settings: fields of `ServeSettings` that differ from the application's settings, such as `port`.

    Raises:
        StartupError: hypercorn is not installed.
    """

    name = "hypercorn"
    ingress = "http"

    def __init__(self, **settings: Any) -> None:
        from importlib.util import find_spec

        if find_spec("hypercorn") is None:
            raise StartupError(
                "hypercorn, the HTTP server for trio and HTTP/2, is not installed. Install the extra "
                "(`pip install 'microkit-serve[trio]'`), or run on --backend asyncio with uvicorn."
            )
        self._given = checked(settings)
        self._requests: set[anyio.CancelScope] = set()
        self._websockets: set[anyio.CancelScope] = set()
        self._sockets: list[socket.socket] = []
        self._closing = anyio.Event()
        self._done = anyio.Event()

    async def start(self, app: App, process: Process) -> None:
        """Listen and accept.

        Raises:
            StartupError: the address cannot be taken, or the TLS files cannot be used.
        """
        settings = effective(app, process, self._given)
        sockets = process.listen(self.ingress, settings.host, settings.port, settings.backlog)
        config = _config(app, settings)
        # hypercorn makes sockets of its own from what it is given, and closes them.
        config.bind = [f"fd://{os.dup(each.fileno())}" for each in sockets]
        self._config, self._sockets = config, sockets
        begun = anyio.Event()
        process.tasks.start_soon(self._run, app, process.backend, begun)
        await begun.wait()
        for each in sockets:
            _logger.info("hypercorn listens on %s", address(settings.scheme, each))

    async def _run(self, app: App, backend: str, begun: anyio.Event) -> None:
        if backend == "trio":
            from hypercorn.trio import serve
        else:
            from hypercorn.asyncio import serve

        async def asgi(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "lifespan":
                is_websocket = scope["type"] == "websocket"
                calls = self._websockets if is_websocket else self._requests
                with anyio.CancelScope() as call:
                    calls.add(call)
                    try:
                        await app(scope, receive, send)
                    finally:
                        calls.discard(call)
                if call.cancelled_caught and is_websocket:
                    with contextlib.suppress(Exception):  # it may be closed already
                        await send({"type": "websocket.close", "code": 1012})
                return
            # The lifespan is the host's; hypercorn has no switch for it, so it is answered here.
            await receive()
            await send({"type": "lifespan.startup.complete"})
            begun.set()
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

        try:
            await serve(asgi, self._config, shutdown_trigger=self._closing.wait, mode="asgi")
        finally:
            self._done.set()

    async def stop(self, grace: float) -> None:
        """Stop accepting, close WebSockets, let requests finish for at most `grace` seconds, cancel the rest."""
        if not self._sockets:
            return
        self._closing.set()
        for each in self._sockets:
            each.close()
        for call in list(self._websockets):  # they would not end by themselves; uvicorn closes them, too
            call.cancel()
        with anyio.move_on_after(grace):
            await self._done.wait()
        # hypercorn leaves a mess when it is cancelled itself; without calls it ends on its own.
        for call in list(self._requests):
            call.cancel()
        await self._done.wait()


def _config(app: App, settings: ServeSettings) -> Any:
    from hypercorn.config import Config

    config = Config()
    errors = logging.getLogger("hypercorn.error")
    errors.addFilter(QUIET)
    if not _logger.isEnabledFor(logging.DEBUG):
        errors.setLevel(logging.WARNING)
    config.errorlog = errors
    config.accesslog = logging.getLogger("hypercorn.access") if settings.access_log else None
    config.include_server_header = False
    config.root_path = settings.root_path
    config.backlog = settings.backlog
    config.keep_alive_timeout = settings.keep_alive  # any number will do
    config.h11_max_incomplete_size = app.settings.max_header_size
    config.h2_max_header_list_size = app.settings.max_header_size
    config.websocket_max_message_size = app.settings.max_websocket_message
    # No pings: hypercorn does not look for the answers, and holds a closed connection until the next one is due.
    # The deadline is the one of `stop`; hypercorn is only told to wait for longer than any.
    config.graceful_timeout = 86_400.0
    config.certfile, config.keyfile = settings.certfile, settings.keyfile
    config.keyfile_password = settings.keyfile_password
    try:
        config.create_ssl_context()
    except OSError as exc:  # ssl.SSLError is one
        raise StartupError(
            f"The TLS files {settings.certfile} and {settings.keyfile} cannot be used: {exc}. Correct the settings "
            f"certfile, keyfile and keyfile_password of serve."
        ) from exc
    return config
