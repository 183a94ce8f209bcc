"""The hooks that microkit-amqp adds, for plugins whose ingresses consume queues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from microkit.broker import QueueSpec, TargetInfo
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


@hookspec
def microkit_amqp_services(app: App) -> Mapping[str, Mapping[str, TargetInfo]] | None:
    """Name the remote procedures that an application serves over its broker.

    Called by `microkit amqp`, as `microkit_amqp_queues`; the wire of the settings decides which queues they need.

    Args:
        app: the application, built.

    Returns:
        The procedures by the names of their services and their own; None if there are none.
    """


@hookspec
def microkit_amqp_url(app: App) -> str | None:
    """Name the broker that an application consumes from.

    Called by `microkit amqp`, to ask that broker if the command line names no other one.

    Args:
        app: the application, built.

    Returns:
        Its URL; any scheme, others than those of this plugin are passed over.
    """
