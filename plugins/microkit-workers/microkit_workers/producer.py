"""Publishing from inside a handler."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from typing import Any

from microkit import Call, Depends
from microkit.broker import Broker, OutgoingMessage
from microkit.codecs import json_dumps

from .context import pools_of
from .crossing import Loop

_logger = logging.getLogger("microkit.workers")


def event_message(payload: Any, headers: Mapping[str, Any] | None = None) -> OutgoingMessage:
    """A message for a payload: JSON, bytes as they are, with an id of its own.

    Raises:
        TypeError: the payload has no JSON form.
    """
    raw = isinstance(payload, bytes)
    content_type = "application/octet-stream" if raw else "application/json"
    return OutgoingMessage(
        payload if raw else json_dumps(payload), content_type, dict(headers or {}), message_id=uuid.uuid4().hex
    )


class Publication:
    """An event on its way to the broker, published when it is awaited, at the latest when its handler has ended."""

    __slots__ = ("_publish", "begun")

    def __init__(self, publish: Callable[[], Awaitable[None]]) -> None:
        self._publish = publish
        self.begun = False

    async def run(self) -> None:
        """Publish it and return when the broker has confirmed it."""
        if not self.begun:
            self.begun = True
            await self._publish()

    def __await__(self) -> Generator[Any, Any, None]:
        return self.run().__await__()


class EventProducer:
    """What `Producer` injects: `producer("order_placed", {...})`.

    In a sync handler it returns when the broker has confirmed the event. In a coroutine it is awaited; what was not
    awaited is published when the handler has returned, and a failure of that makes the call fail.

    Args:
        broker: takes the events.
        source: who publishes them.
        confirm: wait for the broker's confirmation.
        loop: the event loop of the call.
    """

    def __init__(self, broker: Broker, source: str, confirm: bool, loop: Loop) -> None:
        self._broker = broker
        self._source = source
        self._confirm = confirm
        self._loop = loop
        self._begun: list[Publication] = []

    def __call__(self, event_name: str, payload: Any, *, headers: Mapping[str, Any] | None = None) -> Any:
        """Publish an event of this service.

        Args:
            event_name: what happened.
            payload: any value with a JSON form, or bytes.
            headers: of the message: texts and integers.

        Raises:
            PublicError: UNAVAILABLE, the broker did not confirm it.
        """
        message = event_message(payload, headers)

        async def publish() -> None:
            await self._broker.publish(self._source, event_name, message)

        if not self._confirm:
            self._loop.call_sync(self._loop.tasks.start_soon, _unconfirmed, publish, event_name)
            return Publication(_nothing)
        if not self._loop.is_here:
            return self._loop.call(publish)
        publication = Publication(publish)
        self._begun.append(publication)
        return publication

    async def finish(self) -> None:
        """Publish what nobody awaited."""
        for each in self._begun:
            await each.run()


async def _nothing() -> None:
    """What is left to wait for of an event that is not to be confirmed."""


async def _unconfirmed(publish: Callable[[], Awaitable[None]], event_name: str) -> None:
    try:
        await publish()
    except Exception:
        _logger.exception("the event %s could not be published", event_name)


class Producer:
    """Injects an `EventProducer`: `@inject(producer=Producer())`, or as an attribute of a class target.

    Args:
        service_name: the source of the events; None: this service.
        confirm_publish: return when the broker has confirmed an event; False: at once, and a failure is logged only.
    """

    def __init__(self, service_name: str | None = None, confirm_publish: bool = True) -> None:
        self.service_name = service_name
        self.confirm_publish = confirm_publish

    def __microkit_depends__(self) -> Depends:
        return Depends(self._provide)

    async def _provide(self, call: Call, broker: Broker) -> AsyncGenerator[EventProducer]:
        app = call.app
        source = self.service_name or pools_of(app).settings.service or app.name
        producer = EventProducer(broker, source, self.confirm_publish, Loop(app.runtime.tasks))
        yield producer
        await producer.finish()
