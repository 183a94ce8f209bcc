"""Messages as AMQP carries them: properties and headers, and what copies add and leave out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from microkit.broker import ATTEMPT, FIRST_SEEN, LAST_RETRY, ORIGIN, REASON, OutgoingMessage

EVENT = "x-microkit-event"
EXPIRES = "x-microkit-expires"
DIED = "x-microkit-died"
"""Headers of copies: the event's name, which their own routing key is not any more; when nobody wants the message any
more and when it died, in integer milliseconds since the epoch."""

DUE = "x-microkit-due"
"""Header of all messages: when it was published or is to be delivered, in integer milliseconds since the epoch. The
property `timestamp` has whole seconds."""

COUNT = "x-delivery-count"
"""Header that quorum queues add: how often they delivered it before."""

_BROKERS = ("x-death", COUNT, "x-first-death", "x-last-death", "x-delay", "x-acquired-count")
_OURS = frozenset({ATTEMPT, FIRST_SEEN, LAST_RETRY, REASON, ORIGIN, EVENT, EXPIRES, DIED, DUE})
PERSISTENT = 2


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def new_id() -> str:
    """An id for a message."""
    return uuid.uuid4().hex


def wire_properties(message: OutgoingMessage, **headers: Any) -> Any:
    """The AMQP properties of a message.

    Args:
        message: what is sent.
        headers: beside the message's own.
    """
    from pamqp.commands import Basic

    sent = {**message.headers, **headers, DUE: now_ms()}
    if message.expires is not None:
        # No property `expiration`: the broker would make a dead letter of it, or keep it behind others that last.
        sent[EXPIRES] = now_ms() + int(message.expires * 1000)
    return Basic.Properties(
        content_type=message.content_type,
        content_encoding="utf-8",
        headers={name: _header(value) for name, value in sent.items()},
        delivery_mode=PERSISTENT,
        priority=0,
        correlation_id=message.correlation_id or None,
        reply_to=message.reply_to or None,
        message_id=message.message_id or new_id(),
    )


def _header(value: Any) -> Any:
    # AMQP's floats have 32 bits in this library: a time would be off by minutes.
    return repr(value) if isinstance(value, float) else value


def published_at(properties: Any) -> float | None:
    """When a message was published or became due, in seconds since the epoch; None if its publisher does not say."""
    due = (properties.headers or {}).get(DUE)
    if isinstance(due, int):
        return due / 1000
    return properties.timestamp.timestamp() if properties.timestamp is not None else None


def copied_properties(properties: Any, headers: Mapping[str, Any], **extra: Any) -> Any:
    """Properties for a copy: as they were, persistent, with an id and other headers.

    Args:
        properties: of the delivered message.
        headers: its headers.
        extra: headers that are added.
    """
    from pamqp.commands import Basic

    return Basic.Properties(
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        headers={**without_brokers(headers), **extra},
        delivery_mode=PERSISTENT,
        priority=properties.priority,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        message_id=properties.message_id or new_id(),
        timestamp=properties.timestamp,
        message_type=properties.message_type,
        app_id=properties.app_id,
    )


def without_brokers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers without those that RabbitMQ adds; with them a copy could look like a cycle, which it drops."""
    return {name: value for name, value in headers.items() if not name.startswith(_BROKERS)}


def as_published(raw: Any) -> OutgoingMessage:
    """A delivered message as it was once published.

    Args:
        raw: aiormq's delivery.
    """
    properties = raw.header.properties
    headers = {name: value for name, value in without_brokers(properties.headers or {}).items() if name not in _OURS}
    return replace(
        OutgoingMessage(raw.body),
        content_type=properties.content_type or "application/json",
        headers=headers,
        message_id=properties.message_id or "",
        correlation_id=properties.correlation_id or "",
        reply_to=properties.reply_to or "",
    )
