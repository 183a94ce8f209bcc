"""What runs, and how it is reached: `Endpoint` and `Binding`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import annotations
from .annotations import Locals, Parameter

if TYPE_CHECKING:
    from .routing.groups import Router
    from .triggers import Trigger

__all__ = ["Binding", "Endpoint", "Parameter", "caller_locals"]


@dataclass(eq=False)
class Endpoint:
    """A handler and its parameters.

    Attributes:
        handler: the function, bound method or callable object to run.
        name: for people: `module.qualname`.
        owner: for a method of an injected class: that class; an instance is made or injected per call.
        localns: names of the declaring frame, for postponed annotations.
        meta: free facts for plugins (tags, documentation, ...).
    """

    handler: Callable[..., Any]
    name: str = ""
    owner: Any = None
    localns: Mapping[str, Any] | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.name or annotations.describe(self.handler)

    @property
    def parameters(self) -> list[Parameter]:
        """The handler's parameters; resolved anew at each access, since later definitions may complete them."""
        found = annotations.parameters(self.handler, self.localns)
        return found[1:] if self.owner is not None else found

    @property
    def returns(self) -> Any:
        """The handler's return annotation, or `inspect.Parameter.empty`."""
        return annotations.return_annotation(self.handler, self.localns)

    @property
    def is_async(self) -> bool:
        """Whether the handler runs on the event loop."""
        return annotations.is_async(self.handler) or annotations.is_async_generator(self.handler)

    @property
    def location(self) -> str:
        """`file:line` of the handler."""
        return annotations.location(self.handler)

    def __str__(self) -> str:
        return f"{self.name} ({self.location})"


@dataclass(eq=False)
class Binding:
    """One way to reach an endpoint.

    Attributes:
        endpoint: what runs.
        trigger: what starts it (`Route`, `Event`, `Every`, ...).
        options: the options of `app.on(trigger, **options)`.
        group: the group it was registered in.
        plugin: who contributed it; empty for the application's own.
    """

    endpoint: Endpoint
    trigger: Trigger
    options: dict[str, Any] = field(default_factory=dict)
    group: Router | None = None
    plugin: str = ""

    @property
    def name(self) -> str:
        """The name for `url_for`, `tick` and commands: option `name`, else the handler's own name."""
        handler = annotations.unwrap(self.endpoint.handler)
        return self.options.get("name") or getattr(handler, "__name__", self.endpoint.name)

    def __str__(self) -> str:
        return f"{self.trigger} -> {self.endpoint}"


def caller_locals(depth: int = 2) -> Locals | None:
    """A copy of the local names of the function that declares something, or None at module level."""
    frame: Any = sys._getframe(depth)  # the way that dataclasses and typing find the declaring namespace
    while "__qualname__" in frame.f_locals and "__module__" in frame.f_locals:  # the body of a class
        frame = frame.f_back
    if frame.f_locals is frame.f_globals:
        return None
    return Locals(frame.f_locals, f"{frame.f_code.co_qualname}.<locals>.")
