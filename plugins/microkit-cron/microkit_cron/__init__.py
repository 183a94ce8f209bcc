"""Cron schedules for microkit: time zones, daylight saving, and one firing per cluster."""

from .firing import Firing
from .plugin import CRON
from .settings import CronSettings
from .timers import ClusterTimers
from .trigger import Cron

__all__ = ["CRON", "ClusterTimers", "Cron", "CronSettings", "Firing"]
