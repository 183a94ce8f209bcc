"""The hooks of microkit-amqp: RabbitMQ as a broker, its settings and commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microkit import Kind, PluginInfo, hookimpl
from microkit.settings import SettingsSpec
from microkit.transport import TransportSpec

from . import hooks
from .broker import AmqpBroker
from .settings import AmqpSettings

if TYPE_CHECKING:
    from microkit.cli import CommandLine
    from microkit.plugins import PluginManager

microkit_plugin_info = PluginInfo("amqp", kernel=">=0.4,<0.5", hook_api=1)


@hookimpl
def microkit_addhooks(pluginmanager: PluginManager) -> None:
    pluginmanager.add_hookspecs(hooks)


@hookimpl
def microkit_settings() -> SettingsSpec:
    return SettingsSpec("amqp", AmqpSettings)


@hookimpl
def microkit_transports() -> TransportSpec:
    kinds = Kind.MESSAGE | Kind.BATCH | Kind.RPC
    return TransportSpec("amqp", kinds, broker=AmqpBroker, schemes=("amqp", "amqps"), durable=True)


@hookimpl
def microkit_commands(cli: CommandLine) -> None:
    from .commands import configure, run

    cli.add_command(
        "amqp",
        run,
        help="show and compare the topology on RabbitMQ, list and redrive dead letters",
        configure=configure,
    )
