"""The one thread of a process that works in the file of `sqlite://`.

What the event loop asks for while a transaction is being committed shares the next one. A transaction belongs to this
thread alone, so no cancellation can leave one open; what it claims is delivered whether anybody waits or not.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from microkit.errors import PublicError, StartupError, StatusCode

from .claims import claim, take_over
from .database import cannot_use, is_locked, open_database, reason_of, unavailable
from .operations import Claimed, Consumer, Group, Operation
from .options import SqliteOptions
from .stale import StaleDelivery
from .store import Store

_logger = logging.getLogger("microkit.workers.brokers")

_MOST = 1000
"""Operations that share a transaction."""

_RETRY = 0.2
"""Seconds until a file that could not be written is tried again."""

_REST = 1.0
"""Seconds until a queue is tried again whose messages could not be claimed by a fault of ours."""

_writers: set[Writer] = set()
_writers_lock = threading.Lock()


class Writer:
    """A session in the file, and the thread that works for it.

    Args:
        path: of the file.
        options: bounds and times.
        soon: calls a function on the event loop, from any thread.
        finish: called on the event loop with finished operations and claimed messages.
        lost: called on the event loop when the session was lost and another one was begun.

    Attributes:
        generation: number of the session, counted by this object.
    """

    def __init__(
        self,
        path: str,
        options: SqliteOptions,
        soon: Callable[..., Any],
        finish: Callable[[list[Operation], list[Claimed]], None],
        lost: Callable[[], None],
        generation: int,
    ) -> None:
        self.path = path
        self.options = options
        self.generation = generation
        self.ended = threading.Event()
        self._soon = soon
        self._finish = finish
        self._lost = lost
        self._inbox: deque[Operation] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._groups: dict[str, Group] = {}
        self._deferred: list[Operation] = []
        self._closing: Operation | None = None
        self._seen = 0
        self._next_beat = 0.0
        self._idle = 0.0
        self._paused_until = 0.0
        self._complained = False
        self._thread = threading.Thread(target=self._main, name="microkit sqlite broker", daemon=True)

    # -- for the event loop --------------------------------------------------------------------------------------------

    def start(self, opened: Operation) -> None:
        """Begin; `opened` finishes when the file is open."""
        self._inbox.append(opened)
        self._thread.start()

    def submit(self, operation: Operation) -> None:
        """Put work into the next transaction that `wake` begins."""
        self._inbox.append(operation)

    def wake(self) -> None:
        """Look at what was submitted."""
        self._wake.put(None)

    def close(self, closed: Operation) -> None:
        """End after what was submitted: what is held comes again. `closed` finishes when the file is closed."""
        self._closing = closed
        self._wake.put(None)

    # -- for operations, in the thread ---------------------------------------------------------------------------------

    def touched(self, *names: str) -> None:
        """There may be something for the consumers of some queues."""
        for name in names:
            if (group := self._groups.get(name)) is not None:
                group.dirty = True

    def add(self, consumer: Consumer) -> None:
        """Begin to deliver to a consumer, whose queue is declared."""
        consumer.free = consumer.prefetch
        self._groups.setdefault(consumer.spec.name, Group(consumer.spec.name)).consumers.append(consumer)
        self.touched(consumer.spec.name)

    def remove(self, consumer: Consumer) -> None:
        """Deliver no more to a consumer."""
        group = self._groups.get(consumer.spec.name)
        if group is not None and consumer in group.consumers:
            group.consumers.remove(consumer)
            group.leaving.append(consumer)
            group.dirty = True

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        opened = self._inbox.popleft()
        connection: sqlite3.Connection | None = None
        try:
            connection = open_database(self.path, self.options)
            store = Store(connection, self.options)
            _in_transaction(store, store.begin_session)
        except Exception as exc:
            opened.error = exc if isinstance(exc, StartupError) else cannot_use(self.path, exc)
            if connection is not None:
                connection.close()
            self.ended.set()
            self._hand_over([opened], [])
            return
        with _writers_lock:
            _writers.add(self)
        try:
            if self._hand_over([opened], []):
                self._serve(store)
        except Exception:
            _logger.exception("the thread of the message broker failed; its messages come again after the lease")
        finally:
            with _writers_lock:
                _writers.discard(self)
            self._end(store)

    def _end(self, store: Store) -> None:
        self.ended.set()
        left = [*self._deferred, *self._inbox]
        try:
            _in_transaction(store, partial(store.end_session, store.session))
        except Exception as exc:
            _logger.warning("held messages come again only after the lease: %s", reason_of(exc))
        store.connection.close()
        self._wake_others()
        for operation in left:
            operation.error = PublicError("The message broker was closed.", status=StatusCode.UNAVAILABLE)
        self._hand_over(left if self._closing is None else [*left, self._closing], [])

    def _serve(self, store: Store) -> None:
        while True:
            self._wait()
            closing = self._closing is not None  # read before the inbox: what was submitted before it is still done
            operations = self._take()
            try:
                self._look_outside(store)
                groups = self._wanting(store, bool(operations))
            except sqlite3.Error as exc:
                self._pause()
                self._complain(exc)
                groups = []
            if not self._work(store, operations, groups) or (closing and not self._inbox):
                return

    def _look_outside(self, store: Store) -> None:
        version: int = store.execute("PRAGMA data_version").fetchone()[0]
        if version != self._seen:  # another connection has written
            self._seen = version
            self._idle = 0.0
            for group in self._groups.values():
                group.dirty = True

    def _wait(self) -> None:
        now = time.time()
        timeout = self._next_beat - time.monotonic()
        if self._deferred or self._paused_until > time.monotonic():
            timeout = min(timeout, _RETRY)
        elif any(group.dirty and group.candidates() for group in self._groups.values()):
            timeout = 0.0
        elif any(group.consumers for group in self._groups.values()):
            self._idle = min(self.options.poll, self._idle * 1.5 + 0.001)
            dues = [group.due for group in self._groups.values() if group.due is not None and group.candidates()]
            timeout = min([timeout, self._idle, *(due - now for due in dues)])
        try:
            self._wake.get(timeout=max(timeout, 0.0))
            while True:
                self._wake.get_nowait()
        except queue.Empty:
            pass

    def _take(self) -> list[Operation]:
        operations: list[Operation] = []
        if self._deferred and time.monotonic() >= self._paused_until:
            operations, self._deferred = self._deferred, []
        while self._inbox and len(operations) < _MOST:
            operation = self._inbox.popleft()
            if not operation.abandoned:
                operations.append(operation)
        if self._inbox:
            self._wake.put(None)
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + self.options.lease / 4
            operations.append(Operation(Store.beat))
            self._groups = {name: group for name, group in self._groups.items() if group.consumers or group.held}
            for group in self._groups.values():
                group.dirty = True  # what another process held may be there again
        return operations

    def _wanting(self, store: Store, writing: bool) -> list[Group]:
        now = time.time()
        if time.monotonic() < self._paused_until:
            return []
        wanting = [
            group
            for group in self._groups.values()
            if (group.dirty or (group.due is not None and group.due <= now)) and group.candidates()
        ]
        if writing or not wanting:
            return wanting
        # Looking takes no lock; only who finds something begins to write.
        found: list[Group] = []
        for group in wanting:
            due = store.next_due(group.queue)
            group.due, group.dirty = due, False
            if due is not None and due <= now:
                found.append(group)
        return found

    def _work(self, store: Store, operations: list[Operation], groups: list[Group]) -> bool:
        """Do everything in one transaction, or, if that fails, each in its own. Returns False if the loop is gone."""
        if not operations and not groups:
            return True
        try:
            claimed = self._transaction(store, operations, groups)
        except Exception as exc:
            if len(operations) + len(groups) == 1 or is_locked(exc):
                self._failed(operations, groups, exc)
                return self._hand_over([each for each in operations if each not in self._deferred], [])
            return all(
                [
                    *(self._work(store, [operation], []) for operation in operations),
                    *(self._work(store, [], [group]) for group in groups),
                ]
            )
        self._complained = False
        return self._hand_over(operations, claimed)

    def _transaction(self, store: Store, operations: list[Operation], groups: list[Group]) -> list[Claimed]:
        found: list[tuple[Group, list[Claimed], bool, float | None]] = []
        lost = False

        def work() -> None:
            nonlocal lost
            lost = not store.alive()
            if lost:
                store.begin_session()
                for group in self._groups.values():
                    for consumer in group.consumers:
                        store.declare(consumer.spec, consumer.number)
            for operation in operations:
                operation.error = None
                try:
                    operation.result = operation.run(store)
                except (PublicError, StaleDelivery, StartupError) as exc:
                    operation.error = exc
            found.extend((group, *claim(store, group, self.generation + lost)) for group in groups)

        _in_transaction(store, work)
        if lost:
            self._begin_anew()
        for operation in operations:
            if operation.error is None and operation.then is not None:
                operation.then(operation.result)
        suspicious = max(1, self.options.delivery_limit // 2)
        for group, claimed, more, due in found:
            take_over(group, claimed, suspicious)
            group.dirty, group.due = more, due
        if operations:
            self._wake_others()
        return [each for _, claimed, _, _ in found for each in claimed]

    def _begin_anew(self) -> None:
        self.generation += 1
        _logger.warning("the message broker's lease was lost: what it had delivered comes again")
        for group in self._groups.values():
            group.leaving.clear()
            group.dirty = True
            for consumer in group.consumers:
                consumer.free, consumer.held, consumer.alone = consumer.prefetch, 0, 0
        self._call_soon(self._lost)

    def _failed(self, operations: list[Operation], groups: list[Group], exc: Exception) -> None:
        if not isinstance(exc, sqlite3.Error):
            for operation in operations:
                operation.error = exc
            for group in groups:  # a fault of ours: told, and tried again, but not all the time
                group.dirty, group.due = False, time.time() + _REST
                _logger.error("no message of queue %s can be delivered", group.queue, exc_info=exc)
            return
        answers = [operation for operation in operations if operation.settles]
        self._deferred.extend(answers)  # an answer waits until the file can be written again
        if answers or groups:
            self._pause()
        self._complain(exc)
        for operation in operations:
            if not operation.settles:
                operation.error = unavailable(exc)

    def _pause(self) -> None:
        self._paused_until = max(self._paused_until, time.monotonic() + _RETRY)

    def _complain(self, exc: BaseException) -> None:
        if not self._complained:
            self._complained = True
            _logger.error("the message broker cannot work in %s: %s", self.path, reason_of(exc), exc_info=exc)

    def _hand_over(self, operations: list[Operation], claimed: list[Claimed]) -> bool:
        if not operations and not claimed:
            return True
        return self._call_soon(self._finish, operations, claimed)

    def _call_soon(self, function: Callable[..., None], *args: Any) -> bool:
        try:
            self._soon(function, *args)
        except RuntimeError:
            return False  # the event loop has ended
        return True

    def _wake_others(self) -> None:
        with _writers_lock:
            others = [each for each in _writers if each is not self and each.path == self.path]
        for other in others:
            other.wake()


def _in_transaction(store: Store, work: Callable[[], None]) -> None:
    store.execute("BEGIN IMMEDIATE")
    try:
        work()
        store.execute("COMMIT")
    except BaseException:
        if store.connection.in_transaction:
            store.execute("ROLLBACK")
        raise
