"""The broker `sqlite:///path`: durable queues in a file, for the processes of one machine."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Self

import anyio
import anyio.lowlevel

from microkit._bridge import spawn_detached
from microkit.broker import DeadLetter, OnMessage, OutgoingMessage, QueueSpec, QueueState, RpcWire
from microkit.errors import PublicError, StartupError, StatusCode

from .operations import Claimed, Consumer, Operation
from .options import SqliteOptions, parse
from .stale import StaleDelivery
from .store import Store, encode
from .stored import Stored
from .writer import Writer

_logger = logging.getLogger("microkit.workers.brokers")

_PAGE = 200


class SqliteBroker:
    """A session in a file of SQLite.

    What `publish` and `send` have confirmed survives the end of the process, `kill -9` included, and with
    `synchronous=full` (the default) a loss of power. Several processes of one machine share the file; network file
    systems are not for it. What a process held that ended without a word comes again after its lease.

    Args:
        path: of the file; made if it is missing.
        options: bounds and times.
    """

    def __init__(self, path: str | os.PathLike[str], options: SqliteOptions | None = None) -> None:
        self.path = os.path.abspath(path)
        self.options = options or SqliteOptions()
        self._writer: Writer | None = None
        self._generation = 0
        self._consumers: list[Consumer] = []
        self._numbers = 0
        self._armed = False
        self._claimed: deque[Claimed] = deque()
        self._wake = anyio.Event()
        self._here: Callable[..., Any] = lambda *_: None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The broker of a URL: `sqlite:///relative/path` or `sqlite:////absolute/path`, with `SqliteOptions` as query.

        Raises:
            StartupError: the URL cannot be right.
        """
        host, path, options = parse(url, SqliteOptions)
        if host or len(path) < 2 or path.endswith("/") or path == "/:memory:":
            raise StartupError(
                f"The URL {url!r} names no file. Write sqlite:///relative/path or sqlite:////absolute/path; for queues "
                f"in memory there is memory://."
            )
        return cls(path[1:], options)

    @property
    def generation(self) -> int:
        """Number of the session; deliveries of an earlier one are stale."""
        return self._writer.generation if self._writer is not None else self._generation

    # -- connection ----------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        if self._writer is not None:
            return
        native: Any = anyio.lowlevel.current_token().native_token
        soon: Callable[..., Any] = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
        self._here = getattr(native, "call_soon", None) or native.run_sync_soon
        opened = Operation(lambda store: None)
        writer = Writer(self.path, self.options, soon, self._finish, self._session_lost, self._generation + 1)
        writer.start(opened)
        try:
            await opened.done.wait()
        except BaseException:
            writer.close(Operation(lambda store: None))
            raise
        if opened.error is not None:
            raise opened.error
        self._writer = writer
        self._claimed.clear()
        spawn_detached(partial(self._deliver, writer), f"deliveries of {self.path}")

    async def close(self) -> None:
        writer = self._writer
        if writer is None:
            return
        self._generation = writer.generation + 1
        self._writer = None
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            consumer.active = False
        closed = Operation(lambda store: None)
        self._wake.set()
        writer.close(closed)
        with anyio.move_on_after(self.options.busy_timeout + 5, shield=True):
            await closed.done.wait()
        for callback in [each for consumer in consumers for each in consumer.lost]:
            callback()

    def touched(self, queue: str) -> None:
        """There may be something for the consumers of a queue; for operations, in the thread."""
        if (writer := self._writer) is not None:
            writer.touched(queue)

    def _session_lost(self) -> None:
        for callback in [each for consumer in self._consumers if consumer.active for each in consumer.lost]:
            callback()

    # -- work for the thread -------------------------------------------------------------------------------------------

    async def _do(self, run: Callable[[Store], Any], then: Callable[[Any], None] | None = None) -> Any:
        """Let the thread do something, and wait for it. Cancelled before it began, it is left out."""
        operation = Operation(run, then=then)
        self.submit(operation)
        try:
            await operation.done.wait()
        except BaseException:
            operation.abandoned = True
            raise
        if operation.error is not None:
            raise operation.error
        return operation.result

    def submit(self, operation: Operation) -> None:
        """Let the thread do something, whether anybody waits for it or not.

        Raises:
            PublicError: UNAVAILABLE, the broker is not connected.
        """
        writer = self._current()
        writer.submit(operation)
        if not self._armed:  # what comes in this turn of the event loop goes together
            self._armed = True
            self._here(self._flush, writer)

    def _flush(self, writer: Writer) -> None:
        self._armed = False
        writer.wake()

    def _current(self) -> Writer:
        if self._writer is None or self._writer.ended.is_set():
            raise PublicError("The message broker is not connected.", status=StatusCode.UNAVAILABLE)
        return self._writer

    def _finish(self, operations: list[Operation], claimed: list[Claimed]) -> None:
        """Runs on the event loop when the thread has committed something."""
        for operation in operations:
            operation.done.set()
        if claimed:
            self._claimed.extend(claimed)
            self._wake.set()

    async def _deliver(self, writer: Writer) -> None:
        # Consumers are called from a task, not from a callback of the event loop: they may start tasks.
        while writer is self._writer:
            while self._claimed:
                self._hand_out(self._claimed.popleft())
            self._wake = anyio.Event()
            await self._wake.wait()

    def _hand_out(self, claimed: Claimed) -> None:
        delivery, consumer = SqliteDelivery(self, claimed), claimed.consumer
        if not consumer.active:
            return self._unget(delivery)
        try:
            consumer.on_message(claimed.stored.delivered(consumer.spec.name), delivery)
        except Exception:
            _logger.exception("a consumer of %s could not take a message; it comes again", consumer.spec.name)
            self._unget(delivery)
        return None

    def _unget(self, delivery: SqliteDelivery) -> None:
        if self._writer is not None and not delivery.settled:
            self.submit(delivery.operation(Store.give_back if delivery.claimed.consumer.active else Store.unget))

    # -- the protocol --------------------------------------------------------------------------------------------------

    async def publish(self, source: str, event: str, message: OutgoingMessage) -> None:
        writer = self._current()
        self.options.check_size(message)
        row, delay = encode(Stored.of(message, source, event)), message.delay
        await self._do(lambda store: store.publish(row, delay), lambda names: writer.touched(*names))

    async def send(self, queue: str, message: OutgoingMessage) -> None:
        writer = self._current()
        self.options.check_size(message)
        row, delay = encode(Stored.of(message)), message.delay
        await self._do(lambda store: store.send(queue, row, delay), lambda _: writer.touched(queue))

    async def subscribe(self, queue: QueueSpec, prefetch: int, on_message: OnMessage) -> SqliteSubscription:
        writer = self._current()
        self._numbers += 1
        consumer = Consumer(self._numbers, queue, prefetch, on_message, bool(queue.options.get("no_ack")))
        operation = Operation(lambda store: store.declare(queue, consumer.number), then=lambda _: writer.add(consumer))
        self.submit(operation)
        try:
            await operation.done.wait()
        except BaseException:
            await self.unsubscribe(consumer)
            raise
        if operation.error is not None:
            raise operation.error
        self._consumers = [each for each in self._consumers if each.active] + [consumer]
        return SqliteSubscription(self, consumer)

    async def unsubscribe(self, consumer: Consumer) -> None:
        """Deliver no more to a consumer, and remove its queue if it is exclusive."""
        consumer.active = False
        writer, spec = self._writer, consumer.spec
        if writer is None or writer.ended.is_set():
            return

        def leave(store: Store) -> None:
            if spec.exclusive:
                store.drop_queue(spec.name)
            elif spec.single_active:
                store.deactivate(spec.name, consumer.number)

        # The first writes nothing, so it succeeds on a full disk; what the second cannot do, the session's end does. It
        # is done at once, not once it is committed: a claim in the same transaction would make it the active one again.
        stop, clean = Operation(lambda store: writer.remove(consumer)), Operation(leave)
        self.submit(stop)
        self.submit(clean)
        with anyio.CancelScope(shield=True):
            await clean.done.wait()

    def rpc(self) -> RpcWire | None:
        return None

    async def state(self, queue: str) -> QueueState:
        return await self._do(lambda store: store.state(queue))

    async def dead_letters(self, queue: str = "") -> AsyncIterator[DeadLetter]:
        last, page = 0, [(0, None)]
        while page:
            page = await self._do(partial(Store.dead_letters, queue=queue, after=last, count=_PAGE))
            for number, letter in page:
                last = number
                yield letter

    async def redrive(self, queue: str, ids: frozenset[str] | None = None) -> int:
        writer, done = self._current(), 0
        numbers = None if ids is None else sorted(int(each) for each in ids if each.isdecimal())
        while True:
            if numbers is None:
                page = [number for number, _ in await self._do(partial(Store.dead_letters, queue=queue, count=_PAGE))]
            else:
                page, numbers = numbers[:_PAGE], numbers[_PAGE:]
            if not page:
                return done
            done += await self._do(
                partial(Store.redrive, queue=queue, ids=page), lambda count: writer.touched(*[queue] * bool(count))
            )


