"""The hooks of microkit-workers: the ingress of messages, executors, brokers, and what surrounds handlers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from microkit import App, Event, Kind, PluginInfo, Provider, Scope, hookimpl
from microkit.annotations import Parameter
from microkit.binding import Binder
from microkit.broker import Broker, QueueSpec, RpcWire, TargetInfo
from microkit.endpoint import Binding, Endpoint
from microkit.executor import ExecutorSpec
from microkit.plan import Plan
from microkit.settings import SettingsSpec
from microkit.transport import TransportSpec
from microkit.triggers import Every, Procedure, TriggerSpec

from .attempt import Attempt, BackOffData
from .brokers import transports
from .commands import add_commands
from .consumers import Consumers, consumed, served
from .context import Pools, pools_of
from .dependencies import Configuration, configuration_of
from .executors import EXECUTORS
from .layers import furnish
from .outbox import Outbox
from .procedures import by_service, target_info
from .process import place
from .process.pool import running_processes
from .queues import BrokerProcedure, Queue
from .routes import Route
from .settings import WorkersSettings
from .watch import watched_loop
from .wire import connected_broker, rpc_wire

if TYPE_CHECKING:
    from microkit.cli import CommandLine

microkit_plugin_info = PluginInfo("workers", after=("amqp",), kernel=">=0.4,<0.5", hook_api=1, automatic=("consumers",))

_COMMON = frozenset({"on_failure", "worker_class"})
_MESSAGES = _COMMON | {"payload_filter", "translators", "prefetch"}
_EVENTS = _MESSAGES | {"mode", "queue", "queue_options", "single_active", "batch_size", "batch_wait"}


@hookimpl
def microkit_settings() -> SettingsSpec:
    return SettingsSpec("workers", WorkersSettings)


@hookimpl
def microkit_configure(app: App) -> None:
    pools = Pools(app)
    app.registry.add(Provider(Pools, value=pools))
    # By this name plugins that know nothing of this one find them, such as those that measure.
    app.registry.add(Provider("workers.pools", value=pools))


@hookimpl
def microkit_collect(obj: Any, app: App) -> Iterable[Binding] | None:
    if isinstance(obj, Route):
        return [obj.binding(pools_of(app).settings.service or app.name)]
    return obj.bindings() if isinstance(obj, Outbox) else None


@hookimpl
def microkit_providers(app: App) -> list[Provider]:
    settings: WorkersSettings = app.all_settings["workers"]
    return [
        Provider(Broker, connected_broker, scope=Scope.APP),
        Provider(RpcWire, rpc_wire, scope=Scope.APP),
        Provider(Configuration, value=configuration_of(settings, settings.service or app.name)),
    ]


@hookimpl
def microkit_bind_parameter(parameter: Parameter, endpoint: Endpoint) -> Binder | None:
    if parameter.annotation in (Attempt, BackOffData):
        kinds = Kind.MESSAGE | Kind.TICK | Kind.RPC
        return Binder(parameter.annotation.of, "attempt", kinds=kinds)
    return None


@hookimpl
def microkit_transports() -> list[TransportSpec]:
    kinds = Kind.MESSAGE | Kind.BATCH | Kind.RPC
    return [TransportSpec("consumers", kinds, server=Consumers, automatic=True), *transports()]


@hookimpl
def microkit_triggers() -> list[TriggerSpec]:
    return [
        TriggerSpec(Event, _EVENTS),
        TriggerSpec(Every, _COMMON),
        TriggerSpec(Procedure, _COMMON),
        TriggerSpec(Queue, _MESSAGES | {"queue_options"}, "consumers"),
        TriggerSpec(BrokerProcedure, _COMMON | {"idempotent"}, "consumers"),
    ]


@hookimpl
def microkit_executors() -> list[ExecutorSpec]:
    return list(EXECUTORS)


@hookimpl
def microkit_commands(cli: CommandLine) -> None:
    add_commands(cli)


# Hooks of microkit-amqp, which may be absent.
@hookimpl(optionalhook=True)
def microkit_amqp_queues(app: App) -> list[QueueSpec]:
    return [queue for _, queue in consumed(app)]


@hookimpl(optionalhook=True)
def microkit_amqp_services(app: App) -> Mapping[str, Mapping[str, TargetInfo]]:
    services = by_service(served(app), pools_of(app).settings.service or app.name)
    return {
        service: {target: target_info(target, plan) for target, plan in plans.items()}
        for service, plans in services.items()
    }


@hookimpl(optionalhook=True)
def microkit_amqp_url(app: App) -> str:
    return pools_of(app).settings.broker


@hookimpl
def microkit_modify_plan(plan: Plan) -> None:
    furnish(plan)


@hookimpl
def microkit_lifespan(app: App) -> AbstractAsyncContextManager[None]:
    return _running(app)


@asynccontextmanager
async def _running(app: App) -> AsyncGenerator[None]:
    pools = pools_of(app)
    pools.open()
    block = pools.settings.loop_block_warning
    used = dict.fromkeys(pools.of(plan) for plan in app.table.plans if plan.remote is not None)
    async with watched_loop(app, 0 if place.inside else block), running_processes(app, list(used)):
        yield
