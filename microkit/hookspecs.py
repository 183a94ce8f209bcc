"""The hooks of microkit: what a plugin may implement, when each is called and what it returns.

A plugin is a module or an object whose functions carry `hookimpl` and the name of a hook:

    from microkit.hookspecs import hookimpl

    @hookimpl
    def microkit_routers():
        return RouterSpec(...)

An implementation takes any subset of the documented arguments, by name. All hooks are synchronous and run at start-up
or in tooling, never per call; asynchronous work is done by the objects that they return.

Two kinds exist. A **contribution** returns one value, an iterable of values or None; the kernel calls its
implementations one by one in load order, its own first, and records which plugin gave what. A **call** is an ordinary
pluggy call in load order, where `tryfirst=True` and wrappers work as in pluggy; a *first result* call asks in reverse
load order and stops at the first answer, so a plugin comes before the kernel's default.

`HOOKS` describes every hook as data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import pluggy

if TYPE_CHECKING:
    from microkit.annotations import Parameter
    from microkit.app import App
    from microkit.artifacts import ArtifactSpec
    from microkit.binding import Binder
    from microkit.cli import CommandLine
    from microkit.codecs import CodecSpec
    from microkit.di import Provider
    from microkit.endpoint import Binding, Endpoint
    from microkit.executor import ExecutorSpec
    from microkit.inspect import AppInfo, Section
    from microkit.middleware import MiddlewareSpec
    from microkit.observe import Observer
    from microkit.plan import Plan
    from microkit.plugins import PluginManager
    from microkit.renderers import RendererSpec
    from microkit.routing import RouterSpec
    from microkit.session import SessionBackendSpec
    from microkit.settings import SettingsSpec
    from microkit.testing import DriverSpec
    from microkit.transport import TransportSpec
    from microkit.triggers import TriggerSpec
    from microkit.validation import ValidatorSpec

PROJECT = "microkit"
"""Project name of the pluggy markers, group of the entry points, prefix of the hooks."""

VERSION = "0.4.0"
"""Version of the kernel; what `PluginInfo.kernel` is compared with."""

HOOK_API = 1
"""Version of this set of hooks. Arguments are only ever added, so it grows when a hook goes away."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks a hook specification; for hooks that a plugin defines itself (`microkit_addhooks`)."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks the implementation of a hook in a plugin."""

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Contributed: TypeAlias = T | Iterable[T] | None
"""What a contribution hook may return: one value, several, or none."""


@dataclass(frozen=True, slots=True)
class HookInfo:
    """One hook as data, derived from its specification.

    Attributes:
        name: full name, `microkit_routers`.
        kind: "contribution" or "call" (see the module's docstring).
        firstresult: the call stops at the first result that is not None.
        arguments: names of the arguments, in order.
        returns: annotation of the result, as written.
    """

    name: str
    kind: Literal["contribution", "call"]
    firstresult: bool
    arguments: tuple[str, ...]
    returns: str


_hooks: dict[str, HookInfo] = {}
HOOKS: Mapping[str, HookInfo] = MappingProxyType(_hooks)
"""Every hook of the kernel by full name, in the order of start-up."""


def describe(
    function: Callable[..., Any], kind: Literal["contribution", "call"], firstresult: bool = False
) -> HookInfo:
    """Derive the data of a hook from its specification.

    Args:
        function: the specification.
        kind: how the hook is called.
        firstresult: the call stops at the first result that is not None.

    Returns:
        The description.
    """
    code = function.__code__
    return HookInfo(
        name=function.__name__,
        kind=kind,
        firstresult=firstresult,
        arguments=code.co_varnames[: code.co_argcount],
        returns=str(function.__annotations__.get("return", "")),
    )


def _contribution(function: F) -> F:
    _hooks[function.__name__] = describe(function, "contribution")
    return hookspec(function)


def _call(function: F) -> F:
    _hooks[function.__name__] = describe(function, "call")
    return hookspec(function)


def _first_result(function: F) -> F:
    _hooks[function.__name__] = describe(function, "call", firstresult=True)
    return hookspec(firstresult=True)(function)


# -- registration and settings -----------------------------------------------------------------------------------------


@_call
def microkit_addhooks(pluginmanager: PluginManager) -> None:
    """Add hooks of the plugin's own, for other plugins to implement.

    Called once per plugin, while it is registered and before its other hooks are checked.

    Args:
        pluginmanager: its `add_hookspecs(module_or_class)` takes functions marked with `hookspec` whose names start
            with `microkit_<plugin>_`; later `pluginmanager.hook.microkit_<plugin>_<name>(...)` calls them.

    A plugin that implements such a hook names its owner in `requires`, or in `after` and marks the implementation
    `optionalhook=True` if the owner may be absent.
    """


@_contribution
def microkit_settings() -> Contributed[SettingsSpec]:
    """Declare the settings of the plugin.

    Called once per application, before every other hook but `microkit_addhooks`.

    Returns:
        The plugin's name and its frozen dataclass of settings. An instance is read from code, environment
        (`MICROKIT_<PLUGIN>__KEY`) and `[tool.microkit.<plugin>]`, in this order of precedence.
    """


@_call
def microkit_configure(app: App) -> None:
    """Set up the application before anything of it is compiled.

    Called once per application, as soon as the settings are loaded; nothing is collected yet.

    Args:
        app: the application; its settings are readable, bindings may be added with `app.on` and `app.include`.
    """


# -- build -------------------------------------------------------------------------------------------------------------


@_contribution
def microkit_routers() -> Contributed[RouterSpec]:
    """Offer routers, which turn method and path into a binding.

    Called once per build.

    Returns:
        Routers by name. They become available; an application selects one, unless the spec is flagged automatic.
    """


@_first_result
def microkit_collect(obj: object, app: App) -> Iterable[Binding] | None:
    """Turn an object that a user includes into bindings: a controller, a `Service`, the `Root` class of a site.

    Called for each `app.include(obj)`.

    Args:
        obj: what the user included: an instance, a class or a module.
        app: the application that includes it.

    Returns:
        The bindings of the object (an empty list claims it without any), or None if it is not yours.
    """


@_contribution
def microkit_providers(app: App) -> Contributed[Provider]:
    """Offer services to the container.

    Called once per build, before any parameter is bound.

    Args:
        app: the application; its settings and bindings are readable.

    Returns:
        Providers by type or string key, each with its scope. A provider that the user declares for the same key wins.
    """


@_first_result
def microkit_bind_parameter(parameter: Parameter, endpoint: Endpoint) -> Binder | None:
    """Say how one parameter of a handler, dependency or constructor is filled.

    Called for each parameter while plans are compiled, ahead of the kernel's own rules.

    Args:
        parameter: name, resolved annotation, markers, default and place in the source.
        endpoint: the handler for which it is resolved.

    Returns:
        A binder that yields the value at call time, or None if the parameter is not yours. Claim a parameter by its
        marker or its type, never by its name alone.
    """


@_contribution
def microkit_validators() -> Contributed[ValidatorSpec]:
    """Offer validation of typed values: models, TypedDict, containers.

    Called once per build.

    Returns:
        Validators. The first that claims a type validates it, the user's `validator=` comes before all; scalars, enums,
        UUID and datetime always stay with the kernel.
    """


@_contribution
def microkit_middleware(app: App) -> Contributed[MiddlewareSpec]:
    """Offer middleware.

    Called once per build.

    Args:
        app: the application; its settings are readable.

    Returns:
        Middleware with the kinds of call that it wraps. It takes part only if the spec is flagged automatic or the
        application names it. First contributed is outermost, and the user's own is inside of all contributed ones.
    """


@_contribution
def microkit_session_backends() -> Contributed[SessionBackendSpec]:
    """Offer storage for sessions.

    Called once per build.

    Returns:
        Backends by the scheme of their URL (`memory`, `cookie`, `store`); the settings select one.
    """


@_contribution
def microkit_transports() -> Contributed[TransportSpec]:
    """Offer transports: servers, clients and brokers.

    Called once per build.

    Returns:
        Transports by name or URL scheme (`amqp`), with the kinds of call that they carry and the anyio backends on
        which they work; use under another backend is refused with a clear error.
    """


@_contribution
def microkit_triggers() -> Contributed[TriggerSpec]:
    """Offer triggers, the first argument of `app.on(trigger)`.

    Called once per build.

    Returns:
        Trigger types, each with the ingress that fires it. A type that is known already gets the options added.
    """


@_contribution
def microkit_executors() -> Contributed[ExecutorSpec]:
    """Offer ways to run a handler: inline, in a thread, in a process.

    Called once per build.

    Returns:
        Executors by name, which a binding selects with `executor=`, or a group for all of its handlers.
    """


@_contribution
def microkit_codecs() -> Contributed[CodecSpec]:
    """Offer encodings of bodies and payloads: JSON, forms, msgpack.

    Called once per build.

    Returns:
        Codecs by media type. Of two for one media type the later one is used, so a plugin replaces the kernel's.
    """


@_contribution
def microkit_renderers() -> Contributed[RendererSpec]:
    """Offer renderers, which turn results and exceptions of a type into a Reply.

    Called once per build.

    Returns:
        Renderers by type; the nearest class in the MRO of the value decides, then the later contribution.
    """


@_contribution
def microkit_observers(app: App) -> Contributed[Observer]:
    """Offer observers of calls, pools and transports: metrics, traces, logs.

    Called once per build.

    Args:
        app: the application; its settings are readable.

    Returns:
        Observers. Without any, no call is timed.
    """


@_call
def microkit_modify_plan(plan: Plan) -> None:
    """Change the plan of one binding: add a step, a deadline, an executor.

    Called for each plan when all contributions are known, just before it is frozen.

    Args:
        plan: the plan, still mutable; `plan.binding` says what it serves.
    """


@_contribution
def microkit_lifespan(app: App) -> Contributed[AbstractAsyncContextManager[object]]:
    """Open what the plugin needs while the application runs: connections, tasks.

    Called once per start, after the app-scope services and `on_startup`.

    Args:
        app: the application, built.

    Returns:
        An asynchronous context manager (`@hookimpl` above `@asynccontextmanager`). The root task enters them in load
        order and leaves them in reverse, also when a later step of start-up fails.
    """


# -- tooling -----------------------------------------------------------------------------------------------------------


@_contribution
def microkit_artifacts() -> Contributed[ArtifactSpec]:
    """Offer files that can be generated from an application: a client library, a .proto file, OpenAPI.

    Called when `microkit generate` starts.

    Returns:
        Artifacts by the name that the command takes.
    """


@_call
def microkit_commands(cli: CommandLine) -> None:
    """Add commands to the `microkit` program.

    Called when the command line shows its help or gets a command that the kernel does not have.

    Only plugins that are installed or selected are asked, since no application is loaded yet.

    Args:
        cli: takes the commands: `cli.add_command(name, run, help=..., configure=...)`.
    """


@_call
def microkit_inspect(info: AppInfo) -> Iterable[Section] | None:
    """Add sections to what `microkit explain` and the endpoint page show.

    Called for each introspection of a built application.

    Args:
        info: bindings, plugins, services, routers, transports and settings of the application, as immutable data.

    Returns:
        Sections of plain data; None if there is nothing to add. No secrets: the endpoint page shows them.
    """


@_contribution
def microkit_test_drivers() -> Contributed[DriverSpec]:
    """Offer drivers with which the test client reaches a kind of call.

    Called when a test client is created.

    Returns:
        Drivers by the attribute of the client on which they appear (`client.rpc`).
    """
