"""The firings of one schedule where many processes share a store: each due time is run by one of them.

Every process waits for every due time, so none has to lead. It claims the firing in the schedule's record, which one
process can do, and takes the schedule's lease, which it renews while the handler runs. Whoever did not get the firing
looks after it: an open firing whose lease is over has lost its process, and is run by another one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from microkit import Tick
from microkit.schedule import Runs, utc
from microkit_kv import Lease, LeaseLost, StoreError

from .firing import FIRING, make_firing
from .ledger import Ledger
from .record import GIVEN_BACK, Entry, Record

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from microkit import App
    from microkit.plan import Plan

    from .settings import CronSettings

T = TypeVar("T")

_logger = logging.getLogger("microkit.cron")
# How often a lease is renewed, and looked at by others, before it would be over.
_LOOKS = 3
# Seconds between two looks at the store: while it cannot be reached, and while others run.
_LONGEST_PAUSE = 30.0
_IDLE_PAUSE = 1.0
_FIRST_PAUSE = 0.02


class ClusterRuns(Runs):
    """Runs of a schedule of which a cluster runs one at a time.

    Args:
        app, name, plan, group: as for `Runs`.
        ledger: what the cluster knows.
        settings: times and bounds.
        owner: this process, unlike any other.
    """

    def __init__(
        self,
        app: App,
        name: str,
        plan: Plan,
        group: TaskGroup,
        *,
        ledger: Ledger,
        settings: CronSettings,
        owner: str,
    ) -> None:
        super().__init__(app, name, plan, group)
        self.start = 0.0  # periods are counted from the epoch, so that all processes count alike
        self._ledger = ledger
        self._settings = settings
        self._poll = settings.lease / _LOOKS
        self._owner = owner
        self._number = 0
        self._own: set[str] = set()  # owners whose firings run in this process
        self._closed = anyio.Event()
        self._watching = False
        self._recovers = self.overlap != "allow" and (self.misfire != "skip" or self.overlap == "queue")

    # -- what the timers ask -------------------------------------------------------------------------------------------

    async def first(self) -> float:
        now = self.app.clock.now()
        immediate = getattr(self.trigger, "immediate", False)
        since = math.nextafter(now, 0.0) if immediate else now
        record, new = await self._until_done(lambda: self._ledger.begin(since))
        if new and immediate:
            return now
        self._look_after(record)
        if self.misfire == "skip":
            return self.trigger.next_after(now, self.start)
        last = record.last(now, self._settings.clock_skew)
        last = now if last is None else max(last, now - self._settings.catch_up)
        return self.trigger.next_after(last, self.start)

    async def idle(self) -> None:
        pause = _FIRST_PAUSE
        while (await self._until_done(self._ledger.read)).open:
            self._watch()
            await anyio.sleep(pause)
            pause = min(pause * 2, _IDLE_PAUSE)

    async def offer(self, due: float, now: float, missed: int) -> None:
        owner, tries = self._new_owner(), 0

        async def begin() -> None:
            nonlocal tries
            tries += 1
            await self._begin(due, now, missed, owner, again=tries > 1)

        await self._until_done(begin)

    def close(self) -> None:
        self._closed.set()

    # -- getting a firing ----------------------------------------------------------------------------------------------

    async def _begin(self, due: float, now: float, missed: int, owner: str, *, again: bool) -> None:
        skew = self._settings.clock_skew
        leased = self.overlap != "allow"
        claimed: list[Entry] = []

        def claim(record: Record) -> Record | None:
            # `now` may be long ago, if the store was out of reach or the process stood still: what others have claimed
            # since would look like that of clocks that are ahead.
            moment = self.app.clock.now()
            entry = Entry(due, owner, missed=self._missed(record.last(moment, skew), due, missed))
            claimed[:] = [entry]
            return record.claim(entry, moment, skew, keep=leased, replace_waiting=self.overlap == "queue")

        record, won = await self._ledger.change(claim)
        self._warn_of_clocks(record, self.app.clock.now())
        if not won and not record.owned(due, owner):
            # The latter if the store did not say whether an earlier try was done.
            self._look_after(record)
        elif not leased:
            self.group.start_soon(self._fire, claimed[0], now, None)
        elif (lease := await self._ledger.acquire()) is not None:
            self.group.start_soon(self._work, lease)
        elif self.overlap == "queue" or again:
            self._watch()  # whoever runs takes it over, unless it has just ended
        else:
            record, ours = await self._ledger.change(lambda record: record.done(due, owner))
            if ours:
                _logger.warning("schedule %s is due while it still runs; this firing is skipped", self.name)
            self._look_after(record)

    def _missed(self, last: float | None, due: float, missed: int) -> int:
        """How many of the firings that this process was late for nobody else has claimed."""
        if last is None or not missed:
            return missed
        count = 0
        while count < missed and (last := self.trigger.next_after(last, self.start)) < due:
            count += 1
        return count

    def _warn_of_clocks(self, record: Record, now: float) -> None:
        ahead = max(record.claims, default=now) - now
        if ahead > self._settings.clock_skew:
            _logger.warning(
                "schedule %s was claimed for a time that is %.0f seconds ahead of this machine's clock; the clocks of "
                "the cluster are apart, and firings may come twice or at wrong times",
                self.name,
                ahead,
            )

    def _new_owner(self) -> str:
        self._number += 1
        return f"{self._owner}/{self._number}"

    # -- running it ----------------------------------------------------------------------------------------------------

    async def _work(self, lease: Lease | None) -> None:
        """Run what is open, as the holder of the lease."""
        while lease is not None:
            try:
                await self._run_open(lease)
            except StoreError:
                _logger.exception("schedule %s lost touch with its store", self.name)
                self._watch()
                return
            finally:
                await self._release(lease)
            lease = await self._next_lease()

    async def _next_lease(self) -> Lease | None:
        """The lease once more, if something was queued when it was released."""
        if self.overlap != "queue" or self._closed.is_set():
            return None
        try:
            return await self._ledger.acquire() if (await self._ledger.read()).open else None
        except StoreError:
            self._watch()
            return None

    async def _run_open(self, lease: Lease) -> None:
        owner = self._new_owner()
        taken: tuple[Entry, ...] = ()
        over: tuple[Entry, ...] = ()

        def take(record: Record) -> Record:
            nonlocal taken, over
            after, taken, over = record.take(owner, self.misfire)
            return after

        self._own.add(owner)
        try:
            await self._ledger.change(take)
            for entry in over:
                _logger.error(
                    "schedule %s: the firing of %s has ended its process %d times and is given up",
                    self.name,
                    utc(entry.due),
                    entry.attempt,
                )
            for entry in taken:
                if not await self._run_one(entry, lease):
                    return
        finally:
            self._own.discard(owner)

    async def _run_one(self, entry: Entry, lease: Lease) -> bool:
        """Run a firing and record that it is done. Returns whether the lease was held to the end."""
        done, scope = False, anyio.CancelScope()
        try:
            async with anyio.create_task_group() as renewing:
                with scope:
                    renewing.start_soon(self._renew, lease, scope)
                    await self._fire(entry, self.app.clock.now(), lease)
                    done = True
                    await self._until_done(lambda: self._ledger.change(lambda record: record.done(*_id(entry))))
                renewing.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            if not done:
                await self._break_off(entry)
            raise
        if scope.cancelled_caught:
            _logger.error(
                "schedule %s lost its lease, so the firing of %s was %s",
                self.name,
                utc(entry.due),
                "not recorded as done" if done else "cancelled",
            )
            self._watch()
        return not scope.cancelled_caught

    async def _fire(self, entry: Entry, now: float, lease: Lease | None) -> None:
        tick = Tick(self.name, utc(entry.due), utc(now), entry.missed)
        tick.plan = self.app.table.ticks[self.name]
        tick.attributes[FIRING] = make_firing(tick, entry.attempt, lease)
        await self.fire(tick)

    async def _renew(self, lease: Lease, scope: anyio.CancelScope) -> None:
        """Renew the lease until the handler is done; cancel it if that fails, since another may run by then."""
        while lease.remaining > 0:
            await anyio.sleep(min(self._poll, lease.remaining))
            try:
                with anyio.move_on_after(lease.remaining):
                    await lease.renew()
            except LeaseLost:
                break
            except StoreError as exc:
                _logger.warning("schedule %s cannot renew its lease: %s", self.name, exc)
        scope.cancel()

    async def _break_off(self, entry: Entry) -> None:
        """Shutdown has cancelled a firing: another process may have it, unless that counts as missed and skipped."""
        change = Record.done if self.misfire == "skip" else Record.give_back
        with anyio.CancelScope(shield=True):
            try:
                await self._ledger.change(lambda record: change(record, *_id(entry)))
            except StoreError:
                _logger.exception("schedule %s could not give back a firing", self.name)

    async def _release(self, lease: Lease) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await lease.release()
            except StoreError:  # it will be over soon
                _logger.warning("schedule %s could not release its lease", self.name, exc_info=True)

    # -- looking after firings of others -------------------------------------------------------------------------------

    def _look_after(self, record: Record) -> None:
        if record.open:
            self._watch()

    def _watch(self) -> None:
        if self._recovers and not self._watching and not self._closed.is_set():
            self._watching = True
            self.group.start_soon(self._keep_watch)

    async def _keep_watch(self) -> None:
        """Look at what is open until nothing is, or only what runs here."""
        seen: dict[tuple[float, str], float] = {}
        try:
            while not await self._closes_within(self._poll):
                try:
                    record = await self._ledger.read()
                    others = [entry for entry in record.open if entry.owner not in self._own]
                    if not others:
                        return
                    now = time.monotonic()
                    seen = {_id(entry): seen.get(_id(entry), now) for entry in others}
                    # One that was not begun yet has no lease to tell whether its process lives.
                    if any(each.running or each.owner == GIVEN_BACK for each in others) or (
                        now - min(seen.values()) >= self._settings.lease
                    ):
                        await self._work(await self._ledger.acquire())
                except StoreError as exc:
                    _logger.warning("schedule %s cannot look after its firings: %s", self.name, exc)
        finally:
            self._watching = False

    async def _closes_within(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self._closed.wait()
        return self._closed.is_set()

    async def _until_done(self, step: Callable[[], Awaitable[T]]) -> T:
        """Repeat a step while the store cannot be reached. A step that has begun is not cancelled half-way."""
        pause = _FIRST_PAUSE
        while True:
            try:
                with anyio.CancelScope(shield=True):
                    return await step()
            except StoreError as exc:
                _logger.error("schedule %s cannot reach its store, trying again: %s", self.name, exc)
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _id(entry: Entry) -> tuple[Any, Any]:
    return entry.due, entry.owner
