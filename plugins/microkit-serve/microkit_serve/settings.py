"""What both servers are configured by, in one place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from microkit.errors import StreamAborted, alone

if TYPE_CHECKING:
    from microkit import App
    from microkit.transport import Process


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Settings of microkit-serve: `MICROKIT_SERVE__<KEY>` and `[tool.microkit.serve]`.

    The bounds of header fields and of WebSocket messages are the kernel's: `max_header_size`, `max_websocket_message`.

    Attributes:
        host: name or address to listen on; an empty one is every interface.
        port: 0 takes a free one.
        backlog: connections that may wait to be accepted.
        root_path: path prefix that a proxy in front has taken away.
        access_log: let the server log each request.
        keep_alive: seconds that an idle connection is kept.
        websocket_ping: seconds between pings of a WebSocket; one that does not answer in as many is closed (uvicorn
            only).
        max_connections: connections served at a time; more get 503 (uvicorn only). None is no limit.
        certfile: PEM file; together with `keyfile` it turns TLS on, and with it HTTP/2 under hypercorn.
        keyfile: PEM file.
        keyfile_password: of `keyfile`, if it is encrypted.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    backlog: int = 2048
    root_path: str = ""
    access_log: bool = False
    keep_alive: float = 5.0
    websocket_ping: float = 20.0
    max_connections: int | None = None
    certfile: str | None = None
    keyfile: str | None = None
    keyfile_password: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be between 0 and 65535")
        if (self.certfile is None) != (self.keyfile is None):
            raise ValueError("certfile and keyfile belong together; set both or none")
        if not (self.keep_alive > 0 and self.websocket_ping > 0):
            raise ValueError("keep_alive and websocket_ping must be over 0 seconds")

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "http" if self.certfile is None else "https"


KEYS = frozenset(field.name for field in fields(ServeSettings))


def checked(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a server, which are names of settings.

    Raises:
        TypeError: one is no setting.
    """
    if unknown := given.keys() - KEYS:
        raise TypeError(f"unknown setting {sorted(unknown)[0]!r}; there are: {', '.join(sorted(KEYS))}")
    return given


def effective(app: App, process: Process, given: Mapping[str, Any]) -> ServeSettings:
    """The settings for one server: its own arguments beat those of `app.run`, which beat the settings.

    Args:
        app: the application.
        process: whose options are used as far as they are settings.
        given: the server's own arguments, by the name of the setting.
    """
    settings: ServeSettings = app.all_settings.get("serve") or ServeSettings()
    return replace(settings, **{**{key: value for key, value in process.options.items() if key in KEYS}, **given})


class QuietErrors(logging.Filter):
    """Drops what a server logs of an exception that the application has logged already.

    `StreamAborted` is how the application tells a server to cut a reply off; a cancelled call is told in one line.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        exc = record.exc_info[1] if record.exc_info else None
        # CancelledError of asyncio is no Exception; KeyboardInterrupt and SystemExit do not reach a server's log.
        return exc is None or (isinstance(alone(exc), Exception) and not isinstance(alone(exc), StreamAborted))


QUIET = QuietErrors()