class SqliteSubscription:
    """A running consumer."""

    def __init__(self, broker: SqliteBroker, consumer: Consumer) -> None:
        self._broker = broker
        self._consumer = consumer

    async def cancel(self) -> None:
        if self._consumer.active:
            await self._broker.unsubscribe(self._consumer)

    def on_lost(self, callback: Callable[[], None]) -> None:
        self._consumer.lost.append(callback)


class SqliteDelivery:
    """One message on its way.

    An answer waits for room on a full disk; a copy for a retry or a dead letter does not, so the message is given back.
    """

    __slots__ = ("broker", "claimed", "delivered_at", "settled")

    def __init__(self, broker: SqliteBroker, claimed: Claimed) -> None:
        self.broker = broker
        self.claimed = claimed
        self.delivered_at = time.time()
        self.settled = claimed.consumer.no_ack

    @property
    def generation(self) -> int:
        return self.claimed.generation

    @property
    def current_generation(self) -> int:
        return self.broker.generation

    def _check(self) -> None:
        if self.generation != self.current_generation:
            raise StaleDelivery("the broker was closed, or its lease lost, after it delivered this message")

    async def store_retry(self, delay: float, attempt: int, reason: str) -> None:
        self._check()
        claimed, queue = self.claimed, self.claimed.consumer.spec.name
        row = encode(claimed.stored.retry(attempt, reason, self.delivered_at))
        await self._perform(
            Operation(
                lambda store: store.store_retry(claimed.id, claimed.session, queue, row, delay),
                then=lambda _: self.broker.touched(queue),
            )
        )

    async def store_dead(self, reason: str) -> None:
        self._check()
        claimed, attempts = self.claimed, self.claimed.stored.attempt
        await self._perform(Operation(lambda store: store.store_dead(claimed.id, claimed.session, reason, attempts)))

    async def ack(self) -> None:
        await self._settle(Store.ack)

    async def give_back(self) -> None:
        await self._settle(Store.give_back)

    async def _settle(self, answer: Callable[[Store, int, int], None]) -> None:
        if self.settled:
            return
        self._check()
        await self._perform(self.operation(answer))

    def operation(self, answer: Callable[[Store, int, int], None]) -> Operation:
        """The work of an answer, which is given once, and even if nobody waits for it."""
        self.settled = True
        claimed, broker = self.claimed, self.broker

        def run(store: Store) -> StaleDelivery | None:
            try:
                answer(store, claimed.id, claimed.session)
            except StaleDelivery as exc:
                return exc  # as a result: the place of the message is free all the same
            return None

        def then(_: object) -> None:
            if claimed.generation == broker.generation:
                claimed.consumer.settled(claimed.id)
            broker.touched(claimed.consumer.spec.name)

        return Operation(run, settles=True, then=then)

    async def _perform(self, operation: Operation) -> None:
        self.broker.submit(operation)
        await operation.done.wait()
        error = operation.error or operation.result
        if error is not None:
            raise error
