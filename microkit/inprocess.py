"""Messages without a broker: published and handled in this process, at once.

This promises nothing across a crash, and stores no copy: what is to become of a message is recorded, not done. It is
for tests and for tools that replay messages. Applications use a broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio

from .call import Kind, Reply
from .codecs import json_dumps
from .dispatch import handle_batch, handle_message
from .messages import Batch, Message
from .settlement import Settlement

if TYPE_CHECKING:
    from .app import App
    from .plan import Plan

Action = Literal["ack", "give_back", "store_retry", "store_dead"]


@dataclass(frozen=True)
class Answer:
    """One thing that the kernel asked of a broker.

    Attributes:
        action: name of the method of `Delivery`.
        delay: seconds before a retry.
        attempt: number of the next attempt, of a retry.
        reason: why, of a retry or a dead letter.
        confirmed: whether the broker did it; False if it was told to fail.
    """

    action: Action
    delay: float | None = None
    attempt: int | None = None
    reason: str = ""
    confirmed: bool = True


class RecordingDelivery:
    """A `Delivery` that writes down how it is answered.

    Args:
        fails: actions that raise `ConnectionError`.
        hangs: actions that never return.

    Attributes:
        answers: what was asked, in order; what hangs is not in it.
        generation, current_generation: numbers of the connection; see `go_stale`.
    """

    def __init__(self, *, fails: Iterable[Action] = (), hangs: Iterable[Action] = ()) -> None:
        self.fails = frozenset(fails)
        self.hangs = frozenset(hangs)
        self.answers: list[Answer] = []
        self.generation = 1
        self.current_generation = 1

    def go_stale(self) -> None:
        """The connection was lost and another one opened."""
        self.current_generation += 1

    async def _answer(
        self, action: Action, delay: float | None = None, attempt: int | None = None, reason: str = ""
    ) -> None:
        if action in self.hangs:
            await anyio.sleep_forever()
        self.answers.append(Answer(action, delay, attempt, reason, action not in self.fails))
        if action in self.fails:
            raise ConnectionError(f"the broker refused {action}")

    async def store_retry(self, delay: float, attempt: int, reason: str) -> None:
        await self._answer("store_retry", delay, attempt, reason)

    async def store_dead(self, reason: str) -> None:
        await self._answer("store_dead", reason=reason)

    async def ack(self) -> None:
        await self._answer("ack")

    async def give_back(self) -> None:
        await self._answer("give_back")


@dataclass(frozen=True)
class Outcome:
    """What became of one message at one binding.

    Attributes:
        message: as the handler got it.
        settlement: its state, history and decision.
        delivery: how the broker was answered.
        reply: of the handler; a batch has one for all of its messages.
    """

    message: Message
    settlement: Settlement
    delivery: RecordingDelivery
    reply: Reply


class Publisher:
    """Publishes events to the bindings of an application, in process. Nothing of it survives a crash.

    Args:
        app: the application; started at the first use if it is not running.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def publish(
        self,
        source: str,
        name: str,
        payload: Any = None,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, Any] | None = None,
        attempt: int = 1,
        message_id: str | None = None,
        delivery: RecordingDelivery | None = None,
    ) -> list[Outcome]:
        """Publish one event and wait until every binding has handled it, one after the other.

        Args:
            source: the service that publishes.
            name: what happened.
            payload: any value with a JSON form; handlers see a decoded copy.
            body: the encoded payload instead, of the given content type.
            headers: of the message.
            attempt: 1 for a first delivery.
            message_id: of the message.
            delivery: how it is answered, at every binding; by default each gets a delivery of its own.

        Returns:
            One outcome per binding, in the order of their declaration; none if nobody listens.
        """
        await self.app.runtime.ensure_started()
        data = json_dumps(payload) if body is None else body
        outcomes: list[Outcome] = []
        for plan in self.app.table.events.get((source, name), ()):
            message = Message(
                data,
                source=source,
                name=name,
                headers=dict(headers or {}),
                content_type=content_type,
                attempt=attempt,
                message_id=message_id,
                published_at=self.app.clock.now(),
            )
            outcomes += await self.deliver(plan, [message], delivery)
        return outcomes

    async def publish_batch(
        self, source: str, name: str, payloads: Iterable[Any], *, headers: Mapping[str, Any] | None = None
    ) -> list[Outcome]:
        """Publish several events, which bindings with `batch=True` get in one call and others one by one.

        Returns:
            One outcome per binding and message, the messages of a binding in order.
        """
        await self.app.runtime.ensure_started()
        bodies = [json_dumps(payload) for payload in payloads]
        outcomes: list[Outcome] = []
        for plan in self.app.table.events.get((source, name), ()):
            now = self.app.clock.now()
            messages = [
                Message(body, source=source, name=name, headers=dict(headers or {}), published_at=now)
                for body in bodies
            ]
            outcomes += await self.deliver(plan, messages)
        return outcomes

    async def deliver(
        self, plan: Plan, messages: Sequence[Message], delivery: RecordingDelivery | None = None
    ) -> list[Outcome]:
        """Hand messages to one binding: a BATCH gets all in one call, a MESSAGE one by one.

        Args:
            plan: of kind MESSAGE or BATCH, such as those in `app.table.others` of a plugin's own trigger.
            messages: not delivered before.
            delivery: how all of them are answered; by default each gets a delivery of its own.
        """
        deliveries = [delivery or RecordingDelivery() for _ in messages]
        settlements = [Settlement.of(plan, each) for each in deliveries]
        for message, settlement in zip(messages, settlements, strict=True):
            message.app, message.plan, message.settlement = self.app, plan, settlement
        if plan.kind is Kind.BATCH and messages:
            first = messages[0]
            batch = Batch(messages, queue=first.queue, source=first.source, name=first.name)
            batch.app, batch.plan = self.app, plan
            replies = [await handle_batch(batch)] * len(messages)
        else:
            replies = [await handle_message(message) for message in messages]
        return [Outcome(*each) for each in zip(messages, settlements, deliveries, replies, strict=True)]
