"""Looking at the dead letters of a broker and putting them back: one command, which plugins name as theirs."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from microkit.broker import Broker, DeadLetter, broker_for
from microkit.cli.loading import CommandError, load_app
from microkit.errors import PublicError

if TYPE_CHECKING:
    from microkit.app import App

_BODY = 200


@dataclass(frozen=True, slots=True)
class Consumed:
    """What an application consumes, as far as this command needs it.

    Attributes:
        url: of its broker.
        queues: their names, for brokers that cannot tell which queues they have.
    """

    url: str
    queues: Sequence[str]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="MODULE:APP|URL", help="an application, whose broker is asked, or a broker")
    parser.add_argument("--queue", default="", help="only those of this queue")
    parser.add_argument("--id", dest="ids", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--redrive", action="store_true", help="put them back into their queues, as first attempts")
    parser.add_argument("--json", action="store_true", help="print JSON, with the messages")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio", help="event loop to run it on")


def run(args: argparse.Namespace, consumed: Callable[[App], Consumed]) -> int:
    """Run the command; an application is loaded, not started.

    Args:
        args: what `configure` declared, and `flags`.
        consumed: tells what an application consumes; it is built then.

    Raises:
        MicrokitError: there is no such broker, or it cannot be reached or asked.
    """
    app, known = _app_of(args, consumed)
    scheme = known.url.partition(":")[0]
    if any(scheme in spec.schemes and spec.in_process for spec in app.transports.values()):
        raise CommandError(
            f"The dead letters of {scheme}:// are in the memory of the service, where no other program sees them. Use "
            f"a durable broker, such as sqlite:///jobs.db."
        )
    try:
        print(anyio.run(_work, app, known, args, backend=args.backend))
    except PublicError as exc:
        raise CommandError(exc.detail) from exc
    return 0


def _app_of(args: argparse.Namespace, consumed: Callable[[App], Consumed]) -> tuple[App, Consumed]:
    from microkit.app import App
    from microkit.settings import find_project_table

    if "://" in args.target:
        app = App(name="dead-letters")
        app.configuration = find_project_table(Path.cwd())
        app.plugin_flags = tuple(args.flags)
        app.plugins  # noqa: B018  # loads the settings
        return app, Consumed(args.target, ())
    app = load_app(args.target, args.flags)
    app.table  # noqa: B018  # builds it
    return app, consumed(app)


async def _work(app: App, known: Consumed, args: argparse.Namespace) -> str:
    broker = broker_for(app, known.url)
    await broker.connect()
    try:
        letters = await _found(broker, args.queue, known.queues)
        if args.ids:
            letters = [each for each in letters if each.id in args.ids]
        if args.redrive:
            return f"{await _redriven(broker, letters)} put back"
    finally:
        await broker.close()
    return _json(letters) if args.json else _text(letters)


async def _found(broker: Broker, queue: str, names: Sequence[str]) -> list[DeadLetter]:
    reason: str = "" if queue else getattr(broker, "cannot_list", "")
    if reason and not names:
        raise CommandError(reason)
    if not reason:
        return [each async for each in broker.dead_letters(queue)]
    found = [each for name in names async for each in broker.dead_letters(name)]
    return [*found, *[each async for each in broker.dead_letters() if each.queue not in names]]


async def _redriven(broker: Broker, letters: list[DeadLetter]) -> int:
    queues: dict[str, set[str]] = {}
    for each in letters:
        queues.setdefault(each.queue, set()).add(each.id)
    return sum([await broker.redrive(queue, frozenset(ids)) for queue, ids in queues.items()])


def _text(letters: list[DeadLetter]) -> str:
    lines = [
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(each.died_at))}  {each.queue}  {each.id}  "
        f"attempts {each.attempts}  {each.reason}"
        for each in letters
    ]
    return "\n".join([*lines, f"{len(letters)} dead letters"])


def _json(letters: list[DeadLetter]) -> str:
    rows = [
        {
            **{name: getattr(each, name) for name in ("id", "queue", "reason", "attempts", "died_at")},
            "message_id": each.message.message_id,
            "body": each.message.body[:_BODY].decode(errors="replace"),
        }
        for each in letters
    ]
    return json.dumps(rows, indent=2)
