"""The trigger: `Cron("0 3 * * *", tz="Europe/Berlin")`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from zoneinfo import ZoneInfo

from microkit import ConfigurationError, Kind, Trigger
from microkit.annotations import Parameter
from microkit.binding import Binder, SourceContext
from microkit.triggers import tick_source

from .expression import check_expression, find_zone, next_due


@dataclass(frozen=True)
class Cron(Trigger):
    """A schedule by the clock on the wall.

    When clocks are put forward, what is due at fixed hours within the time that is left out is due right after it,
    once. When they are put back, it is due in the first of the two passes only. An expression whose minute or hour
    begins with `*` follows the time that passes: it is not due in what is left out, and due in both passes. These are
    the rules of Debian's cron.

    Args:
        expression: minute, hour, day of month, month, day of week; or `@hourly`, `@daily`, `@weekly`, `@monthly`,
            `@yearly`. If neither day begins with `*`, one of them is enough.
        tz: the zone that it is meant in, by its name in the IANA database.
        jitter: each firing is put off by a random part of so many seconds.
        overlap: when a firing is due while the last one still runs: `skip` it, `queue` it (one at most), or `allow`
            both.
        misfire: when firings were missed, because the loop was late or nobody ran: `once` fires one time for all of
            them, `skip` waits for the next regular time, `all` makes up for each.
        each_process: fire in every process of every machine; by default once per application.

    Raises:
        ConfigurationError: expression, zone or a policy is wrong.

    Attributes:
        zone: the zone.
    """

    kind = Kind.TICK
    expression: str
    tz: str = field(default="UTC", kw_only=True)
    jitter: float = field(default=0.0, kw_only=True)
    overlap: Literal["skip", "queue", "allow"] = field(default="skip", kw_only=True)
    misfire: Literal["once", "skip", "all"] = field(default="once", kw_only=True)
    each_process: bool = field(default=False, kw_only=True)
    zone: ZoneInfo = field(init=False, repr=False, compare=False)
    _fields: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fields", check_expression(self.expression))
        object.__setattr__(self, "zone", find_zone(self.tz))
        if not self.jitter >= 0:
            raise ConfigurationError(f"Cron({self.expression!r}): the jitter must be 0 or more seconds.")
        for name, value, legal in (
            ("overlap", self.overlap, ("skip", "queue", "allow")),
            ("misfire", self.misfire, ("once", "skip", "all")),
        ):
            if value not in legal:
                raise ConfigurationError(f"Cron({self.expression!r}): {name}={value!r} is none of {', '.join(legal)}.")

    def __str__(self) -> str:
        return f"cron {' '.join(self.expression.split())} {self.tz}"

    def next_after(self, moment: float, start: float = 0.0) -> float:
        """The next due time.

        Args:
            moment: seconds since the epoch; the result is later.
            start: of no meaning here: due times are those of the clock.
        """
        return next_due(self._fields, self.zone, moment)

    def sources(self, parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
        return tick_source(parameters, context)
