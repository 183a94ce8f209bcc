"""A topology for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from microkit.broker import QueueSpec

from .topology import Topology, work_topology


def topology_of(queues: Iterable[QueueSpec], delivery_limit: int = 20) -> Topology:
    """All that some queues need: their exchanges, bindings and dead letters.

    Queues for delays are made when the first message needs them.

    Args:
        queues: as an application asks for them.
        delivery_limit: the setting of that name.
    """
    return sum((work_topology(queue, delivery_limit) for queue in queues), Topology())


def topology_text(topology: Topology) -> str:
    """A topology as text: exchanges, queues, bindings and arguments, one line each."""
    lines = ["exchanges"]
    for exchange in topology.exchanges:
        flags = [exchange.type, *(["durable"] if exchange.durable else []), *_arguments(exchange.arguments)]
        lines.append(f"  {exchange.name}  {' '.join(flags)}")
    lines.append("queues")
    for queue in topology.queues:
        marks = {"durable": queue.durable, "exclusive": queue.exclusive, "auto-delete": queue.auto_delete}
        flags = [name for name, is_set in marks.items() if is_set]
        lines.append(f"  {queue.name}  {' '.join([*flags, *_arguments(queue.arguments)])}")
    lines.append("bindings")
    lines += [f"  {bind.source} --{bind.key or '(empty)'}--> {bind.destination}" for bind in topology.binds]
    return "\n".join(lines)


def _arguments(arguments: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value!r}" for name, value in arguments.items()]
