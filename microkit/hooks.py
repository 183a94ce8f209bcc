"""A typed facade over the hooks: one method per hook of `microkit.hookspecs`.

pluggy can check neither the calls nor the results of hooks; the kernel calls these methods instead, and a type checker
sees both.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from microkit.annotations import describe
from microkit.errors import PluginError

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

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Contribution(Generic[T]):
    """A value that a plugin gave to a contribution hook.

    Attributes:
        value: the contributed object.
        plugin: name of the plugin that gave it.
    """

    value: T
    plugin: str


def values_of(contributions: Iterable[Contribution[Any]], kind: type[T]) -> list[T]:
    """What plugins contributed to a hook.

    Raises:
        PluginError: something is not of the kind that the hook is for.
    """
    for each in contributions:
        if not isinstance(each.value, kind):
            raise PluginError(
                f"The plugin {each.plugin!r} contributes {each.value!r} where the kernel wants {describe(kind)}. "
                f"Correct that hook of the plugin, or block the plugin with `-p no:{each.plugin}`."
            )
    return [each.value for each in contributions]


class Hooks:
    """Typed calls of all hooks, without their prefix; `microkit.hookspecs` documents each.

    Contribution hooks return what was given, in load order, and raise `PluginError` for an implementation that fails
    (a tolerant plugin manager marks its plugin as failed and goes on).

    Args:
        manager: the plugins to ask.
    """

    def __init__(self, manager: PluginManager) -> None:
        self._manager = manager

    def settings(self) -> list[Contribution[SettingsSpec]]:
        """Contributions to `microkit_settings`."""
        return self._manager.contributions("microkit_settings")

    def configure(self, app: App) -> None:
        """Call `microkit_configure`."""
        self._manager.call("microkit_configure", app=app)

    def routers(self) -> list[Contribution[RouterSpec]]:
        """Contributions to `microkit_routers`."""
        return self._manager.contributions("microkit_routers")

    def collect(self, obj: object, app: App) -> Iterable[Binding] | None:
        """Call `microkit_collect`: the bindings of `obj`, or None if no plugin knows it."""
        return self._manager.call("microkit_collect", obj=obj, app=app)

    def providers(self, app: App) -> list[Contribution[Provider]]:
        """Contributions to `microkit_providers`."""
        return self._manager.contributions("microkit_providers", app=app)

    def bind_parameter(self, parameter: Parameter, endpoint: Endpoint) -> Binder | None:
        """Call `microkit_bind_parameter`: a binder, or None if no plugin claims the parameter."""
        return self._manager.call("microkit_bind_parameter", parameter=parameter, endpoint=endpoint)

    def validators(self) -> list[Contribution[ValidatorSpec]]:
        """Contributions to `microkit_validators`."""
        return self._manager.contributions("microkit_validators")

    def middleware(self, app: App) -> list[Contribution[MiddlewareSpec]]:
        """Contributions to `microkit_middleware`."""
        return self._manager.contributions("microkit_middleware", app=app)

    def session_backends(self) -> list[Contribution[SessionBackendSpec]]:
        """Contributions to `microkit_session_backends`."""
        return self._manager.contributions("microkit_session_backends")

    def transports(self) -> list[Contribution[TransportSpec]]:
        """Contributions to `microkit_transports`."""
        return self._manager.contributions("microkit_transports")

    def triggers(self) -> list[Contribution[TriggerSpec]]:
        """Contributions to `microkit_triggers`."""
        return self._manager.contributions("microkit_triggers")

    def executors(self) -> list[Contribution[ExecutorSpec]]:
        """Contributions to `microkit_executors`."""
        return self._manager.contributions("microkit_executors")

    def codecs(self) -> list[Contribution[CodecSpec]]:
        """Contributions to `microkit_codecs`."""
        return self._manager.contributions("microkit_codecs")

    def renderers(self) -> list[Contribution[RendererSpec]]:
        """Contributions to `microkit_renderers`."""
        return self._manager.contributions("microkit_renderers")

    def observers(self, app: App) -> list[Contribution[Observer]]:
        """Contributions to `microkit_observers`."""
        return self._manager.contributions("microkit_observers", app=app)

    def modify_plan(self, plan: Plan) -> None:
        """Call `microkit_modify_plan`."""
        self._manager.call("microkit_modify_plan", plan=plan)

    def lifespan(self, app: App) -> list[Contribution[AbstractAsyncContextManager[object]]]:
        """Contributions to `microkit_lifespan`."""
        return self._manager.contributions("microkit_lifespan", app=app)

    def artifacts(self) -> list[Contribution[ArtifactSpec]]:
        """Contributions to `microkit_artifacts`."""
        return self._manager.contributions("microkit_artifacts")

    def commands(self, cli: CommandLine) -> None:
        """Call `microkit_commands`."""
        self._manager.call("microkit_commands", cli=cli)

    def inspect(self, info: AppInfo) -> list[Section]:
        """Call `microkit_inspect`: the sections of all plugins, in load order."""
        return [section for sections in self._manager.call("microkit_inspect", info=info) for section in sections]

    def test_drivers(self) -> list[Contribution[DriverSpec]]:
        """Contributions to `microkit_test_drivers`."""
        return self._manager.contributions("microkit_test_drivers")
