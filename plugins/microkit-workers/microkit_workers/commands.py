"""`microkit dead-letters`: look at messages that nobody could handle, and put them back."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from microkit.broker import Broker, DeadLetter, broker_for
from microkit.cli import load_app
from microkit.codecs import json_dumps
from microkit.errors import StartupError

if TYPE_CHECKING:
    from microkit.cli import CommandLine

_BODY = 200


def add_commands(cli: CommandLine) -> None:
    """Add the commands of this plugin."""
    cli.add_command(
        "dead-letters",
        run,
        help="list the messages that nobody could handle, with their reasons, and put them back",
        configure=configure,
    )


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("app", metavar="MODULE:APP", help="the application, whose broker is asked")
    parser.add_argument("--queue", default="", help="only those of this queue")
    parser.add_argument("--id", dest="ids", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--redrive", action="store_true", help="put them back into their queues, as first attempts")
    parser.add_argument("--broker", help="URL of another broker than that of the settings")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio", help="event loop to run it on")


def run(args: argparse.Namespace) -> int:
    """Run the command; the application is loaded, not started."""
    import anyio

    app = load_app(args.app, args.flags)
    app.plugins  # noqa: B018  # loads the settings
    url = args.broker or app.all_settings["workers"].broker
    scheme = url.partition(":")[0]
    if any(scheme in spec.schemes and spec.in_process for spec in app.transports.values()):
        raise StartupError(
            f"The dead letters of {url} are in the memory of the service, where no other program sees them. Use a "
            f"durable broker, such as sqlite:///jobs.db."
        )
    for line in anyio.run(_work, app, url, args, backend=args.backend):
        sys.stdout.write(f"{line}\n")
    return 0


async def _work(app: Any, url: str, args: argparse.Namespace) -> list[str]:
    broker = broker_for(app, url)
    await broker.connect()
    try:
        found = [each async for each in broker.dead_letters(args.queue) if not args.ids or each.id in args.ids]
        return await _redriven(broker, found) if args.redrive else [_shown(each) for each in found]
    finally:
        await broker.close()


async def _redriven(broker: Broker, found: list[DeadLetter]) -> list[str]:
    queues: dict[str, set[str]] = {}
    for each in found:
        queues.setdefault(each.queue, set()).add(each.id)
    return [f"{queue}: {await broker.redrive(queue, frozenset(ids))}" for queue, ids in queues.items()]


def _shown(letter: DeadLetter) -> str:
    message = letter.message
    body = message.body[:_BODY].decode(errors="replace")
    facts = {"id": letter.id, "queue": letter.queue, "reason": letter.reason, "attempts": letter.attempts}
    facts |= {"died_at": letter.died_at, "message_id": message.message_id, "body": body}
    return json_dumps(facts).decode()
