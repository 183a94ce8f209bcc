"""The triggers of handlers: how they are addressed, and where their parameters come from."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from microkit import Kind, Reply, StreamingResponse, Trigger
from microkit.annotations import Parameter
from microkit.binding import Arguments, Binder, SourceContext
from microkit.http.response import HTML as HTML_TYPE
from microkit.renderers import RendererSpec, plain_reply

from .settings import AutoSettings
from .sources import others_of, positional, sources_of

ROUTER = "auto"


def _html(value: str) -> Reply:
    return plain_reply(value.encode(), HTML_TYPE)


def _html_stream(value: Any) -> Reply:
    return StreamingResponse(value, media_type="text/html; charset=utf-8")


HTML = (
    RendererSpec(str, _html),
    RendererSpec(types.GeneratorType, _html_stream),
    RendererSpec(types.AsyncGeneratorType, _html_stream),
)
"""Text of a handler is HTML, as a whole and in pieces."""


@dataclass(eq=False)
class Handler:
    """What is known of one handler.

    Attributes:
        name: as in paths: that of the method, without `ws_`.
        attribute: name of the method.
        settings: the plugin's.
        socket: name of the parameter that takes the socket; empty for HTTP.
        positions: how many path segments its parameters take; known once they are resolved, infinite for `*args`.
        plans: its plans by method.
        bare: those plans without any middleware, for a call that went through it before.
    """

    name: str
    attribute: str
    settings: AutoSettings
    socket: str = ""
    positions: float = 0
    plans: dict[str, Any] = field(default_factory=dict)
    bare: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Mapped(Trigger):
    """Base of the triggers of this package.

    Attributes:
        handler: what it starts.
    """

    router = ROUTER
    renderers = HTML
    frees_names = True

    handler: Handler = field(repr=False)

    def sources(self, parameters: Sequence[Parameter], context: SourceContext) -> dict[str, Binder]:
        return sources_of(parameters, context, self.handler.settings, self.handler.socket, body=self.has_body)

    def others(self, arguments: Arguments, context: SourceContext) -> Binder | None:
        taken = len(positional(arguments.parameters, context, self.handler.socket))
        self.handler.positions = float("inf") if arguments.args else taken
        return others_of(arguments, taken + context.path_values, body=self.has_body)

    @property
    def has_body(self) -> bool:
        """Whether its calls have a body that parameters are filled from."""
        return False


@dataclass(frozen=True)
class AutoRoute(_Mapped):
    """A handler's HTTP route.

    Args:
        path: of the handler's name; what follows it in a URL are its arguments.
        methods: HTTP methods.
        body: whether they have bodies.
    """

    kind = Kind.HTTP
    path: str
    methods: tuple[str, ...]
    body: bool

    def __str__(self) -> str:
        return f"{'|'.join(self.methods)} {self.path}"

    @property
    def has_body(self) -> bool:
        return self.body


@dataclass(frozen=True)
class AutoSocket(_Mapped):
    """A handler's WebSocket route.

    Args:
        path: of the handler's name; what follows it in a URL are its arguments.
    """

    kind = Kind.SOCKET
    path: str

    def __str__(self) -> str:
        return f"WEBSOCKET {self.path}"


@dataclass(frozen=True)
class PrivateRoute(_Mapped):
    """A private HTTP handler, without a path: `reroute` finds it by its name.

    Args:
        methods: HTTP methods.
        body: whether they have bodies.
    """

    kind = Kind.HTTP
    methods: tuple[str, ...]
    body: bool

    def __str__(self) -> str:
        return f"{'|'.join(self.methods)} re-routed to {self.handler.name}"

    @property
    def has_body(self) -> bool:
        return self.body


@dataclass(frozen=True)
class PrivateSocket(_Mapped):
    """A private WebSocket handler, without a path: `reroute` finds it by its name."""

    kind = Kind.SOCKET

    def __str__(self) -> str:
        return f"WEBSOCKET re-routed to {self.handler.name}"
