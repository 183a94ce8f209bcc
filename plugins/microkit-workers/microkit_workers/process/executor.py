"""The executor `process`: which plans can run in child processes, and what runs them there."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from microkit import ConfigurationError, Kind
from microkit.graph import Node
from microkit.plan import Plan
from microkit_workers.context import pools_of

from . import place
from .pool import processes_of

KINDS = Kind.MESSAGE | Kind.BATCH | Kind.TICK | Kind.RPC


def in_child(plan: Plan) -> Callable[[Any], Awaitable[Any]] | None:
    """What runs the handler of a plan in a child process; None in such a process itself.

    Raises:
        ConfigurationError: it cannot run there.
    """
    if place.inside:
        return None
    why = ""
    if os.name != "posix":
        why = "child processes need a POSIX system"
    elif plan.kind not in KINDS:
        why = f"a {plan.kind.names()} call is a live request, which cannot leave this process"
    elif plan.may_stream:
        why = "a stream cannot leave its process"
    elif any(node.label == "background tasks" for node in _all(plan.nodes)):
        why = "background tasks run after delivery, which is this process's"
    if why:
        raise ConfigurationError(
            f"{plan.binding} cannot run in a child process: {why}. Choose another executor or worker mode."
        )
    pools = pools_of(plan.app)

    async def run(call: Any) -> Any:
        return await processes_of(pools.of(plan), plan.app).run(plan, call)

    return run


def _all(nodes: list[Node]) -> set[Node]:
    found: set[Node] = set()
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += node.args
    return found
