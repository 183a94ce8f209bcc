"""The hooks of microkit-cron: the trigger `Cron`, the ingress of all schedules, parameters of the type `Firing`."""

from __future__ import annotations

from microkit import Kind, PluginInfo, hookimpl
from microkit.annotations import Parameter
from microkit.binding import Binder
from microkit.endpoint import Endpoint
from microkit.inspect import AppInfo, Section
from microkit.settings import SettingsSpec
from microkit.transport import TransportSpec
from microkit.triggers import TriggerSpec

from .firing import Firing, firing_of
from .inspection import schedules
from .settings import CronSettings
from .timers import ClusterTimers
from .trigger import Cron

microkit_plugin_info = PluginInfo("cron", after=("kv",), kernel=">=0.4,<0.5", hook_api=1, automatic=("timers",))

CRON = TriggerSpec(Cron, ingress="timers")
"""The trigger."""

_FIRING = Binder(firing_of, "firing", kinds=Kind.TICK)


@hookimpl
def microkit_settings() -> SettingsSpec:
    return SettingsSpec("cron", CronSettings)


@hookimpl
def microkit_triggers() -> TriggerSpec:
    return CRON


@hookimpl
def microkit_transports() -> TransportSpec:
    # Of two transports of one name the later one is used: this one, for timers of the kernel as well.
    return TransportSpec("timers", Kind.TICK, server=ClusterTimers, automatic=True)


@hookimpl
def microkit_bind_parameter(parameter: Parameter, endpoint: Endpoint) -> Binder | None:
    return _FIRING if parameter.annotation is Firing else None


@hookimpl
def microkit_inspect(info: AppInfo) -> list[Section] | None:
    section = schedules(info)
    return [section] if section is not None else None
