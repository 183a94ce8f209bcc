"""Dead letters over AMQP: read without taking them away, and put back. Runs on an asyncio loop."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from microkit.broker import ATTEMPT, FIRST_SEEN, LAST_RETRY, ORIGIN, REASON, DeadLetter

from .link import Link
from .properties import DIED, DUE, EXPIRES, as_published, copied_properties, now_ms
from .publisher import Publisher

_logger = logging.getLogger("microkit.amqp")
_MOST = 10_000
_PATIENCE = 100  # looks, 20 ms apart
_OF_THE_DEAD = (ATTEMPT, FIRST_SEEN, LAST_RETRY, REASON, ORIGIN, DIED, EXPIRES)


async def depth(link: Link, queue: str) -> int | None:
    """Messages that wait in a queue; None if there is no such queue, or if it is exclusive to another connection."""
    from aiormq.exceptions import ChannelLockedResource, ChannelNotFoundEntity

    channel = await link.channel()
    try:
        return (await channel.queue_declare(queue, passive=True)).message_count or 0
    except (ChannelNotFoundEntity, ChannelLockedResource):
        return None
    finally:
        if not channel.is_closed:
            await channel.close()


class _Borrowed:
    """The messages of a queue, taken by one channel; what is not taken for good goes back to its old place.

    Args:
        channel: takes them.
        queue: from where.
        count: how many at most: no more than there were, or returned ones would come round again.
    """

    def __init__(self, channel: Any, queue: str, count: int) -> None:
        self._channel, self._queue, self._count = channel, queue, count
        self.kept = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        from pamqp.commands import Basic

        if self._count:
            self._count -= 1
            raw = await self._channel.basic_get(self._queue)
            if not isinstance(raw.delivery, Basic.GetEmpty):
                self.kept += 1
                return raw
        raise StopAsyncIteration

    async def take(self, raw: Any) -> None:
        """Take one for good."""
        await self._channel.basic_ack(raw.delivery.delivery_tag, wait=False)
        self.kept -= 1


@asynccontextmanager
async def _borrowed(link: Link, queue: str) -> AsyncGenerator[_Borrowed]:
    count = await depth(link, queue) or 0
    if count > _MOST:
        _logger.warning("%s has %d dead letters; only the first %d are looked at", queue, count, _MOST)
    channel = await link.channel()
    borrowed = _Borrowed(channel, queue, min(count, _MOST))
    try:
        yield borrowed
    finally:
        if not channel.is_closed:
            await channel.close()
        # A quorum queue takes them back after the channel is closed, and who looks next is to find them.
        for _ in range(_PATIENCE):
            if (await depth(link, queue) or 0) >= borrowed.kept:
                break
            await asyncio.sleep(0.02)


async def read(link: Link, dead: str, queue: str) -> list[DeadLetter]:
    """The dead letters in a queue of them, oldest first, at most 10,000.

    Args:
        link: the connection.
        dead: the queue of dead letters.
        queue: only those that were to be handled there; empty: all.
    """
    if await depth(link, dead) is None:
        return []
    async with _borrowed(link, dead) as messages:
        found = [_letter(raw, dead) async for raw in messages]
    return [letter for letter in found if queue in ("", letter.queue)]


async def redrive(link: Link, publisher: Publisher, dead: str, queue: str, ids: frozenset[str] | None) -> int:
    """Put dead letters back where they came from; each is there again before it is taken from here.

    Args:
        link, publisher: the connection.
        dead: the queue of dead letters.
        queue: where they are from.
        ids: some of them; None: all.

    Returns:
        How many.

    Raises:
        Unroutable: the queue that they came from is gone. This one and those after it stay.
    """
    if await depth(link, dead) is None:
        return 0
    moved = 0
    async with _borrowed(link, dead) as messages:
        async for raw in messages:
            letter = _letter(raw, dead)
            if letter.queue != queue or (ids is not None and letter.id not in ids):
                continue
            properties = raw.header.properties
            headers = {name: each for name, each in (properties.headers or {}).items() if name not in _OF_THE_DEAD}
            copy = copied_properties(properties, headers, **{DUE: now_ms()})
            await publisher.publish("", queue, raw.body, copy, mandatory=True)
            await messages.take(raw)
            moved += 1
    return moved


def _letter(raw: Any, dead: str) -> DeadLetter:
    headers: Mapping[str, Any] = raw.header.properties.headers or {}
    deaths: Sequence[Mapping[str, Any]] = headers.get("x-death") or [{}]
    died = headers.get(DIED)
    time = deaths[0].get("time")
    attempts = headers.get(ATTEMPT, 1)
    return DeadLetter(
        id=raw.header.properties.message_id or _fingerprint(raw, time),
        queue=headers.get(ORIGIN) or dead.removesuffix(".dead"),
        reason=str(headers.get(REASON) if ORIGIN in headers else deaths[0].get("reason", "unknown")),
        attempts=attempts if isinstance(attempts, int) else 1,
        died_at=died / 1000 if isinstance(died, int) else time.timestamp() if time is not None else 0.0,
        message=as_published(raw),
    )


def _fingerprint(raw: Any, time: object) -> str:
    """An id for what was published without one, the same whenever it is read."""
    return hashlib.sha256(raw.body + repr((time, raw.delivery.routing_key)).encode()).hexdigest()[:32]
