"""Deliveries of a queue as the kernel's messages, each of them running once at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from microkit.broker import ATTEMPT, FIRST_SEEN, LAST_RETRY, ORIGIN, REASON, REDELIVERED, OnMessage, QueueSpec
from microkit.messages import Message

from .properties import (
    COUNT,
    DIED,
    DUE,
    EVENT,
    EXPIRES,
    copied_properties,
    now_ms,
    published_at,
    without_brokers,
)

if TYPE_CHECKING:
    from microkit._bridge import AsyncioLoop

    from .consumer import Consumer
    from .publisher import Publisher
    from .retries import Retries


class AmqpDelivery:
    """One delivery, as `microkit.settlement.Delivery`. Lives on the loop of its consumer's owner.

    Args:
        inbox: whose it is.
        raw: aiormq's delivery.
        generation: of the channel.
    """

    __slots__ = ("followers", "generation", "inbox", "raw", "seen")
    acks_at_once = True

    def __init__(self, inbox: Inbox, raw: Any, generation: int) -> None:
        self.inbox = inbox
        self.raw = raw
        self.generation = generation
        self.seen = now_ms()
        self.followers: list[AmqpDelivery] = []  # the same message again, while this run goes on

    @property
    def current_generation(self) -> int:
        return self.inbox.consumer.generation

    async def store_retry(self, delay: float, attempt: int, reason: str) -> None:
        first = self._headers.get(FIRST_SEEN, self.seen)
        extra = {
            ATTEMPT: attempt,
            FIRST_SEEN: first,
            LAST_RETRY: now_ms(),
            DUE: now_ms(),
            REASON: reason,
            EVENT: self.inbox.name(self),
        }
        properties = copied_properties(self.raw.header.properties, self._headers, **extra)
        inbox = self.inbox
        await inbox.loop.run(inbox.retries.store_retry, inbox.queue, delay, self.raw.body, properties)

    async def store_dead(self, reason: str) -> None:
        first = self._headers.get(FIRST_SEEN, self.seen)
        extra = {ORIGIN: self.inbox.queue.name, FIRST_SEEN: first, REASON: reason, DIED: now_ms()}
        extra |= {ATTEMPT: self.attempt, EVENT: self.inbox.name(self)}
        properties = copied_properties(self.raw.header.properties, self._headers, **extra)
        inbox = self.inbox
        await inbox.loop.run(inbox.retries.store_dead, inbox.queue, self.raw.body, properties)

    async def ack(self) -> None:
        self.inbox.loop.call(self.inbox.consumer.ack, self.raw.delivery.delivery_tag, self.generation)

    async def give_back(self) -> None:
        self.inbox.loop.call(self.inbox.give_back, self)

    def ended(self) -> None:
        self.inbox.loop.call(self.inbox.on_ended, self)

    @property
    def attempt(self) -> int:
        """1, or what a copy says."""
        attempt = self._headers.get(ATTEMPT, 1)
        return attempt if isinstance(attempt, int) and attempt > 0 else 1

    @property
    def _headers(self) -> dict[str, Any]:
        return self.raw.header.properties.headers or {}

    def is_same(self, other: AmqpDelivery) -> bool:
        """Whether both deliver the same message: by its id, or by all of it if it has none."""
        mine, theirs = self.raw.header.properties, other.raw.header.properties
        if mine.message_id or theirs.message_id:
            return mine.message_id == theirs.message_id
        return self.raw.body == other.raw.body and mine.headers == theirs.headers


class Inbox:
    """What a consumer of a queue hands on.

    A message that comes again while its first run goes on, because the connection was lost under it, waits until that
    run has ended; it is then run again, since nothing could be answered for the first run.

    Args:
        queue: as it was asked for.
        loop: where the broker's side runs.
        retries: stores copies.
        publisher: by which it does.
        on_message: of the subscriber.
    """

    def __init__(
        self, queue: QueueSpec, loop: AsyncioLoop, retries: Retries, publisher: Publisher, on_message: OnMessage
    ) -> None:
        self.queue = queue
        self.loop = loop
        self.retries = retries
        self._publisher = publisher
        self.consumer: Consumer
        self._hand_on = loop.homeward(on_message)
        self._running: set[AmqpDelivery] = set()
        self._by_pattern = {"*", "#"} & set(queue.event.split(".")) or "exchange" in queue.options

    @property
    def unsettled(self) -> int:
        """Messages that were handed on, or wait for an earlier run of theirs."""
        return sum(1 + len(each.followers) for each in self._running)

    def on_raw(self, raw: Any) -> None:
        """Take a delivery. Runs on the asyncio loop."""
        delivery = AmqpDelivery(self, raw, self.consumer.generation)
        if raw.delivery.redelivered:
            for other in self._running:
                if other.generation != delivery.generation and delivery.is_same(other):
                    other.followers.append(delivery)
                    return
        self._run(delivery)

    def _run(self, delivery: AmqpDelivery) -> None:
        raw = delivery.raw
        properties = raw.header.properties
        headers = properties.headers or {}
        if EXPIRES in headers and headers[EXPIRES] <= now_ms():
            self.consumer.ack(raw.delivery.delivery_tag, delivery.generation)  # nobody wants it any more
            return
        self._running.add(delivery)
        if ATTEMPT in headers:  # what the broker adds on the way through our own queues is nobody's business
            headers = without_brokers(headers)
        if raw.delivery.redelivered:
            count = (properties.headers or {}).get(COUNT)  # which only quorum queues have
            headers = {**headers, REDELIVERED: count if isinstance(count, int) and count > 0 else 1}
        message = Message(
            raw.body,
            source=self.queue.source,
            name=self.name(delivery) if self._by_pattern else self.queue.event,
            queue=self.queue.name,
            headers=headers,
            content_type=properties.content_type or "application/json",
            attempt=delivery.attempt if headers else 1,
            message_id=properties.message_id,
            correlation_id=properties.correlation_id or "",
            reply_to=properties.reply_to or "",
            published_at=published_at(properties),
        )
        self._hand_on(message, delivery)

    def name(self, delivery: AmqpDelivery) -> str:
        """The event's name: the routing key, or what a copy says."""
        headers = delivery.raw.header.properties.headers or {}
        if EVENT in headers:
            return headers[EVENT]
        method = delivery.raw.delivery
        return method.routing_key if method.exchange else self.queue.event

    def give_back(self, delivery: AmqpDelivery) -> None:
        """Have a message delivered again. Runs on the asyncio loop.

        One whose retry or dead letter the broker does not take, being low on memory or disk, would come and fail again
        and again, until its deliveries are used up: it waits here until the broker takes it.
        """
        tag, generation = delivery.raw.delivery.delivery_tag, delivery.generation
        self._publisher.once_possible(lambda: self.consumer.give_back(tag, generation))

    def on_ended(self, delivery: AmqpDelivery) -> None:
        """A run is over. Runs on the asyncio loop."""
        self._running.discard(delivery)
        if not delivery.followers:
            return
        current = [each for each in delivery.followers if each.generation == self.consumer.generation]
        delivery.followers.clear()
        for each in current[:1]:
            each.followers += current[1:]
            self._run(each)
