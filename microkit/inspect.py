"""What an application is made of, as plain data: bindings, plans, plugins, services, settings.

Everything here is a frozen dataclass of strings, numbers, tuples and mappings: `dataclasses.asdict` gives what has a
JSON form, and no view can change the application.
"""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from . import annotations
from .codecs import JSON_LIBRARY
from .di import Scope
from .hookspecs import VERSION
from .settings import _is_secret

if TYPE_CHECKING:
    from .app import App
    from .middleware import MiddlewareSpec
    from .plan import Plan
    from .plugins import PluginManager

OWN = "application"
"""Stands where a plugin's name would, for what the application itself declares."""


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """The machinery below an application.

    Attributes:
        python, microkit, anyio: versions.
        backends: anyio backends that are installed.
        usable: those of them that every active plugin works on.
        json_library: `orjson` or `json`.
    """

    python: str
    microkit: str
    anyio: str
    backends: tuple[str, ...]
    usable: tuple[str, ...]
    json_library: str


@dataclass(frozen=True, slots=True)
class PluginDetails:
    """One plugin; see `microkit.plugins.PluginRecord`.

    Attributes:
        automatic: components that change an application merely because the plugin is installed.
    """

    name: str
    state: str
    version: str
    distribution: str
    origin: str
    error: str
    hooks: tuple[str, ...]
    contributed: Mapping[str, tuple[str, ...]]
    automatic: tuple[str, ...]
    requires: tuple[str, ...]
    backends: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BindingInfo:
    """One way to reach an endpoint.

    Attributes:
        kind: name of a `Kind`.
        address: `GET /users/{id}`, `orders.create`, `shop/order_placed`, `every 10s`.
        name: for `url_for`, `tick` and commands.
        methods, path: of an HTTP or WebSocket route, with all prefixes; no methods means every method.
        endpoint: `module.qualname` of the handler; `location`: its `file:line`.
        group: prefix of the group that it was registered in.
        middleware: names, outermost first.
        executor: where a sync handler runs; `event loop` for an async one.
        timeout: deadline in seconds, or None.
        plugin: who contributed it.
    """

    kind: str
    address: str
    name: str
    methods: tuple[str, ...]
    path: str
    endpoint: str
    location: str
    group: str
    middleware: tuple[str, ...]
    executor: str
    timeout: float | None
    plugin: str


@dataclass(frozen=True, slots=True)
class Section:
    """A table that a plugin adds to the views (hook `microkit_inspect`).

    Attributes:
        title: its heading.
        rows: column to plain value; no secrets, since the endpoint page shows them.
    """

    title: str
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class AppInfo:
    """An application.

    Attributes:
        bindings: in the order of their declaration; those that answer 404 and 405 are left out.
        services: key, scope, tags and plugin of each provider.
        routers: name, plugin, whether it is automatic, and whether the application uses it.
        transports: name, kinds, schemes, backends, durable, automatic and plugin.
        settings: by plugin, with secrets masked.
        sections: what plugins add.
    """

    name: str
    version: int
    runtime: RuntimeInfo
    plugins: tuple[PluginDetails, ...]
    bindings: tuple[BindingInfo, ...]
    services: tuple[Mapping[str, Any], ...]
    routers: tuple[Mapping[str, Any], ...]
    transports: tuple[Mapping[str, Any], ...]
    settings: Mapping[str, Mapping[str, Any]]
    sections: tuple[Section, ...] = ()

    def public(self) -> AppInfo:
        """A copy for the endpoint page: without settings, and without paths of this machine."""
        return replace(self, bindings=tuple(replace(each, location="") for each in self.bindings), settings={})


# -- gathering ---------------------------------------------------------------------------------------------------------


