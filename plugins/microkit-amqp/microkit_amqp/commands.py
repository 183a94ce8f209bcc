"""`microkit amqp`: the topology and the dead letters of an application, or of a broker."""

from __future__ import annotations

import argparse
from typing import Any

import anyio

from microkit.broker import QueueSpec
from microkit.cli import CommandError, dead_letters, load_app
from microkit.errors import PublicError

from .broker import AmqpBroker
from .rpc.wire import served_topology
from .settings import AmqpSettings, settings_of
from .topology import Topology
from .topology_text import topology_of, topology_text


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    topology = actions.add_parser("topology", help="show what an application needs on RabbitMQ")
    topology.add_argument("app", metavar="MODULE:APP", help="the application, such as app:app")
    topology.add_argument("--diff", action="store_true", help="compare with the broker; exit code 1 if it differs")
    topology.add_argument("--declare", action="store_true", help="declare it")
    topology.add_argument("--url", default="", help="of the broker; otherwise the one of the application")
    dead_letters.configure(actions.add_parser("dead", help="list dead letters, or put them back"))


def run(args: argparse.Namespace) -> int:
    """Run one of the actions."""
    try:
        return anyio.run(_topology, args) if args.action == "topology" else dead_letters.run(args, _consumed)
    except PublicError as exc:
        raise CommandError(exc.detail) from exc


def declared_queues(app: Any) -> list[QueueSpec]:
    """The queues that an application consumes, as its plugins say by the hook `microkit_amqp_queues`.

    Args:
        app: the application; it is built.
    """
    _ = app.table
    return [queue for found in app.plugins.hook.microkit_amqp_queues(app=app) for queue in found or ()]


def declared_topology(app: Any, settings: AmqpSettings) -> Topology:
    """What the queues and the remote procedures of an application need.

    Args:
        app: the application; it is built.
        settings: of this plugin.
    """
    queues = topology_of(declared_queues(app), settings.delivery_limit)
    services = [found or {} for found in app.plugins.hook.microkit_amqp_services(app=app)]
    needed = [
        served_topology(settings.rpc_wire, service, targets) for found in services for service, targets in found.items()
    ]
    return sum(needed, queues)


def broker_url(app: Any) -> str:
    """The broker that an application consumes from, as its plugins say by the hook `microkit_amqp_url`.

    Raises:
        CommandError: it is none of this plugin.
    """
    found = [url for url in app.plugins.hook.microkit_amqp_url(app=app) if url]
    for url in found:
        if url.partition("://")[0] in ("amqp", "amqps"):
            return url
    schemes = ", ".join(f"{url.partition(':')[0]}://" for url in found) or "none"
    raise CommandError(
        f"The application consumes from no RabbitMQ; its broker is {schemes}. Set the broker of workers to "
        f"amqp://user:password@host/vhost (MICROKIT_WORKERS__BROKER), or name one on the command line."
    )


async def _topology(args: argparse.Namespace) -> int:
    app = load_app(args.app, args.flags)
    settings = settings_of_app(app)
    topology = declared_topology(app, settings)
    if not (args.diff or args.declare):
        print(topology_text(topology))
        return 0
    topology = topology.lasting()
    broker = AmqpBroker(args.url or broker_url(app), settings)
    await broker.connect()
    try:
        if args.declare:
            await broker.declare(topology)
        lines = await broker.difference(topology)
    finally:
        await broker.close()
    print("\n".join(lines) or "no difference")
    return int(bool(lines))


def settings_of_app(app: Any) -> AmqpSettings:
    """The settings of an application that may not be built yet."""
    _ = app.table
    return settings_of(app)


def _consumed(app: Any) -> dead_letters.Consumed:
    return dead_letters.Consumed(broker_url(app), [queue.name for queue in declared_queues(app)])
