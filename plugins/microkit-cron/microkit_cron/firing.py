"""What a handler may know of the firing that it runs for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

from microkit import Tick

if TYPE_CHECKING:
    from microkit_kv import Lease

FIRING = "microkit_cron.firing"
"""Key of a firing in `Tick.attributes`."""


@dataclass(frozen=True)
class Firing:
    """One firing of a schedule, for a parameter of this type.

    Attributes:
        name: the schedule.
        expression: as it was declared: `0 3 * * *`; `every 10s` of a timer.
        zone: the zone that the expression is meant in.
        scheduled_at: when it was due, in that zone.
        attempt: how often it was begun in the cluster, this time included.
        token: the fencing token: it is higher than that of every firing of this schedule that began before. Give it to
            what the handler changes, to refuse a lower one. 0 where no lease is held: outside a cluster, and with
            `overlap="allow"`.
        lease: the lease that is held and renewed while the handler runs, or None.
    """

    name: str
    expression: str
    zone: tzinfo
    scheduled_at: datetime
    attempt: int = 1
    token: int = 0
    lease: Lease | None = field(default=None, repr=False, compare=False)


def firing_of(tick: Tick) -> Firing:
    """The firing of a tick; one that no cluster knows of is made of the tick alone."""
    found = tick.attributes.get(FIRING)
    return found if found is not None else make_firing(tick)


def make_firing(tick: Tick, attempt: int = 1, lease: Lease | None = None) -> Firing:
    """The firing of a tick whose plan is known."""
    trigger: Any = tick.plan.binding.trigger
    zone: tzinfo = getattr(trigger, "zone", UTC)
    return Firing(
        tick.name,
        getattr(trigger, "expression", str(trigger)),
        zone,
        tick.scheduled_at.astimezone(zone),
        attempt,
        lease.token if lease is not None else 0,
        lease,
    )
