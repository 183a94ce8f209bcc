"""What comes from queues: messages, and several of them in one call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Self

from .call import MISSING, Call, Kind

if TYPE_CHECKING:
    from .app import App
    from .settlement import Settlement


class Message(Call):
    """One message of a broker.

    Args:
        body: encoded payload, or MISSING when `payload` is given.
        payload: the decoded payload, when there was never an encoded one.
        source, name: who published it and what happened; `queue` for plain queues.
        headers: the message's headers.
        attempt: 1 for the first delivery.
        message_id: the same for all copies of it.
        correlation_id, reply_to: of a request that waits for a reply.
        published_at: when it was published, or became due if it was delayed or is a retry; seconds since the epoch.
            None if its broker does not know.
        settlement: how it will be answered.
    """

    kind = Kind.MESSAGE

    def __init__(
        self,
        body: bytes = b"",
        *,
        payload: Any = MISSING,
        source: str = "",
        name: str = "",
        queue: str = "",
        headers: MutableMapping[str, Any] | None = None,
        content_type: str = "application/json",
        attempt: int = 1,
        message_id: str | None = None,
        correlation_id: str = "",
        reply_to: str = "",
        published_at: float | None = None,
        settlement: Settlement | None = None,
    ) -> None:
        self.body = body
        self._payload = payload
        self.source = source
        self.name = name
        self.queue = queue
        self.headers = headers if headers is not None else {}
        self.content_type = content_type
        self.attempt = attempt
        self.message_id = message_id
        self.correlation_id = correlation_id
        self.reply_to = reply_to
        self.published_at = published_at
        self.settlement = settlement
        self._own_scope: Any = None

    @property
    def payload(self) -> Any:
        """The decoded payload.

        Raises:
            BadRequest: the body is not what its content type says.
        """
        if self._payload is MISSING:
            from .codecs import decode

            self._payload = decode(self.body, self.content_type, *self._codecs())
        return self._payload

    def _codecs(self) -> tuple[Any, ...]:
        app: App | None = self.__dict__.get("app")  # a message that was made by hand belongs to no application yet
        return () if app is None else (app.codecs,)

    async def get(self) -> Any:
        """The decoded payload (the awaitable form that platform queues share)."""
        return self.payload

    async def ack(self) -> None:
        """Decide that the message is done. Sent after the scope closed; void if handler or teardown then fail."""
        self._settlement().decide_ack()

    async def retry(self, delay: float | None = None) -> None:
        """Decide that the message comes again after `delay` seconds; None leaves that to the retry policy."""
        self._settlement().decide_retry(delay)

    async def reject(self, reason: str = "rejected") -> None:
        """Decide that the message goes to the dead letters."""
        self._settlement().decide_dead(reason)

    def _settlement(self) -> Settlement:
        if self.settlement is None:
            raise RuntimeError(f"message {self.name or self.queue!r} has no delivery to settle")
        return self.settlement

    async def __aenter__(self) -> Self:
        """Give the message a scope of its own within a batch: it is settled when the block ends.

        Raises:
            RuntimeError: it is no message of a batch, so its scope is that of the call.
        """
        from .dispatch import MessageScope

        self._own_scope = MessageScope(self)
        await self._own_scope.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._own_scope.__aexit__(*exc_info)


class Batch(Call):
    """Several messages in one call, each settled on its own.

    Args:
        messages: the messages, in the order of the queue.
        queue: where they come from.
    """

    kind = Kind.BATCH

    def __init__(self, messages: Iterable[Message], *, queue: str = "", source: str = "", name: str = "") -> None:
        self._messages = tuple(messages)
        self.queue = queue
        self.source = source
        self.name = name
        self.headers = {}
        self.consumed_count = 0

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Any:
        return iter(self._messages)

    def messages(self) -> AsyncIterator[Message]:
        """The messages one by one."""
        return _Messages(self)

    @property
    def payloads(self) -> list[Any]:
        """All decoded payloads."""
        return [message.payload for message in self._messages]

    async def ack_all(self) -> None:
        """Decide `ack` for every message that has no decision yet."""
        for message in self._messages:
            await message.ack()

    async def retry_all(self, delay: float | None = None) -> None:
        """Decide `retry` for every message that has no decision yet; `delay` in seconds."""
        for message in self._messages:
            await message.retry(delay)


class _Messages(AsyncIterator[Message]):
    # No generator: one that is left early needs closing, and trio warns if nobody does it.
    def __init__(self, batch: Batch) -> None:
        self._batch, self._left = batch, iter(batch)

    async def __anext__(self) -> Message:
        for message in self._left:
            self._batch.consumed_count += 1
            return message
        raise StopAsyncIteration
