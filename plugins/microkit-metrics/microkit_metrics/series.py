"""What is counted of one route: plain numbers, changed on the event loop and read when somebody asks.

The counters of prometheus-client take a lock for each change, three or four of them per call. Observers are only told
on the event loop, so that nothing here needs one; a reader in another thread may see a call that is counted by half.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from microkit import Kind, StatusCode
from microkit.plan import Plan
from microkit.settlement import State

UNMATCHED = "unmatched"
"""The route of every call that no binding answers."""

LAGS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds of the lags' histogram, in seconds."""

_QUEUED = Kind.MESSAGE | Kind.BATCH | Kind.TICK
_HTTP_CLASSES = {number: f"{number}xx" for number in range(1, 6)}


@dataclass(frozen=True)
class Labels:
    """What tells series apart; all of it is known when the application is built.

    Attributes:
        kind: `http`, `socket`, `rpc`, `message`, `batch` or `tick`.
        context: the group of workers; else the prefix of the group of bindings, else the plugin that brought it.
        route: address of the binding, never that of a call.
    """

    kind: str
    context: str
    route: str

    @property
    def values(self) -> tuple[str, str, str]:
        """All of them, in this order."""
        return self.kind, self.context, self.route

    @classmethod
    def of(cls, plan: Plan) -> Labels:
        """The labels of a plan; those of several bindings of one address may be the same."""
        kind = (plan.kind.name or "").lower()
        if not plan.ingress:  # what answers 404 and 405
            return cls(kind, "", UNMATCHED)
        group = plan.binding.group
        context = plan.context or (group.prefix if group is not None else "") or plan.binding.plugin
        # Schedules may share their times, which are their address.
        return cls(kind, context, plan.binding.name if plan.kind is Kind.TICK else plan.address)


class Labelling:
    """The labels of an application's plans, each binding with its own.

    Args:
        plans: all plans of a build.
    """

    def __init__(self, plans: Iterable[Plan]) -> None:
        self._bindings = Counter(Labels.of(plan) for plan in plans)

    def of(self, plan: Plan) -> Labels:
        """The labels of a plan."""
        labels = Labels.of(plan)
        if self._bindings[labels] > 1 and labels.route != UNMATCHED:
            return replace(labels, route=f"{labels.route} {plan.binding.name}")
        return labels


class Distribution:
    """A histogram.

    Args:
        bounds: upper bounds of its buckets, ascending.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and how many values are not over it, for each bucket."""
        found: list[tuple[str, float]] = []
        below = 0
        for bound, count in zip((*self.bounds, float("inf")), list(self.counts), strict=True):
            below += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), float(below)))
        return found


class Series:
    """What is counted of the calls with the same labels.

    Args:
        labels: these.
        kind: of the calls.
        buckets: upper bounds of durations, in seconds.

    Attributes:
        active: calls in flight.
        outcomes: finished calls by HTTP class (2 for 2xx), or by status code for other kinds.
        durations, lags: seconds.
        retries: calls that were a further attempt.
        settled: messages by how they were answered.
        failed_tasks: background tasks that failed.
        sockets: WebSockets that are open or being opened.
    """

    __slots__ = (
        "active",
        "durations",
        "failed_tasks",
        "http",
        "kind",
        "labels",
        "lags",
        "outcomes",
        "retries",
        "settled",
        "sockets",
    )

    def __init__(self, labels: Labels, kind: Kind, buckets: tuple[float, ...]) -> None:
        self.labels = labels
        self.kind = kind
        self.http = kind is Kind.HTTP
        self.active = self.retries = self.failed_tasks = 0
        self.outcomes: dict[int, int] = {}
        self.durations = Distribution(buckets)
        self.lags = Distribution(LAGS) if kind in _QUEUED else None
        self.settled: dict[State, int] = {}
        self.sockets: set[Any] = set()

    def by_status(self) -> dict[str, int]:
        """Finished calls by the text of their outcome."""
        found: dict[str, int] = {}
        for outcome, count in list(self.outcomes.items()):
            name = _HTTP_CLASSES.get(outcome, "other") if self.http else StatusCode(outcome).name
            found[name] = found.get(name, 0) + count
        return found

    @property
    def failures(self) -> int:
        """Finished calls that failed on our side: what HTTP calls 5xx, and whatever is not OK where no caller waits."""
        return sum(count for outcome, count in list(self.outcomes.items()) if self._is_failure(outcome))

    def _is_failure(self, outcome: int) -> bool:
        if self.http:
            return outcome == 5
        return outcome != StatusCode.OK and (self.kind in _QUEUED or StatusCode(outcome).http >= 500)

    @property
    def connections(self) -> int:
        """WebSockets that were accepted and are open."""
        return sum(ws.accepted and not ws.closed for ws in list(self.sockets))
