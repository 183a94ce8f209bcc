"""Handling each message once: a memory of the messages that were handled, for brokers that deliver some twice."""

from __future__ import annotations

import hashlib
import logging
import uuid
from typing import Any

import anyio

from microkit import CallNext, Message, Reply

from .seen import SeenStore

_logger = logging.getLogger("microkit.workers")
_DONE = b"done"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
_LONGEST_KEY = 200  # bytes: stores have bounds, and ids come from outside


class Idempotent:
    """Middleware: a message that was handled is acked without its handler. Add it to a context or an application:
    `context.add_middleware(Idempotent(SqliteSeenStore("seen.db")), kinds=Kind.MESSAGE)`.

    Messages are told apart by id and queue; those without an id, and batches, are handled each time. A message is
    claimed while it is handled; a copy waits until that has ended: it is acked if it ended well, and handled otherwise.
    A crash after the handler's own commit and before this store's repeats the message; where that matters,
    `SqliteSeenStore.done` in the handler's transaction closes that window.

    Args:
        store: remembers them: `MemorySeenStore`, `SqliteSeenStore`, or a `Store` of microkit-kv.
        ttl: seconds; longer than a message may be on its way.
        lease: seconds after which the claim of a process that is gone ends; one that runs prolongs its claim.
    """

    def __init__(self, store: SeenStore, ttl: float = 86_400.0, lease: float = 30.0) -> None:
        self._store = store
        self._ttl = ttl
        self._lease = lease

    async def __call__(self, message: Message, call_next: CallNext) -> Reply:
        key = seen_key(message) if isinstance(message, Message) else None  # a batch is none
        if key is None:
            return await call_next(message)
        claim = f"claimed by {uuid.uuid4().hex}".encode()
        if not await self._claimed(key, claim):
            return Reply()
        reply: Reply | None = None
        handled = False
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._prolong, key, claim)
                reply = await call_next(message)
                tasks.cancel_scope.cancel()
            assert reply is not None, "call_next raises when it is cancelled only"
            decided: Any = message.settlement.decision if message.settlement is not None else None
            handled = reply.ok and (decided is None or decided.verdict.value == "ack")
            return reply
        finally:
            with anyio.CancelScope(shield=True):
                if handled:
                    await self._store.put(key, _DONE, ttl=self._ttl)
                else:
                    await self._store.compare_and_set(key, claim, None)

    async def _claimed(self, key: str, claim: bytes) -> bool:
        """Claim a message, once nobody else does; False if it was handled."""
        pause = _FIRST_PAUSE
        while not await self._store.compare_and_set(key, None, claim, ttl=self._lease):
            if await self._store.get(key) == _DONE:
                return False
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return True

    async def _prolong(self, key: str, claim: bytes) -> None:
        while True:
            await anyio.sleep(self._lease / 3)
            try:
                await self._store.compare_and_set(key, claim, claim, ttl=self._lease)
            except Exception as exc:  # the handler goes on: it is at worst repeated
                _logger.warning("the claim of message %s could not be prolonged: %s", key, exc)


def seen_key(message: Message) -> str | None:
    """What a message is remembered by; None for one without an id."""
    if not message.message_id:
        return None
    key = f"{message.queue or message.address} {message.message_id}"
    encoded = key.encode(errors="backslashreplace")
    return encoded.decode() if len(encoded) <= _LONGEST_KEY else hashlib.sha256(encoded).hexdigest()
