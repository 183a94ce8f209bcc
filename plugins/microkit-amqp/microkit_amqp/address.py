"""Where a broker is, for connecting and for messages; those never show a password."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from microkit.errors import StartupError

_PORTS = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True)
class Address:
    """A parsed URL of a broker.

    Attributes:
        host, port, vhost, user: its parts, decoded.
        url: with everything, to connect by.
    """

    host: str
    port: int
    vhost: str
    user: str
    url: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}, vhost {self.vhost!r}"


def parse_address(url: str, heartbeat: int, name: str = "microkit") -> Address:
    """Parse the URL of a broker.

    Args:
        url: `amqp[s]://user:password@host:port/vhost?heartbeat=30`. Without a path the vhost is `/`.
        heartbeat: seconds, if the URL does not say.
        name: what the connection is called in the broker's management.

    Raises:
        StartupError: it is none.
    """
    parts, port = urlsplit(url), None
    try:
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:  # not chained: its text may show a part of the password
        pass
    if port is None or parts.scheme not in _PORTS:
        raise StartupError(
            "The URL of the broker cannot be used. Write amqp://user:password@host:5672/vhost, or amqps:// for TLS; "
            "characters such as / and @ in the user, password or vhost are written as %2F and %40.",
            final=True,
        )
    query = {"heartbeat": str(heartbeat), "name": name, **dict(parse_qsl(parts.query))}
    user = unquote(parts.username or "guest")
    host = parts.hostname or "localhost"
    netloc = parts.netloc if parts.hostname else f"{parts.netloc}localhost"
    full = urlunsplit((parts.scheme, netloc, parts.path or "/", urlencode(query), ""))
    return Address(host, port, unquote(parts.path[1:]) or "/", user, full)
