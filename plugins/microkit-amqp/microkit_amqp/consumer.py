"""A channel that consumes, comes back after it was lost, and sends answers in batches. Runs on an asyncio loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from microkit.errors import StartupError

from .acks import AckWindow
from .declare import OpenChannel
from .link import Link, broken, pause
from .properties import new_id

_logger = logging.getLogger("microkit.amqp")
OnRaw = Callable[[Any], None]


@dataclass(frozen=True)
class AckRule:
    """When answers are sent.

    Attributes:
        batch: as soon as so many wait.
        delay: seconds after the first one at the latest.
    """

    batch: int
    delay: float


class Consumer:
    """Consumes from queues over one channel.

    Args:
        link: the connection.
        queues: names.
        declare: declares them; called with what opens channels whenever the consumer comes (back).
        prefetch: unanswered messages at a time; 0 is without limit, for `no_ack`.
        on_raw: takes aiormq's deliveries.
        rule: when answers are sent.
        no_ack: messages need no answer.

    Attributes:
        generation: grows whenever the channel is lost; deliveries of earlier ones cannot be answered any more.
        channel: the open channel.
        lost: called back each time that the channel is lost, and when it is closed.
    """

    def __init__(
        self,
        link: Link,
        queues: Sequence[str],
        declare: Callable[[OpenChannel], Coroutine[Any, Any, None]],
        prefetch: int,
        on_raw: OnRaw,
        rule: AckRule,
        *,
        no_ack: bool = False,
    ) -> None:
        self._link = link
        self._queues = queues
        self._declare = declare
        self._prefetch = prefetch
        self._on_raw = on_raw
        # More than a part of the prefetch must not wait, or the broker would have nothing to deliver meanwhile.
        self._rule = AckRule(max(1, min(rule.batch, prefetch // 4)), rule.delay)
        self._no_ack = no_ack
        self.generation = 1
        self.channel: Any = None
        self.lost: list[Callable[[], None]] = []
        self._tags: list[str] = []
        self._window = AckWindow()
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._cancelled = False
        self._closing = (
            False  # what is not answered comes again by itself, and an answer now could break the connection
        )
        self._dropping: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    async def start(self) -> None:
        """Declare and consume.

        Raises:
            StartupError: a queue exists with other properties.
        """
        await self._open()
        self._keeper = asyncio.create_task(self._keep())

    async def _open(self) -> None:
        await self._declare(self._link.channel)
        channel = await self._link.channel(confirms=False)
        try:
            if self._prefetch:
                await channel.basic_qos(prefetch_count=self._prefetch)
            channel.on_consumer_cancel_callbacks.add(self._on_cancelled_by_broker)
            self.channel, self._window, self._lost = channel, AckWindow(), asyncio.Event()
            channel.closing.add_done_callback(lambda _: self._on_lost(channel))
            self._tags = []
            _call_directly(channel)
            for queue in self._queues:
                self._tags.append(tag := f"microkit-{new_id()}")
                direct = _Direct(self._on_delivery)
                job = channel.basic_consume(queue, direct, no_ack=self._no_ack, consumer_tag=tag)
                consuming = asyncio.create_task(job)
                await asyncio.sleep(0)  # aiormq has noted the callback, wrapped in a coroutine, and nothing came yet
                channel.consumers[tag] = direct
                await consuming
        except BaseException:
            await self._drop(channel)
            raise

    def _on_delivery(self, raw: Any) -> None:
        if self._cancelled:
            if raw.channel is self.channel and not self._no_ack and not self._closing:
                self.give_back(raw.delivery.delivery_tag, self.generation)
        elif raw.channel is self.channel:
            self._on_raw(raw)

    async def _on_cancelled_by_broker(self, _: Any) -> None:
        # The queue was deleted, or its leader has moved: begin again with a new channel, which declares it. Not here:
        # this is called by what reads the channel, and closing waits for an answer.
        self._dropping = asyncio.create_task(self._drop(self.channel))

    def _on_lost(self, channel: Any) -> None:
        if channel is self.channel:
            self.generation += 1
            self._lost.set()
            for callback in self.lost:
                callback()

    async def _keep(self) -> None:
        while not self._cancelled:
            await self._lost.wait()
            attempt = 0
            while not self._cancelled:
                try:
                    await self._open()
                    break
                except StartupError as exc:
                    _logger.error("the consumer of %s cannot come back: %s", ", ".join(self._queues), exc)
                except Exception as exc:
                    if not broken(exc):
                        _logger.exception("the consumer of %s cannot come back", ", ".join(self._queues))
                attempt += 1
                await pause(attempt)

    # -- answers -------------------------------------------------------------------------------------------------------

    def ack(self, tag: int, generation: int) -> None:
        """Answer that a message is done, soon. One of an earlier generation is not answered: it comes again."""
        if generation == self.generation and not self._closing:
            self._window.ack(tag)
            self._schedule()

    def give_back(self, tag: int, generation: int) -> None:
        """Answer that a message is to come again, soon."""
        if generation == self.generation and not self._closing:
            self._window.give_back(tag)
            self._schedule()

    def _schedule(self) -> None:
        if len(self._window) >= self._rule.batch:
            self._flush_now()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._rule.delay, self._flush_now)

    def _flush_now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        window, channel = self._window, self.channel
        try:
            while len(window):
                for answer in window.take():
                    if answer.requeue:
                        await channel.basic_nack(answer.tag, requeue=True, wait=False)
                    else:
                        await channel.basic_ack(answer.tag, multiple=answer.multiple, wait=False)
        except Exception as exc:
            if not broken(exc):
                raise
            # The channel is lost, and the broker delivers again what these were the answers for.

    async def flush(self) -> None:
        """Send the answers that wait."""
        self._flush_now()
        while self._flushing is not None and not self._flushing.done():
            await asyncio.wait([self._flushing])

    async def barrier(self) -> None:
        """Return when the broker has processed every answer so far: a channel works through its frames in order."""
        await self.flush()
        await self.channel.basic_qos(prefetch_count=self._prefetch)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def cancel(self) -> None:
        """Take no more messages; those that were handed on can still be answered."""
        if self._cancelled:
            return
        self._cancelled = True
        try:
            for tag in self._tags:
                await self.channel.basic_cancel(tag)
        except Exception as exc:
            if not broken(exc):
                raise
        await self._end_keeper()

    async def close(self) -> None:
        """Send the answers that wait, and close the channel; what is not answered comes again."""
        self._cancelled = True
        await self._end_keeper()
        if self.channel is not None and not self.channel.is_closed:
            await self.flush()
            self._closing = True
            await self._drop(self.channel)
        if self._timer is not None:
            self._timer.cancel()

    def abandon(self, starting: asyncio.Task[None]) -> asyncio.Task[None]:
        """Take nothing, and close the channel as soon as a start that nobody waits for any more is through.

        Cancelling the start itself would stop the whole connection: aiormq keeps the frames of a channel that it has
        given up in a queue with a bound, and waits there.

        Args:
            starting: runs `start`.
        """
        self._cancelled = self._closing = True
        return asyncio.create_task(self._close_after(starting))

    async def _close_after(self, starting: asyncio.Task[None]) -> None:
        await asyncio.wait([starting])
        if starting.cancelled() or starting.exception() is None:
            await self.close()

    async def _end_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _drop(self, channel: Any) -> None:
        if channel is None or channel.is_closed:
            return
        try:
            await channel.close()
        except Exception as exc:
            if not broken(exc):
                raise


class _Direct:
    """A callback of aiormq that is called at once instead of in a task of its own, which costs a fifth of a delivery.

    aiormq awaits what a callback returns in a task of its channel; `_call_directly` lets it take this one for done.

    Args:
        func: takes a delivery, on the event loop, and returns at once.
    """

    def __init__(self, func: OnRaw) -> None:
        self._func = func

    def __call__(self, raw: Any) -> Any:
        try:
            self._func(raw)
        except Exception:
            _logger.exception("a delivery could not be taken")
        return _DONE


class _Done:
    """Looks like a task that has ended well."""

    def add_done_callback(self, callback: Callable[[Any], object]) -> None: ...

    def __await__(self) -> Any:
        return iter(())


_DONE = _Done()


def _call_directly(channel: Any) -> None:
    create_task = channel.create_task
    channel.create_task = lambda job: job if job is _DONE else create_task(job)
