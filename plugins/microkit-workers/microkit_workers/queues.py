"""Which queue a binding of messages consumes, and what a plain queue is bound by."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from microkit import ConfigurationError, Event, Kind, Procedure, Trigger
from microkit.annotations import Parameter, describe
from microkit.binding import Binder, SourceContext
from microkit.broker import QueueSpec
from microkit.triggers import payload_source

if TYPE_CHECKING:
    from microkit.endpoint import Binding

MODES = ("pool", "broadcast", "singleton")


@dataclass(frozen=True)
class Queue(Trigger):
    """The messages of one queue by its name, whoever puts them there.

    Args:
        name: of the queue.
        source, event: an event that the queue is bound to as well.
        options: what only some brokers know, by its own names.
    """

    kind: ClassVar[Kind] = Kind.MESSAGE  # pyright: ignore[reportIncompatibleVariableOverride]
    name: str
    source: str = ""
    event: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    def __str__(self) -> str:
        return f"queue {self.name}"

    def sources(self, parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
        return payload_source(parameters, context)


@dataclass(frozen=True)
class BrokerProcedure(Procedure):
    """A remote procedure that is served over the broker, as well as in process."""

    def __post_init__(self) -> None:
        if not all(self.name.rpartition(".")[::2]):
            raise ConfigurationError(f"The procedure {self.name!r} needs the form service.target.")


def target_name(binding: Binding) -> str:
    """How the target of a binding is called in the names of queues: its option `name`, the class and method, or the
    function."""
    if given := binding.options.get("name"):
        return given
    owner = binding.endpoint.owner
    return f"{owner.__name__}.{binding.name}" if owner is not None and binding.name != "__call__" else (
        owner.__name__ if owner is not None else binding.name
    )  # fmt: skip


def queue_of(binding: Binding, service: str) -> QueueSpec:
    """The queue that a binding consumes.

    Raises:
        ConfigurationError: its options do not fit together.
    """
    trigger, options = binding.trigger, binding.options
    mode = options.get("mode", "pool")
    if mode not in MODES:
        raise ConfigurationError(f"{binding} has the mode {mode!r}; it must be one of {', '.join(MODES)}.")
    extra = options.get("queue_options", {})
    if isinstance(trigger, Queue):
        return QueueSpec(trigger.name, trigger.source, trigger.event, options={**trigger.options, **extra})
    if not isinstance(trigger, Event):
        raise ConfigurationError(f"{binding} has a trigger that names no queue: {describe(type(trigger))}.")
    event = f"{trigger.source_service}.{trigger.name}"
    name = options.get("queue") or (event if mode == "singleton" else f"{event}__{service}.{target_name(binding)}")
    if mode == "broadcast":
        return QueueSpec(
            f"{name}-{uuid.uuid4().hex}", trigger.source_service, trigger.name, exclusive=True, options=extra
        )
    return QueueSpec(
        name,
        trigger.source_service,
        trigger.name,
        single_active=bool(options.get("single_active")),
        options=extra,
    )
