"""Publishing with confirmation, across lost connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from microkit.broker import Unroutable
from microkit.errors import PublicError, StatusCode

from .link import Link, broken, pause, unavailable

_logger = logging.getLogger("microkit.amqp")


class Publisher:
    """A channel for publishing.

    Args:
        link: the connection; opened when something is to be published.
        window: messages that may wait for their confirmation at a time.
        timeout: seconds for one message, with all repetitions.
    """

    def __init__(self, link: Link, window: int, timeout: float) -> None:
        self._link = link
        self._timeout = timeout
        self._window = asyncio.Semaphore(window)
        self._opening = asyncio.Lock()
        self._channel: Any = None
        self._unconfirmed: dict[str, asyncio.Event] = {}
        self._free = asyncio.Event()
        self._free.set()
        self._watching: asyncio.Task[None] | None = None
        self._later: list[Callable[[], object]] = []

    async def publish(self, exchange: str, key: str, body: bytes, properties: Any, *, mandatory: bool) -> None:
        """Publish one message; return when the broker has confirmed it.

        It is sent again, with the same id, if the connection is lost before the confirmation: the broker may then have
        it twice.

        Args:
            exchange, key: where to.
            body: the encoded payload.
            properties: aiormq's; with a message id.
            mandatory: it must reach a queue.

        Raises:
            Unroutable: it is mandatory and reaches none.
            PublicError: UNAVAILABLE, not confirmed in time, be it that the broker takes nothing while it is low on
                memory or disk; RESOURCE_EXHAUSTED, a queue refuses it because it is full.
        """
        from aiormq.exceptions import ChannelNotFoundEntity

        attempt = 0
        try:
            async with asyncio.timeout(self._timeout), self._window:
                while True:
                    try:
                        return await self._attempt(exchange, key, body, properties, mandatory)
                    except ChannelNotFoundEntity as exc:
                        raise Unroutable(f"There is no exchange {exchange!r}.") from exc
                    except Exception as exc:
                        if self._link.is_closed or not broken(exc):
                            raise
                    attempt += 1
                    await pause(attempt - 1)
        except TimeoutError as exc:
            why = ": it is low on memory or disk, and takes none until that is over" if self._is_blocked() else ""
            raise unavailable(
                f"The message broker has not confirmed a message within {self._timeout:g} seconds{why}."
            ) from exc

    async def _attempt(self, exchange: str, key: str, body: bytes, properties: Any, mandatory: bool) -> None:
        from aiormq.exceptions import DeliveryError, PublishError

        # aiormq finds the message of a return by its id alone, so that copies with one id go one after another.
        identity = properties.message_id
        while (other := self._unconfirmed.get(identity)) is not None:
            await other.wait()
        self._unconfirmed[identity] = done = asyncio.Event()
        try:
            channel = self._channel
            while channel is None or channel.is_closed or self._is_blocked():
                channel = await self._usable()
            await channel.basic_publish(
                body, exchange=exchange, routing_key=key, properties=properties, mandatory=mandatory, wait=False
            )
        except PublishError as exc:
            raise Unroutable(f"There is no queue for {key!r}.") from exc
        except DeliveryError as exc:
            raise PublicError(
                f"A queue for {key!r} takes no more messages.", status=StatusCode.RESOURCE_EXHAUSTED
            ) from exc
        finally:
            del self._unconfirmed[identity]
            done.set()

    async def _usable(self) -> Any:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._link.begin()
                self._channel = await self._link.channel()
        if self._is_blocked():
            # What is sent now would arrive later, perhaps long after it was given up and sent again.
            await self._free.wait()
        return self._channel

    def once_possible(self, func: Callable[[], object]) -> None:
        """Call a function now, or once the broker takes messages again."""
        if self._is_blocked():
            self._later.append(func)
        else:
            func()

    async def close(self) -> None:
        """Call nothing any more. The connection is closed by whoever made it."""
        self._later.clear()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    def _is_blocked(self) -> bool:
        """Whether the broker takes no messages, because it is low on memory or disk.

        It tells that on a connection after the first attempt to publish only.
        """
        channel = self._channel
        blocked = channel is not None and not channel.is_closed and not _is_ready(channel.connection)
        if blocked and self._free.is_set():
            self._free.clear()
            self._watching = asyncio.create_task(self._watch())
        return blocked

    async def _watch(self) -> None:
        _logger.warning("RabbitMQ at %s is low on memory or disk; publishing waits", self._link.address)
        channel = self._channel
        ready = asyncio.ensure_future(channel.connection.ready())
        try:
            await asyncio.wait({ready, channel.closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        _logger.warning("publishing to RabbitMQ at %s goes on", self._link.address)
        self._free.set()
        later, self._later = self._later, []
        for func in later:
            func()


def _is_ready(connection: Any) -> bool:
    """Whether a connection of aiormq may publish; that has only a coroutine that waits for it."""
    waiting = connection.ready()
    try:
        waiting.send(None)
    except StopIteration:
        return True
    waiting.close()
    return False
