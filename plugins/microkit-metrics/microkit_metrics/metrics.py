"""The figures of one application: an observer that counts, and the registry that they are read from."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from microkit import App, Call, Kind, Reply
from microkit.observe import Observer, WorkerPool

from .series import LAGS, Distribution, Labelling, Labels, Series
from .settings import MetricsSettings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from microkit import Message
    from microkit.broker import QueueState
    from microkit.plan import Plan
    from microkit.settlement import Settlement

_KEY = "microkit_metrics"
_PATIENCE = 5.0
_THREADS = 4  # one of them makes a page, the others wait for it


class Metrics(Observer):
    """The metrics of an application. Inject it by its type, or take `Metrics.of(app)`.

    Metrics of your own go into its registry: `Counter("orders", "Orders.", registry=metrics.registry)`.

    Args:
        settings: of the plugin.
        service: name of the application.
        version: version of its interface.

    Attributes:
        process: number of this process where several serve the application; None: it is the only one.
        pools: pools of workers by their label.
        queues: how queues are doing, by the labels of their bindings and their names.
        loop_lag: how late the event loop was, in seconds.
    """

    def __init__(self, settings: MetricsSettings, service: str = "app", version: int = 1) -> None:
        self.settings = settings
        self.service = service
        self.version = version
        self.process: int | None = None
        self.pools: dict[str, WorkerPool] = {}
        self.queues: dict[tuple[Labels, str], QueueState] = {}
        self.loop_lag = Distribution(LAGS)
        self._lock = threading.Lock()
        self._by_labels: dict[Labels, Series] = {}
        self._by_plan: dict[Plan, Series] = {}
        self._table: Any = None
        self._labelling = Labelling(())

    @classmethod
    def of(cls, app: App) -> Metrics:
        """The metrics of an application; its plugins are loaded if they were not.

        Raises:
            LookupError: microkit-metrics is not among them.
        """
        found: Any = vars(app).get(_KEY)
        if found is None:
            settings = app.all_settings.get("metrics") if app.plugins else None
            if settings is None:
                raise LookupError(f"The application {app.name!r} does not use the plugin 'metrics'.")
            # In the application itself: the figures hold its plans, so that no weak reference would ever free the two.
            found = vars(app).setdefault(_KEY, cls(settings, app.name, app.version))
        return found

    @property
    def series(self) -> list[Series]:
        """What was counted, one for each combination of labels."""
        return list(self._by_labels.values())

    @cached_property
    def registry(self) -> CollectorRegistry:
        """The application's own registry of prometheus-client."""
        from .families import new_registry

        return new_registry(self)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page of all figures; blocks for as long as the slowest collector.

        Args:
            accept: the field `Accept` of a request, which may ask for OpenMetrics.

        Returns:
            Body and content type.
        """
        from .families import encoder

        encode, content_type = encoder(accept)
        return encode(self.registry), content_type

    async def rendered(self, accept: str = "") -> tuple[bytes, str]:
        """`render` in a thread, so that many figures, or a slow collector, do not hold up the event loop.

        Raises:
            TimeoutError: a page that nobody waits for any more is still being made.
        """
        return await anyio.to_thread.run_sync(self._alone, accept, abandon_on_cancel=True, limiter=self._limiter)

    def _alone(self, accept: str) -> tuple[bytes, str]:
        # A collector that hangs keeps one thread, not one for each time that somebody asks.
        if not self._lock.acquire(timeout=_PATIENCE):
            raise TimeoutError(f"the collectors have not answered an earlier request within {_PATIENCE:g} seconds")
        try:
            return self.render(accept)
        finally:
            self._lock.release()

    @cached_property
    def _limiter(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(_THREADS)

    # -- what the kernel tells -----------------------------------------------------------------------------------------

    def _new(self, plan: Plan) -> Series:
        """The series of a plan that was not seen yet."""
        table = plan.app.compiled
        if table is not self._table:  # an override has made new plans; the old ones are not to be kept alive
            self._by_plan.clear()
            self._table, self._labelling = table, Labelling(table.plans if table is not None else ())
        labels = self._labelling.of(plan)
        series = self._by_labels.get(labels)
        if series is None:
            series = self._by_labels[labels] = Series(labels, plan.kind, self.settings.buckets)
        self._by_plan[plan] = series
        return series

    def call_started(self, call: Call) -> None:
        plan = call.plan
        series = self._by_plan.get(plan) or self._new(plan)
        series.active += 1
        if not series.http:
            _noted(series, call)

    def call_finished(self, call: Call, reply: Reply, duration: float) -> None:
        plan = call.plan
        series = self._by_plan.get(plan) or self._new(plan)
        series.active -= 1
        series.durations.add(duration)
        outcome = reply.http_status // 100 if series.http else reply.status
        series.outcomes[outcome] = series.outcomes.get(outcome, 0) + 1
        if series.sockets:
            series.sockets.discard(call)

    def task_failed(self, call: Call, exc: Exception) -> None:
        plan = call.plan
        series = self._by_plan.get(plan) or self._new(plan)
        series.failed_tasks += 1

    def message_settled(self, message: Message, settlement: Settlement) -> None:
        plan, state = message.plan, settlement.state
        settled = (self._by_plan.get(plan) or self._new(plan)).settled
        settled[state] = settled.get(state, 0) + 1

    def queue_measured(self, plan: Plan, queue: str, state: QueueState) -> None:
        self.queues[(self._by_plan.get(plan) or self._new(plan)).labels, queue] = state

    def pool_opened(self, pool: WorkerPool) -> None:
        self.pools[pool.label] = pool


def _noted(series: Series, call: Any) -> None:
    """Count what only some kinds have: attempts, lag, sockets."""
    if series.kind is Kind.SOCKET:
        series.sockets.add(call)
    elif series.kind is Kind.BATCH:
        for message in call:
            _waited(series, message, call.app)
    elif series.kind is Kind.MESSAGE:
        _waited(series, call, call.app)
    elif series.kind is Kind.TICK:
        if getattr(call, "attempt", 1) > 1:
            series.retries += 1
        elif series.lags is not None:
            series.lags.add(max(0.0, (call.fired_at - call.scheduled_at).total_seconds()))


def _waited(series: Series, message: Message, app: App) -> None:
    if message.attempt > 1:
        series.retries += 1
    if message.published_at is not None and series.lags is not None:
        series.lags.add(max(0.0, app.clock.now() - message.published_at))
