"""Triggers: what `app.on(...)` takes. Each knows its kind and where a handler's plain parameters come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from . import annotations
from .annotations import Parameter
from .binding import (
    Arguments,
    Binder,
    SourceContext,
    argument_binder,
    batch_binder,
    body_binder,
    other_arguments,
    payload_binder,
    rpc_payload_binder,
    text_binder,
)
from .call import Kind
from .errors import ConfigurationError
from .validation import Shape

if TYPE_CHECKING:
    from .renderers import RendererSpec


class Trigger:
    """Base of all triggers. Subclass it to bring a new one.

    Attributes:
        kind: kind of the calls that it starts.
        router: name of the router that its path goes to; None for the app's own (HTTP and SOCKET only).
        renderers: how results of some types are rendered, instead of as in all the app (HTTP only).
        frees_names: a reserved name without annotation is a plain one where its type belongs to other kinds of call.
    """

    kind: Kind
    router: ClassVar[str | None] = None
    renderers: ClassVar[Sequence[RendererSpec]] = ()
    frees_names: ClassVar[bool] = False

    @property
    def key(self) -> Any:
        """What an ingress looks the binding up by."""
        return str(self)

    def sources(self, parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
        """Where the values of otherwise unclaimed parameters of one function come from; those left out have no source.

        Args:
            parameters: the unclaimed ones, in the order of the signature, without variadic ones.
            context: whose parameters they are.
        """
        return {}

    def others(self, arguments: Arguments, context: SourceContext) -> Binder | None:
        """What reads, ahead of all sources, `(args, kwargs)` of what no parameter of the handler takes; None: nothing.

        Args:
            arguments: what the handler takes.
            context: the handler's.
        """
        return None


@dataclass(frozen=True)
class TriggerSpec:
    """A contributed trigger type. Whoever contributes a type that is known already adds options to it.

    Attributes:
        type: the `Trigger` subclass.
        options: names of options that `app.on` accepts for it, beside the kernel's common ones.
        ingress: name of the ingress that serves it: `http`, `timers`, `rpc`, `consumers`, or a plugin's own; that of
            the first who contributes the type counts.
    """

    type: type[Trigger]
    options: frozenset[str] = frozenset()
    ingress: str = ""


def merged(specs: Iterable[TriggerSpec]) -> dict[type[Trigger], TriggerSpec]:
    """The contributed trigger types, one spec each."""
    found: dict[type[Trigger], TriggerSpec] = {}
    for each in specs:
        known = found.setdefault(each.type, each)
        found[each.type] = replace(known, options=known.options | each.options)
    return found


@dataclass(frozen=True)
class Route(Trigger):
    """An HTTP route.

    Args:
        path: pattern, such as `/users/{id:int}`.
        methods: one or several methods; None answers every method.
    """

    kind = Kind.HTTP
    path: str
    methods: Any = None

    def __post_init__(self) -> None:
        methods: Iterable[str] | None = (self.methods,) if isinstance(self.methods, str) else self.methods
        if methods is not None:
            methods = tuple(dict.fromkeys(method.upper() for method in methods))
            for method in methods:
                if not method.isascii() or not method.replace("-", "").isalpha():
                    raise ConfigurationError(f"{method!r} is no HTTP method.")
            if not methods:
                raise ConfigurationError(f"The route {self.path!r} has an empty list of methods.")
        object.__setattr__(self, "methods", methods)

    def __str__(self) -> str:
        return f"{'|'.join(self.methods) if self.methods else '*'} {self.path}"

    def sources(self, parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
        shapes = {each.name: context.validators.shape(each.declared) for each in parameters}
        several = sum(shape is Shape.MODEL for shape in shapes.values()) > 1
        binders = {}
        for each in parameters:
            if shapes[each.name] is Shape.MODEL:  # several models share one JSON object, each under its name
                binders[each.name] = body_binder(each, context, embed=each.name if several else "")
            elif shapes[each.name] is not None:
                binders[each.name] = text_binder(each, "query", each.name, context.validators)
        return binders


@dataclass(frozen=True)
class SocketRoute(Trigger):
    """A WebSocket route.

    Args:
        path: pattern.
    """

    kind = Kind.SOCKET
    path: str

    def __str__(self) -> str:
        return f"WEBSOCKET {self.path}"

    def sources(self, parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
        return {
            each.name: text_binder(each, "query", each.name, context.validators)
            for each in parameters
            if context.validators.shape(each.declared) in (Shape.SCALAR, Shape.SCALARS)
        }


@dataclass(frozen=True)
class Procedure(Trigger):
    """A remote procedure.

    Args:
        name: `service.method`.
    """

    kind = Kind.RPC
    name: str

    def __str__(self) -> str:
        return self.name

    def sources(self, parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
        validators = context.validators
        known = [each for each in parameters if validators.shape(each.declared) is not None]
        if context.is_handler and len(known) == 1 and validators.shape(known[0].declared) is Shape.MODEL:
            return {known[0].name: rpc_payload_binder(known[0], context)}
        # A dependency names what it wants; only the handler's own signature gives arguments a position.
        positions = {each.name: i for i, each in enumerate(p for p in parameters if not p.keyword_only)}
        return {
            each.name: argument_binder(each, positions.get(each.name, -1) if context.is_handler else -1, validators)
            for each in known
        }

    def others(self, arguments: Arguments, context: SourceContext) -> Binder | None:
        return None if arguments.whole else other_arguments(arguments)


@dataclass(frozen=True)
class Event(Trigger):
    """An event of a service.

    Args:
        source_service: who publishes it.
        name: what happened.
        batch: take several messages in one call.
    """

    source_service: str
    name: str
    batch: bool = False

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        return Kind.BATCH if self.batch else Kind.MESSAGE

    @property
    def key(self) -> Any:
        return (self.source_service, self.name)

    def __str__(self) -> str:
        return f"{self.source_service}/{self.name}" + ("[]" if self.batch else "")

    def sources(self, parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
        return payload_source(parameters, context, batch=self.batch)


def payload_source(
    parameters: Sequence[Parameter], context: SourceContext, *, batch: bool = False
) -> dict[str, Binder]:
    """The kind source of messages: the first unclaimed parameter of the handler is the payload.

    A dependency gets it by the name `payload` only.
    """
    make = batch_binder if batch else payload_binder
    for each in parameters:
        if each.keyword_only or context.validators.shape(each.declared) is None:
            continue
        if context.is_handler or each.name == "payload":
            return {each.name: make(each, context)}
    return {}


@dataclass(frozen=True)
class Every(Trigger):
    """A timer.

    Args:
        seconds: distance of two firings, from start to start.
        jitter: each firing is put off by a random part of so many seconds.
        overlap: when a firing is due while the last one still runs: `skip` it, `queue` it (one at most), or `allow`
            both.
        misfire: when the loop was late by one period or more: `once` fires one time for all that were missed, `skip`
            waits for the next regular time, `all` makes up for each.
        immediate: fire at start, not one period later.
        each_process: fire in every worker process; by default in one only.
    """

    kind = Kind.TICK
    seconds: float
    jitter: float = field(default=0.0, kw_only=True)
    overlap: Literal["skip", "queue", "allow"] = field(default="skip", kw_only=True)
    misfire: Literal["once", "skip", "all"] = field(default="once", kw_only=True)
    immediate: bool = field(default=False, kw_only=True)
    each_process: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ConfigurationError(f"Every({self.seconds}) must have a positive number of seconds.")
        if self.jitter < 0:
            raise ConfigurationError("The jitter of a timer must not be negative.")
        for name, value, legal in (
            ("overlap", self.overlap, ("skip", "queue", "allow")),
            ("misfire", self.misfire, ("once", "skip", "all")),
        ):
            if value not in legal:
                raise ConfigurationError(f"{name}={value!r} of a timer must be one of {', '.join(legal)}.")

    def __str__(self) -> str:
        return f"every {self.seconds:g}s"

    def next_after(self, moment: float, start: float) -> float:
        """The next due time.

        Args:
            moment: seconds since the epoch; the result is later.
            start: when the schedule began; due times are whole periods from it.
        """
        periods = int((moment - start) / self.seconds) + 1
        due = start + periods * self.seconds
        return due if due > moment else due + self.seconds

    def sources(self, parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
        return tick_source(parameters, context)


_TIMES: dict[Any, Any] = {
    datetime: lambda tick: tick.scheduled_at,
    annotations.Empty: lambda tick: tick.scheduled_at,
    Any: lambda tick: tick.scheduled_at,
    str: lambda tick: tick.scheduled_at.isoformat(),
    float: lambda tick: tick.scheduled_at.timestamp(),
}


def tick_source(parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
    """The kind source of ticks: the first unclaimed parameter of the handler is the scheduled time."""
    for each in parameters:
        if context.is_handler and not each.keyword_only and each.annotation in _TIMES:
            return {each.name: Binder(_TIMES[each.annotation], f"scheduled time {each.name}", kinds=Kind.TICK)}
    return {}
