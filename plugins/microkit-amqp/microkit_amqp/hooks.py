"""The hook that microkit-amqp adds, for plugins whose ingresses consume queues."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from microkit.broker import QueueSpec
from microkit.hookspecs import hookspec

if TYPE_CHECKING:
    from microkit import App


@hookspec
def microkit_amqp_queues(app: App) -> Iterable[QueueSpec] | None:
    """Name the queues that an application consumes.

    Called by `microkit amqp`, to show, compare and declare the topology without starting the application.

    Args:
        app: the application, built.

    Returns:
        The queues as they are subscribed to; None if there are none.
    """
