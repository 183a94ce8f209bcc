"""`microkit amqp`: the topology and the dead letters of an application, or of a broker."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import anyio

from microkit.broker import DeadLetter, QueueSpec
from microkit.cli import CommandError, load_app
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
    dead = actions.add_parser("dead", help="list dead letters, or put them back")
    dead.add_argument("target", metavar="URL|MODULE:APP", help="a broker, or an application that says which")
    dead.add_argument("--queue", default="", help="of this queue only; needed with a URL, unless --management is given")
    dead.add_argument("--redrive", action="store_true", help="put them back into their queues")
    dead.add_argument("--id", action="append", default=[], dest="ids", help="only this one; may be repeated")
    dead.add_argument("--management", default="", help="URL of the broker's management API, which knows all queues")
    dead.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run one of the actions."""
    try:
        return anyio.run(_topology if args.action == "topology" else _dead, args)
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


def broker_url(app: Any, settings: AmqpSettings) -> str:
    """The broker that an application consumes from, as its plugins say, otherwise the setting `url`."""
    found = [url for url in app.plugins.hook.microkit_amqp_url(app=app) if url]
    return next((url for url in found if url.partition("://")[0] in ("amqp", "amqps")), settings.url)


async def _topology(args: argparse.Namespace) -> int:
    app = load_app(args.app, args.flags)
    settings = settings_of_app(app)
    topology = declared_topology(app, settings)
    if not (args.diff or args.declare):
        print(topology_text(topology))
        return 0
    topology = topology.lasting()
    broker = AmqpBroker(args.url or broker_url(app, settings), settings)
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


async def _dead(args: argparse.Namespace) -> int:
    queues: Iterable[str] = [args.queue]
    if "://" in args.target:
        settings = replace(AmqpSettings(), management=args.management)
        broker = AmqpBroker(args.target, settings)
        if not args.queue and not args.management:
            raise CommandError("Over AMQP nobody can ask which queues there are. Give --queue, or --management.")
    else:
        app = load_app(args.target, args.flags)
        settings = settings_of_app(app)
        settings = replace(settings, management=args.management or settings.management)
        broker = AmqpBroker(broker_url(app, settings), settings)
        if not args.queue and not settings.management:
            queues = [queue.name for queue in declared_queues(app)]
    await broker.connect()
    try:
        letters = [letter for queue in queues async for letter in broker.dead_letters(queue)]
        if args.ids:
            letters = [letter for letter in letters if letter.id in args.ids]
        if not args.redrive:
            _print(letters, as_json=args.json)
            return 0
        ids = frozenset(args.ids) or None
        moved = 0
        for queue in dict.fromkeys(letter.queue for letter in letters):
            moved += await broker.redrive(queue, ids)
        print(f"{moved} put back")
    finally:
        await broker.close()
    return 0


def _print(letters: list[DeadLetter], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {name: getattr(each, name) for name in ("id", "queue", "reason", "attempts", "died_at")} for each in letters
        ]
        print(json.dumps(rows, indent=2))
        return
    for each in letters:
        died = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(each.died_at))
        print(f"{died}  {each.queue}  {each.id}  attempts {each.attempts}  {each.reason}")
    print(f"{len(letters)} dead letters")
