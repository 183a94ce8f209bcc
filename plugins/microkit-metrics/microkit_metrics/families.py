"""From what was counted to the metrics of prometheus-client, which is imported here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from .metrics import Metrics

_LABELS = ("kind", "context", "route")


def new_registry(metrics: Metrics) -> CollectorRegistry:
    """A registry of one application's own, with what the framework counts in it."""
    registry = CollectorRegistry()
    registry.register(Figures(metrics))
    if metrics.settings.process_figures:
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
    return registry


def encoder(accept: str) -> tuple[Callable[[Any], bytes], str]:
    """What writes a registry in the format that a client asks for, and its content type."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        return choose_encoder("")


class Figures(Collector):
    """The metrics of the framework.

    Args:
        metrics: where they are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> list[Any]:
        """Nothing: registering must not read any figures."""
        return []

    def collect(self) -> Iterator[Any]:
        """All metric families."""
        yield from self._calls()
        yield from self._messages()
        yield from self._queues()
        yield from self._pools()
        yield from self._loop()

    # -- families ------------------------------------------------------------------------------------------------------

    def _calls(self) -> Iterator[Any]:
        series = self._metrics.series
        in_flight = self._family(GaugeMetricFamily, "tasks_number", "Calls in flight.", _LABELS)
        ended = self._family(CounterMetricFamily, "tasks", "Calls that have ended.", (*_LABELS, "status"))
        text = "Calls that failed on our side: 5xx, and what is not OK where no caller waits."
        failed = self._family(CounterMetricFamily, "failed_tasks", text, _LABELS)
        text = "Seconds from the start of a call to its delivery."
        durations = self._family(HistogramMetricFamily, "task_duration_seconds", text, _LABELS)
        text = "Background tasks that failed."
        background = self._family(CounterMetricFamily, "failed_background_tasks", text, _LABELS)
        text = "WebSockets that are accepted and open."
        sockets = self._family(GaugeMetricFamily, "ws_active_connections", text, _LABELS[1:])
        for each in series:
            labels = each.labels.values
            values = self._with(*labels)
            in_flight.add_metric(values, each.active)
            for status, count in each.by_status().items():
                ended.add_metric(self._with(*labels, status), count)
            failed.add_metric(values, each.failures)
            durations.add_metric(values, each.durations.buckets(), each.durations.total)
            background.add_metric(values, each.failed_tasks)
            if each.labels.kind == "socket":
                sockets.add_metric(self._with(*labels[1:]), each.connections)
        yield from (in_flight, ended, failed, durations, background, sockets)

    def _messages(self) -> Iterator[Any]:
        text = "Seconds from publication, or from the due time, to the start of the call."
        lags = self._family(HistogramMetricFamily, "task_lag_seconds", text, _LABELS)
        text = "Messages and firings that came as a further attempt."
        retries = self._family(CounterMetricFamily, "task_retries", text, _LABELS)
        text = "Messages that were answered: acked, retried, dead, returned or lost."
        settled = self._family(CounterMetricFamily, "settled_messages", text, (*_LABELS, "state"))
        for each in self._metrics.series:
            if each.lags is None:
                continue
            labels = each.labels.values
            values = self._with(*labels)
            lags.add_metric(values, each.lags.buckets(), each.lags.total)
            retries.add_metric(values, each.retries)
            for state, count in list(each.settled.items()):
                settled.add_metric(self._with(*labels, state.value), count)
        yield from (lags, retries, settled)

    def _queues(self) -> Iterator[Any]:
        text = "Messages on the broker: ready, unsettled, delayed, and dead letters."
        found = self._family(GaugeMetricFamily, "queue_messages", text, (*_LABELS, "queue", "state"))
        for (labels, queue), state in list(self._metrics.queues.items()):
            for name in ("ready", "unsettled", "delayed", "dead"):
                found.add_metric(self._with(*labels.values, queue, name), getattr(state, name))
        yield found

    def _pools(self) -> Iterator[Any]:
        metrics = self._metrics
        pools = list(metrics.pools.values())
        available = self._family(GaugeMetricFamily, "available_workers", "Workers that are free.", ("context",))
        busy = self._family(GaugeMetricFamily, "busy_workers", "Workers that run a call.", ("context",))
        waiting = self._family(GaugeMetricFamily, "waiting_tasks", "Calls that wait for a worker.", ("context",))
        text = "The application, and how its pools are made."
        service = self._family(InfoMetricFamily, "service", text, ("context",))
        about = {"service": metrics.service, "version": str(metrics.version)}
        for pool in pools:
            values, size, running = self._with(pool.label), pool.size, pool.running
            available.add_metric(values, max(0, size - running))
            busy.add_metric(values, running)
            waiting.add_metric(values, pool.waiting)
            service.add_metric(values, {**about, "max_workers": str(size), "worker_mode": pool.mode})
        if not pools:
            service.add_metric(self._with(""), about)
        yield from (available, busy, waiting, service)

    def _loop(self) -> Iterator[Any]:
        text = "How late the event loop was, in seconds."
        lag = self._family(HistogramMetricFamily, "event_loop_lag_seconds", text, ())
        found = self._metrics.loop_lag
        if self._metrics.settings.loop_interval:
            lag.add_metric(self._with(), found.buckets(), found.total)
        yield lag

    # -- labels --------------------------------------------------------------------------------------------------------

    def _family(self, make: Any, name: str, text: str, labels: Sequence[str]) -> Any:
        process = () if self._metrics.process is None else ("process",)
        return make(self._metrics.settings.prefix + name, text, labels=(*labels, *process))

    def _with(self, *values: str) -> list[str]:
        process = self._metrics.process
        return [*values] if process is None else [*values, str(process)]
