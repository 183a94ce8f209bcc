"""What is called when a failure is final: with the payload, the dependencies of the failed target, and the exception.

A callback is compiled like a handler of its own. Parameters that it names like the target's dependencies get these.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from microkit import Call, ConfigurationError, Depends, Kind, Message, PublicError, Reply, RpcRequest, Tick, Trigger
from microkit import annotations as notes
from microkit.annotations import Parameter
from microkit.binding import Binder, SourceContext
from microkit.di import as_depends, class_dependencies, inject, injected
from microkit.dispatch import run
from microkit.endpoint import Binding, Endpoint
from microkit.params import marker_of
from microkit.plan import Plan
from microkit.resolve import Resolver
from microkit.triggers import Event

from .imports import target_of

if TYPE_CHECKING:
    from microkit import App

_logger = logging.getLogger("microkit.workers")
_NAMES = ("exc", "exception", "error")


@dataclass(frozen=True)
class Failure(Trigger):
    """The final failure of what another trigger started.

    Args:
        of: that trigger.
    """

    of: Trigger

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        return Kind.MESSAGE if self.of.kind is Kind.BATCH else self.of.kind

    def __str__(self) -> str:
        return f"failure of {self.of}"

    def sources(self, parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
        wanted = {each.name for each in parameters if context.is_handler and _is_exception(each)}
        others = [each for each in parameters if each.name not in wanted]
        trigger = Event(self.of.source_service, self.of.name) if isinstance(self.of, Event) else self.of
        failure = Binder(lambda call: call.__dict__["failure"], "the failure")
        return {**trigger.sources(others, context), **dict.fromkeys(wanted, failure)}


def _is_exception(parameter: Parameter) -> bool:
    if parameter.annotation in (notes.Empty, Any):
        return parameter.name in _NAMES
    return inspect.isclass(parameter.annotation) and issubclass(parameter.annotation, BaseException)


class Callback:
    """What a binding calls when its failure is final.

    Args:
        plan: of the target.
        target: the function, or its import path.

    Raises:
        ConfigurationError: it cannot be imported, or something does not fill its parameters.
    """

    def __init__(self, plan: Plan, target: Any) -> None:
        app = plan.app
        func = target_of(target)
        if not callable(func):
            raise ConfigurationError(f"{plan.binding} has the callback {func!r}, which cannot be called.")
        names = {each.name for each in notes.parameters(func, plan.endpoint.localns)}
        shared = {name: each for name, each in _dependencies_of(plan.endpoint, app).items() if name in names}
        own = injected(func)
        wrapped = inject(**{name: each for name, each in shared.items() if name not in own})(partial(func))
        endpoint = Endpoint(wrapped, localns=plan.endpoint.localns)
        trigger = Failure(plan.binding.trigger)
        resolver = Resolver(app.catalog, trigger.kind, trigger, endpoint)
        executor = None if endpoint.is_async else app.executors["thread"]
        self.plan = Plan(app, Binding(endpoint, trigger, {}), resolver, [], executor)
        self._frozen_for: object = None

    async def run(self, call: Call, reply: Reply) -> None:
        """Call it for one failed call; its own failure is logged, and changes nothing."""
        app = call.app
        if self._frozen_for is not app.owner:  # a new one at each start of the application
            self.plan.freeze()
            self._frozen_for = app.owner
        error = reply.error or PublicError("The call was given up.", status=reply.status)
        given = _copy(call, app, self.plan, error)
        answer = await run(given, _nowhere)
        if not answer.ok:
            _logger.error("the callback %s for %s failed", self.plan.endpoint.name, call.plan.address)


def _dependencies_of(endpoint: Endpoint, app: App) -> Mapping[str, Depends]:
    """The dependencies of a target by the names that it has for them."""
    found: dict[str, Depends] = {}
    if endpoint.owner is not None:
        found.update(class_dependencies(endpoint.owner))
    for each in endpoint.parameters:
        marker = marker_of(each, (Depends,))
        if marker is not None:
            depends = as_depends(marker)
            found[each.name] = depends if depends.dependency is not None else Depends(each.annotation)
        elif inspect.isclass(each.annotation) and each.annotation in app.registry:
            found[each.name] = Depends(each.annotation)
    return {**found, **injected(endpoint.handler)}


def _copy(call: Any, app: App, plan: Plan, error: BaseException) -> Call:
    if isinstance(call, Message):
        copy: Any = Message(
            call.body,
            payload=call._payload,
            source=call.source,
            name=call.name,
            queue=call.queue,
            headers=call.headers,
            content_type=call.content_type,
            attempt=call.attempt,
            message_id=call.message_id,
        )
    elif isinstance(call, Tick):
        copy = Tick(
            call.name, call.scheduled_at, call.fired_at, call.missed, attempt=call.attempt, headers=call.headers
        )
    else:
        request: RpcRequest = call
        copy = RpcRequest(request.name, request.args, request.kwargs, raw=request.raw, headers=request.headers)
    copy.app, copy.plan, copy.id = app, plan, call.id
    copy.__dict__["failure"] = error
    return copy


async def _nowhere(reply: Reply) -> None:
    """Nobody waits for the reply of a callback."""
