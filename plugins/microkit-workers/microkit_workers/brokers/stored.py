"""A message as the embedded brokers keep it, and what becomes of it on its way: delivery, copy, dead letter."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microkit import Message
from microkit.broker import ATTEMPT, FIRST_SEEN, LAST_RETRY, ORIGIN, REASON, REDELIVERED, OutgoingMessage

_OF_COPIES = frozenset({ATTEMPT, FIRST_SEEN, LAST_RETRY, ORIGIN, REASON, REDELIVERED})


@dataclass(slots=True, eq=False)
class Stored:
    """One message in one queue.

    Attributes:
        body, content_type, headers, message_id, correlation_id, reply_to: as published; headers are not changed in
            place, because queues share them.
        source, event: of an event; empty for what was sent to a queue.
        expires: seconds since the epoch after which it is dropped, or None.
        returns: how often it came back unanswered.
        due: when it was put into its queue, or was to be delivered after a delay; seconds since the epoch.
    """

    body: bytes
    content_type: str
    headers: Mapping[str, Any]
    message_id: str
    correlation_id: str
    reply_to: str
    source: str
    event: str
    expires: float | None
    returns: int = 0
    due: float | None = None

    @classmethod
    def of(cls, message: OutgoingMessage, source: str = "", event: str = "") -> Stored:
        """A message that is published now."""
        return cls(
            message.body,
            message.content_type,
            message.headers,
            message.message_id or os.urandom(16).hex(),
            message.correlation_id,
            message.reply_to,
            source,
            event,
            None if message.expires is None else time.time() + message.expires,
        )

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return self.headers.get(ATTEMPT, 1)

    def delivered(self, queue: str) -> Message:
        """The message as its consumer gets it; the headers are the consumer's own."""
        headers = dict(self.headers)
        if self.returns:
            headers[REDELIVERED] = self.returns
        return Message(
            self.body,
            source=self.source,
            name=self.event,
            queue=queue,
            headers=headers,
            content_type=self.content_type,
            attempt=self.attempt,
            message_id=self.message_id,
            correlation_id=self.correlation_id,
            reply_to=self.reply_to,
            published_at=self.due,
        )

    def retry(self, attempt: int, reason: str, delivered_at: float) -> Stored:
        """The copy that is tried again.

        Args:
            attempt: its number.
            reason: why there is a copy.
            delivered_at: when this one was delivered, in seconds since the epoch.
        """
        headers = {
            FIRST_SEEN: _milliseconds(delivered_at),
            **self.headers,
            ATTEMPT: attempt,
            LAST_RETRY: _milliseconds(time.time()),
            REASON: reason,
        }
        return self._copy(headers, self.expires)

    def fresh(self) -> Stored:
        """The copy that a redrive makes: a first attempt, which no longer expires."""
        return self._copy(self.published_headers(), None)

    def _copy(self, headers: Mapping[str, Any], expires: float | None) -> Stored:
        return Stored(
            self.body,
            self.content_type,
            headers,
            self.message_id,
            self.correlation_id,
            self.reply_to,
            self.source,
            self.event,
            expires,
        )

    def published_headers(self) -> dict[str, Any]:
        """The headers without those of copies."""
        return {name: value for name, value in self.headers.items() if name not in _OF_COPIES}

    def published(self) -> OutgoingMessage:
        """The message as it was published, without delay and expiry, which have passed."""
        return OutgoingMessage(
            self.body,
            self.content_type,
            self.published_headers(),
            self.message_id,
            self.correlation_id,
            self.reply_to,
        )


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
