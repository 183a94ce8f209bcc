"""The hooks of microkit-auto."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import microkit
from microkit import Kind, PluginInfo, RouterSpec, hookimpl
from microkit.annotations import Parameter
from microkit.binding import Binder
from microkit.endpoint import Binding, Endpoint
from microkit.plan import Plan
from microkit.settings import SettingsSpec
from microkit.triggers import TriggerSpec

from .collect import site_bindings
from .current import within_call
from .request import Request, WebSocketRequest, view_of
from .reroute import Targets, add_bare, add_rerouting
from .router import AUTO
from .settings import AutoSettings
from .site import App
from .triggers import AutoRoute, AutoSocket, Handler, PrivateRoute, PrivateSocket

_targets: WeakKeyDictionary[microkit.App, Targets] = WeakKeyDictionary()  # of the applications that have sites

microkit_plugin_info = PluginInfo("auto", kernel=">=0.4,<0.5", hook_api=1)


@hookimpl
def microkit_settings() -> SettingsSpec:
    return SettingsSpec("auto", AutoSettings)


@hookimpl
def microkit_routers() -> RouterSpec:
    return AUTO


@hookimpl
def microkit_collect(obj: object, app: microkit.App) -> Iterable[Binding] | None:
    found = site_bindings(obj, app.all_settings["auto"])
    if found is not None:
        _targets.setdefault(app, Targets())
    return found


@hookimpl
def microkit_bind_parameter(parameter: Parameter, endpoint: Endpoint) -> Binder | None:
    if parameter.annotation is Request:
        return Binder(view_of, "request", kinds=Kind.HTTP | Kind.SOCKET)
    return Binder(view_of, "request", kinds=Kind.SOCKET) if parameter.annotation is WebSocketRequest else None


@hookimpl
def microkit_triggers() -> Iterable[TriggerSpec]:
    return [TriggerSpec(each, ingress="http") for each in (AutoRoute, AutoSocket, PrivateRoute, PrivateSocket)]


@hookimpl
def microkit_modify_plan(plan: Plan) -> None:
    """Make the call current in the plans of sites, and let it be re-routed."""
    targets = _targets.get(plan.app)
    if targets is None or plan.kind not in Kind.HTTP | Kind.SOCKET:
        return
    handler: Handler | None = getattr(plan.binding.trigger, "handler", None)
    if handler is not None:
        add_bare(plan, handler)
    add_rerouting(plan, targets)
    if handler is not None or isinstance(plan.app, App):
        plan.around.append(within_call)
