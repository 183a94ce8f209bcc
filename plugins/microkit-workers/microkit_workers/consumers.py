"""The ingress of messages and of procedures over a broker: from deliveries to calls, and back."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

import anyio

from microkit import Batch, ConfigurationError, Kind, Message, Reply, StatusCode
from microkit.broker import Broker, QueueSpec, Subscription
from microkit.dispatch import handle_batch, handle_message
from microkit.observe import settled
from microkit.settlement import Delivery, Settlement

from .context import pools_of
from .crew import Crew
from .layers import count
from .measure import QueueMeasure
from .procedures import ProcedureServer
from .queues import BrokerProcedure, queue_of
from .watch import Watch, name_of

if TYPE_CHECKING:
    from microkit import App
    from microkit.plan import Plan
    from microkit.transport import Process

    from .pool import Place, Pool

_logger = logging.getLogger("microkit.workers")
_LAST_WORDS = 1.0  # seconds that cancelled calls get before their messages are given back without them


class Consumers:
    """Serves all bindings of events, queues and broker procedures."""

    name = "consumers"

    def __init__(self) -> None:
        self._scope = anyio.CancelScope()
        self._subscriptions: list[Subscription] = []
        self._group: Any = None
        self._done = anyio.Event()
        self._crew = Crew()
        self._watchers: list[Watch | QueueMeasure] = []
        self.running: dict[int, Running] = {}

    async def start(self, app: App, process: Process) -> None:
        """Connect to the broker and subscribe.

        Raises:
            StartupError: the broker cannot be reached, or a queue exists with other properties.
            ConfigurationError: two bindings have the same queue.
        """
        self._app, self._pools = app, pools_of(app)
        settings = self._pools.settings
        queues, procedures = consumed(app), served(app)
        broker: Broker = await app.container.get(Broker)
        started = anyio.Event()
        process.tasks.start_soon(self._serve, started)
        await started.wait()
        timeout = settings.consumer_timeout
        watch = Watch(self, getattr(broker, "consumer_timeout", 0.0) if timeout is None else timeout)
        self._watchers = [watch, QueueMeasure(app, broker, queues, settings.queue_interval)]
        for plan, queue in queues:
            pool = self._pools.of(plan)
            consumer = (BatchConsumer if plan.kind is Kind.BATCH else Consumer)(self, plan, pool, queue)
            self._subscriptions.append(await broker.subscribe(queue, consumer.prefetch, consumer.on_message))
        if procedures:
            server = ProcedureServer(app, self._pools, self.spawn)
            self._subscriptions += await server.start(procedures)
        for each in self._watchers:
            self._group.start_soon(each.run)
        _logger.info(
            "consuming %s",
            ", ".join([*(queue.name for _, queue in queues), *(plan.address for plan in procedures)][:20]),
        )

    async def _serve(self, started: anyio.Event) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as self._group:
                    started.set()
                    await self._crew.run(self._group)
        finally:
            self._done.set()

    def spawn(self, func: Any, *args: Any) -> None:
        """Run something in a task of this ingress, which waits for it at the end. Brokers deliver from callbacks of the
        event loop too, where no task may be started."""
        self._crew.put(func, *args)

    async def stop(self, grace: float) -> None:
        """Take no more messages; give back those that wait for a worker, unless their pool is greedy; let the others
        finish for at most `grace` seconds, then cancel them and give their messages back."""
        if self._group is None:
            return
        # Before the pools close: what these turn away would be delivered here again.
        async with anyio.create_task_group() as group:
            for each in self._subscriptions:
                group.start_soon(_cancel, each)
        for pool in self._pools.all():
            pool.close()
        for each in self._watchers:
            each.stop()
        self._crew.close()
        with anyio.move_on_after(grace):
            await self._done.wait()
        if self._done.is_set():
            return
        for pool in self._pools.all():
            pool.abandon()
        _logger.warning("%d messages were not done in time; they are given back", len(self.running))
        self._scope.cancel()
        with anyio.move_on_after(_LAST_WORDS):
            await self._done.wait()
        for each in list(self.running.values()):  # a thread does not hear of the cancellation
            _logger.error("%s does not end; its message %s is given back all the same", each.what, each.message_ids)
            for settlement in each.settlements:
                await settlement.give_back()
        await self._done.wait()


async def _cancel(subscription: Subscription) -> None:
    try:
        await subscription.cancel()
    except Exception:
        _logger.exception("a subscription could not be cancelled")


def consumed(app: App) -> list[tuple[Plan, QueueSpec]]:
    """The queues that an application consumes, each with the plan of its messages. The application is built.

    Raises:
        ConfigurationError: two bindings have the same queue.
    """
    service = pools_of(app).settings.service or app.name
    found: dict[str, Plan] = {}
    queues: list[tuple[Plan, QueueSpec]] = []
    for plan in app.table.plans:
        if plan.ingress != Consumers.name or isinstance(plan.binding.trigger, BrokerProcedure):
            continue
        queue = queue_of(plan.binding, service)
        if queue.name in found:
            raise ConfigurationError(
                f"Two bindings consume the queue {queue.name!r}, so each would get a part of its messages only: "
                f"{found[queue.name].endpoint} and {plan.endpoint}. Give one of them a name of its own (name=..., or "
                f"metric_label= of a route)."
            )
        found[queue.name] = plan
        queues.append((plan, queue))
    return queues


def served(app: App) -> list[Plan]:
    """The plans of the procedures that an application serves over its broker."""
    plans = (plan for plan in app.table.plans if plan.ingress == Consumers.name)
    return [plan for plan in plans if isinstance(plan.binding.trigger, BrokerProcedure)]


class Running:
    """Messages in the hands of a handler.

    Args:
        plan: whose handler it is.
        settlements: of the messages.
        message_ids: for logs.
        since: when the first of them was delivered, by the monotonic clock: its broker counts the time that it waits
            for a worker, too.
    """

    def __init__(self, plan: Plan, settlements: list[Settlement], message_ids: str, since: float) -> None:
        self.plan = plan
        self.settlements = settlements
        self.message_ids = message_ids
        self.since = since
        self.warned = False

    @property
    def what(self) -> str:
        """The handler, for logs."""
        return name_of(self.plan)


class Consumer:
    """Runs the messages of one queue.

    Args:
        server: the ingress.
        plan: what handles them.
        pool: whose workers run it.
        queue: the queue.
    """

    def __init__(self, server: Consumers, plan: Plan, pool: Pool, queue: QueueSpec) -> None:
        self.server = server
        self.plan = plan
        self.pool = pool
        self.queue = queue
        self.settings = pools_of(plan.app).settings
        self.prefetch = plan.options.get("prefetch") or max(1, math.ceil(pool.size * self.settings.prefetch_factor))

    def on_message(self, message: Message, delivery: Delivery) -> None:
        """Take a delivery; never waits."""
        self._prepare(message, delivery)
        if self._too_large(message):
            self.server.spawn(self._refuse, message)
        else:  # lined up here, so that one worker keeps the order of its queue: tasks begin in any order
            self.server.spawn(self._handle, message, time.monotonic(), self.pool.line_up())

    def _prepare(self, message: Message, delivery: Delivery) -> Settlement:
        message.app, message.plan = self.plan.app, self.plan
        message.queue = message.queue or self.queue.name
        message.settlement = Settlement.of(self.plan, delivery)
        return message.settlement

    async def _handle(self, message: Message, since: float, place: Place) -> None:
        settlement = message.settlement
        assert settlement is not None
        try:
            if not await place.reached():
                return await settlement.give_back()
        except BaseException:
            await settlement.give_back()
            raise
        running = Running(self.plan, [settlement], message.message_id or "", since)
        return await self._run(message, running)

    async def _run(self, call: Any, running: Running) -> None:
        pool, server = self.pool, self.server
        server.running[id(running)] = running
        call.__dict__["worker"] = pool
        try:
            with pool.held():
                reply = await (handle_batch if call.kind is Kind.BATCH else handle_message)(call)
            count(pool, reply)
        except Exception:  # of a scope around the handler or an observer: the other messages must not suffer
            _logger.exception("handling %s failed", running.what)
        finally:
            pool.release()
            del server.running[id(running)]

    def _too_large(self, message: Message) -> bool:
        return len(message.body) > self.settings.max_message_size

    async def _refuse(self, message: Message) -> None:
        settlement = message.settlement
        assert settlement is not None
        bound = f"the bound of {self.settings.max_message_size} (max_message_size)"
        reason = f"PayloadTooLarge: {len(message.body)} bytes are over {bound}"
        _logger.error("message %s of %s goes to the dead letters: %s", message.message_id, self.queue.name, reason)
        settlement.start()
        settlement.decide_dead(reason)
        await settlement.finish(message, Reply(status=StatusCode.RESOURCE_EXHAUSTED))
        settled(message)


class _Gathering:
    """Messages that become a batch."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.messages: list[Message] = []
        self.full: anyio.Event | None = None
        self.place: Place | None = None  # in the line for a worker


