"""`microkit dead-letters`: look at messages that nobody could handle, and put them back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from microkit.cli import CommandError, dead_letters

from .brokers import SqliteBroker
from .consumers import consumed
from .context import pools_of

if TYPE_CHECKING:
    from microkit import App
    from microkit.cli import CommandLine


def add_commands(cli: CommandLine) -> None:
    """Add the commands of this plugin."""
    cli.add_command(
        "dead-letters",
        _run,
        help="list the messages that nobody could handle, with their reasons, and put them back",
        configure=dead_letters.configure,
    )


def _run(args: argparse.Namespace) -> int:
    # Connecting would make the file, and an empty one says "0 dead letters" of whatever was meant.
    if args.target.startswith("sqlite:") and not Path(path := SqliteBroker.from_url(args.target).path).exists():
        raise CommandError(f"There is no file {path!r}. Correct the path in the URL.")
    return dead_letters.run(args, _consumed)


def _consumed(app: App) -> dead_letters.Consumed:
    return dead_letters.Consumed(pools_of(app).settings.broker, [queue.name for _, queue in consumed(app)])
