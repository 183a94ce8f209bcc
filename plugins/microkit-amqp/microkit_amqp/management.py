"""What only RabbitMQ's management API tells: which queues there are, and what others are working on."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from .link import unavailable


@dataclass(frozen=True)
class Counts:
    """A queue as the management API knows it; its figures are a few seconds old.

    Attributes:
        ready: messages that wait.
        unsettled: delivered to any consumer and not answered.
    """

    ready: int
    unsettled: int


async def queues(url: str, vhost: str) -> dict[str, Counts]:
    """All queues of a vhost.

    Args:
        url: of the API, with user and password.
        vhost: whose.

    Raises:
        PublicError: UNAVAILABLE, the API cannot be asked.
    """
    parts = urlsplit(url)
    path = f"{parts.path.rstrip('/')}/api/queues/{quote(vhost, safe='')}"
    host = parts.hostname or "localhost"
    query = "columns=name,messages_ready,messages_unacknowledged"
    address = urlunsplit((parts.scheme, f"{host}:{parts.port or 15672}", path, query, ""))
    user = f"{unquote(parts.username or 'guest')}:{unquote(parts.password or 'guest')}"
    request = urllib.request.Request(address)  # noqa: S310 - the operator's own setting
    request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    try:
        rows = await asyncio.to_thread(_get, request)
    except (OSError, ValueError) as exc:
        raise unavailable(
            f"The management API at {host}:{parts.port or 15672} cannot be asked: {type(exc).__name__}. Correct the "
            f"setting management of amqp, or leave it out."
        ) from exc
    return {row["name"]: Counts(row.get("messages_ready", 0), row.get("messages_unacknowledged", 0)) for row in rows}


def _get(request: urllib.request.Request) -> list[dict[str, Any]]:
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)
