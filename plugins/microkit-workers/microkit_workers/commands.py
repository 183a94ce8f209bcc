"""`microkit dead-letters`: look at messages that nobody could handle, and put them back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from microkit.cli import dead_letters

from .consumers import consumed
from .context import pools_of

if TYPE_CHECKING:
    from microkit import App
    from microkit.cli import CommandLine


def add_commands(cli: CommandLine) -> None:
    """Add the commands of this plugin."""
    cli.add_command(
        "dead-letters",
        partial(dead_letters.run, consumed=_consumed),
        help="list the messages that nobody could handle, with their reasons, and put them back",
        configure=dead_letters.configure,
    )


def _consumed(app: App) -> dead_letters.Consumed:
    return dead_letters.Consumed(pools_of(app).settings.broker, [queue.name for _, queue in consumed(app)])
