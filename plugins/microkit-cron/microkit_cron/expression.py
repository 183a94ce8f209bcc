"""Cron expressions and time zones: what is legal, and when an expression is due."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from microkit import ConfigurationError
from microkit.errors import nearest

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""The short forms and what they stand for, as in Debian's cron."""

_FIELDS = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L (the last day), LW (the last weekday)",
    "month": "1-12, JAN-DEC",
    "day-of-week": "0-7 (0 and 7 are Sunday), SUN-SAT, FRI#2 (the second one), 5L (the last Friday)",
}


def check_expression(expression: str) -> str:
    """The five fields of an expression.

    Args:
        expression: five fields, or one of `MACROS`.

    Raises:
        ConfigurationError: it is no cron expression; the message names the field.
    """
    from cronsim import CronSim, CronSimError

    text = " ".join(expression.split())
    if text.startswith("@"):
        if text.lower() not in MACROS:
            hint = " To run a handler at the start use Every(seconds, immediate=True)." if text == "@reboot" else ""
            raise ConfigurationError(
                f"Cron({expression!r}): {text} is none of {', '.join(MACROS)}.{nearest(text, MACROS)}{hint}"
            )
        text = MACROS[text.lower()]
    fields = text.split()
    if len(fields) != len(_FIELDS):
        hint = " Cron has no seconds; use Every(seconds=...) for them." if len(fields) == len(_FIELDS) + 1 else ""
        raise ConfigurationError(
            f"Cron({expression!r}) has {len(fields)} fields, but it takes five: {', '.join(_FIELDS)}.{hint}"
        )
    start = datetime(2000, 1, 1, tzinfo=UTC)
    for place, (name, legal) in enumerate(_FIELDS.items()):
        alone = ["*"] * len(_FIELDS)
        alone[place] = fields[place]
        try:
            CronSim(" ".join(alone), start)
        except (CronSimError, AssertionError):  # it asserts what a step such as 1#2/3 breaks
            raise ConfigurationError(
                f"Cron({expression!r}): {fields[place]!r} is no {name}. Legal are {legal}, *, and lists (1,2), ranges "
                f"(1-5) and steps (*/5) of them."
            ) from None
    try:
        next(CronSim(text, start))
    except (CronSimError, StopIteration, RuntimeError):
        raise ConfigurationError(
            f"Cron({expression!r}) is never due: no month has that day. Correct its day-of-month or its month."
        ) from None
    return text


def find_zone(name: str) -> ZoneInfo:
    """A time zone of the IANA database, from the machine or from the distribution `tzdata`.

    Args:
        name: such as `Europe/Berlin`.

    Raises:
        ConfigurationError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        from zoneinfo import available_timezones

        known = available_timezones()
        remedy = (
            "Names are those of the IANA database, such as Europe/Berlin."
            if known
            else "This machine has no time zones at all: install the distribution tzdata."
        )
        raise ConfigurationError(f"There is no time zone {name!r}.{nearest(name, known)} {remedy}") from exc


def next_due(fields: str, zone: ZoneInfo, moment: float) -> float:
    """The first time after `moment` at which an expression is due.

    Args:
        fields: five fields that `check_expression` gave.
        zone: the zone that they are meant in.
        moment: seconds since the epoch.

    Returns:
        Seconds since the epoch.
    """
    return _next(fields, zone, int(moment // 1))


@lru_cache(maxsize=256)  # the ingress asks twice for each firing, and all schedules of one expression ask alike
def _next(fields: str, zone: ZoneInfo, second: int) -> float:
    from cronsim import CronSim

    found = CronSim(fields, datetime.fromtimestamp(second, UTC if zone.key == "UTC" else zone))
    while True:
        local = next(found)
        due = local.timestamp()
        # A fixed hour is looked for by the clock on the wall, which may show a time that is over for the second time;
        # and a wall never shows a time that is left out when clocks are put forward.
        if due > second and datetime.fromtimestamp(due, local.tzinfo).replace(fold=0) == local.replace(fold=0):
            return due
