"""What `microkit explain` and the endpoint page show of schedules."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from microkit.inspect import AppInfo, BindingInfo, Section

from .expression import check_expression, find_zone, next_due

_SHOWN = 3


def schedules(info: AppInfo) -> Section | None:
    """A table of the cron schedules of an application, with their next due times."""
    rows = [_row(each) for each in info.bindings if each.kind == "TICK" and each.address.startswith("cron ")]
    return Section("Schedules", tuple(rows)) if rows else None


def _row(binding: BindingInfo) -> Mapping[str, Any]:
    expression, _, zone = binding.address.removeprefix("cron ").rpartition(" ")
    fields, tz = check_expression(expression), find_zone(zone)
    due, moment = list[str](), time.time()
    for _ in range(_SHOWN):
        moment = next_due(fields, tz, moment)
        due.append(datetime.fromtimestamp(moment, tz).isoformat())
    return {"name": binding.name, "expression": expression, "zone": zone, "next": ", ".join(due)}
