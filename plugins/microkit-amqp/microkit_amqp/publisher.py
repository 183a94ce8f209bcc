"""Publishing with confirmation, across lost connections."""

from __future__ import annotations

import asyncio
from typing import Any

from microkit.broker import Unroutable
from microkit.errors import PublicError, StatusCode

from .link import Link, broken, pause, unavailable


class Publisher:
    """A channel for publishing.

    Args:
        link: the connection.
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
            PublicError: UNAVAILABLE, not confirmed in time; RESOURCE_EXHAUSTED, a queue refuses it because it is full.
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
            raise unavailable(
                f"The message broker has not confirmed a message within {self._timeout:g} seconds."
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
            if channel is None or channel.is_closed:
                channel = await self._open()
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

    async def _open(self) -> Any:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._link.channel()
            return self._channel