def inspect_app(app: App) -> AppInfo:
    """Describe an application; it is built if it was not.

    Raises:
        ConfigurationError: it cannot be built.
    """
    manager = app.plugins
    transports = tuple(
        {name: getattr(each.value, name) for name in ("name", "schemes", "backends", "durable", "automatic")}
        | {"kinds": tuple(each.value.kinds.names().split(", ")), "plugin": each.plugin}
        for each in app.hooks.transports()
    )
    routers = tuple(
        {"name": each.value.name, "automatic": each.value.automatic, "plugin": each.plugin}
        | {"used": each.value.name == app.router_spec.name}
        for each in app.hooks.routers()
    )
    services = tuple(
        {"key": annotations.describe(each.key), "tags": each.tags, "plugin": each.plugin or OWN}
        | {"scope": each.scope.name.lower() if isinstance(each.scope, Scope) else "as its dependencies"}
        for each in app.registry
    )
    info = AppInfo(
        app.name,
        app.version,
        inspect_runtime(manager),
        inspect_plugins(manager, app.contributed_middleware),
        tuple(inspect_binding(plan) for plan in bound_plans(app)),
        services,
        routers,
        transports,
        {plugin: _masked(values) for plugin, values in app.all_settings.items()},
    )
    return replace(info, sections=tuple(app.hooks.inspect(info)))


def bound_plans(app: App) -> list[Plan]:
    """The plans of an application's bindings, without those that answer 404 and 405; it is built if it was not."""
    paths = (app.table.http, app.table.sockets)
    fallbacks = {fallback.missing for table in paths for fallback in table.fallbacks}
    return [plan for plan in app.table.plans if plan not in fallbacks]


def inspect_plugins(manager: PluginManager, middleware: Iterable[MiddlewareSpec] = ()) -> tuple[PluginDetails, ...]:
    """Describe all plugins, those that are blocked or broken included.

    Args:
        manager: the plugins.
        middleware: what they contributed to an application; without it the automatic ones are as they say themselves.
    """
    given = [(each.plugin, each.value) for each in [*manager.hooks.routers(), *manager.hooks.transports()]]
    given += [(each.plugin, each) for each in middleware]
    automatic: dict[str, dict[str, None]] = {each.name: dict.fromkeys(each.info.automatic) for each in manager.records}
    for plugin, spec in given:
        if spec.automatic:
            automatic[plugin][spec.name] = None
    return tuple(
        PluginDetails(
            record.name,
            record.state,
            record.version or (VERSION if record.origin == "kernel" else ""),
            record.distribution,
            record.origin,
            record.error,
            record.hooks,
            dict(record.contributed),
            tuple(automatic[record.name]),
            record.info.requires,
            record.info.backends,
        )
        for record in manager.records
    )


def inspect_runtime(manager: PluginManager) -> RuntimeInfo:
    """Describe Python, anyio and the backends."""
    from importlib.metadata import version

    import anyio

    backends = tuple(name for name in anyio.get_all_backends() if importlib.util.find_spec(name) is not None)
    active = [record.info.backends for record in manager.records if record.state == "active"]
    usable = tuple(name for name in backends if all(name in each for each in active))
    return RuntimeInfo(platform.python_version(), VERSION, version("anyio"), backends, usable, JSON_LIBRARY)


def inspect_binding(plan: Plan) -> BindingInfo:
    """Describe one binding by its plan."""
    binding, executor = plan.binding, plan.executor.name if plan.executor is not None else "event loop"
    paths = [pattern.text for each, pattern in plan.app.table.paths if each is plan]
    return BindingInfo(
        plan.kind.name or "",
        plan.address,
        binding.name,
        getattr(binding.trigger, "methods", None) or (),
        paths[0] if paths else "",
        plan.endpoint.name,
        plan.endpoint.location,
        (binding.group.prefix if binding.group is not None else "") or "/",
        tuple(layer.spec.name for layer in plan.layers),
        executor,
        plan.timeout,
        binding.plugin or OWN,
    )


def _masked(value: Any, key: str = "") -> Any:
    """Settings as plain data; what looks like a secret by its name or its form is hidden."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    nested = isinstance(value, Mapping | list | tuple | set | frozenset)
    if _is_secret(key, "" if nested else value):
        return "***" if value else value
    if isinstance(value, Mapping):
        return {str(name): _masked(each, str(name)) for name, each in value.items()}
    return tuple(_masked(each) for each in value) if nested else str(value)