class BatchConsumer(Consumer):
    """Runs the messages of one queue, several in one call. A batch begins when it is full or its first message has
    waited long enough."""

    def __init__(self, server: Consumers, plan: Plan, pool: Pool, queue: QueueSpec) -> None:
        super().__init__(server, plan, pool, queue)
        settings = self.settings
        self.size = plan.options.get("batch_size") or settings.batch_size
        self.wait = plan.options.get("batch_wait") or settings.batch_wait
        self.prefetch = plan.options.get("prefetch") or self.size * max(1, math.ceil(settings.prefetch_factor))
        self._gathering = _Gathering()

    def on_message(self, message: Message, delivery: Delivery) -> None:
        """Take a delivery; never waits."""
        self._prepare(message, delivery)
        if self._too_large(message):
            self.server.spawn(self._refuse, message)
            return
        batch = self._gathering
        if not batch.messages:
            batch.since = time.monotonic()
        batch.messages.append(message)
        if len(batch.messages) == 1:
            self.server.spawn(self._collect, batch)
        if len(batch.messages) >= self.size:
            self._gathering = _Gathering()
            if batch.place is None:
                batch.place = self.pool.line_up()
            if batch.full is not None:
                batch.full.set()

    async def _collect(self, gathering: _Gathering) -> None:
        messages, settlements = gathering.messages, list[Settlement]()
        try:
            if gathering is self._gathering:
                gathering.full = anyio.Event()
                with anyio.move_on_after(self.wait):
                    await gathering.full.wait()
            if gathering.place is None:
                gathering.place = self.pool.line_up()
            # What comes while this waits for a worker belongs to it as well.
            if not await gathering.place.reached():
                return await self._give_back(gathering)
            self._complete(gathering)
            settlements = [each.settlement for each in messages if each.settlement is not None]
        except BaseException:
            await self._give_back(gathering)
            raise
        first = messages[0]
        batch = Batch(messages, queue=self.queue.name, source=first.source, name=first.name)
        batch.app, batch.plan = self.plan.app, self.plan
        return await self._run(
            batch, Running(self.plan, settlements, f"{first.message_id} and {len(messages) - 1} more", gathering.since)
        )

    def _complete(self, gathering: _Gathering) -> None:
        if self._gathering is gathering:
            self._gathering = _Gathering()

    async def _give_back(self, gathering: _Gathering) -> None:
        self._complete(gathering)
        for each in gathering.messages:
            if each.settlement is not None:
                await each.settlement.give_back()
