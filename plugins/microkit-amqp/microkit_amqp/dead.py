"""Dead letters over AMQP: read without taking them away, and put back. Runs on an asyncio loop."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from microkit.broker import ATTEMPT, FIRST_SEEN, LAST_RETRY, ORIGIN, REASON, DeadLetter

from .link import Link
from .properties import DIED, EXPIRES, as_published, copied_properties
from .publisher import Publisher

_logger = logging.getLogger("microkit.amqp")
_MOST = 10_000
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


@asynccontextmanager
async def _borrowed(link: Link, queue: str) -> AsyncGenerator[tuple[Any, AsyncGenerator[Any]]]:
    """A channel, and the messages of a queue that it borrows; what is not acked goes back to its old place."""
    count = await depth(link, queue) or 0
    if count > _MOST:
        _logger.warning("%s has %d dead letters; only the first %d are looked at", queue, count, _MOST)
    channel = await link.channel()

    async def messages() -> AsyncGenerator[Any]:
        from pamqp.commands import Basic

        for _ in range(min(count, _MOST)):  # no more than were there, or returned ones would come round again
            raw = await channel.basic_get(queue)
            if isinstance(raw.delivery, Basic.GetEmpty):
                return
            yield raw

    source = messages()
    try:
        yield channel, source
    finally:
        await source.aclose()
        if not channel.is_closed:
            await channel.close()


async def read(link: Link, dead: str, queue: str) -> list[DeadLetter]:
    """The dead letters in a queue of them, oldest first, at most 10,000.

    Args:
        link: the connection.
        dead: the queue of dead letters.
        queue: only those that were to be handled there; empty: all.
    """
    if await depth(link, dead) is None:
        return []
    async with _borrowed(link, dead) as (_, messages):
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
    async with _borrowed(link, dead) as (channel, messages):
        async for raw in messages:
            letter = _letter(raw, dead)
            if letter.queue != queue or (ids is not None and letter.id not in ids):
                continue
            properties = raw.header.properties
            headers = {name: each for name, each in (properties.headers or {}).items() if name not in _OF_THE_DEAD}
            await publisher.publish("", queue, raw.body, copied_properties(properties, headers), mandatory=True)
            await channel.basic_ack(raw.delivery.delivery_tag, wait=False)
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
