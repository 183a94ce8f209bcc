"""The kernel's own plugin: what it contributes goes through the same hooks as everybody's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import annotations, codecs, executor, renderers, session
from .annotations import Parameter
from .background import BackgroundTasks
from .binding import Binder
from .call import Call, Kind, RpcRequest, Tick
from .endpoint import Binding, Endpoint
from .hookspecs import hookimpl
from .http import HTTPConnection, Request
from .http.forms import FORM_CODEC
from .messages import Batch, Message
from .routing.controllers import marked_bindings
from .routing.matching import LINEAR, RouterSpec
from .schedule import TIMERS, Scheduler
from .settings import KernelSettings, SettingsSpec
from .transport import TransportSpec
from .triggers import Event, Every, Procedure, Route, SocketRoute, TriggerSpec
from .validation import KERNEL_VALIDATOR, ValidatorSpec
from .websocket import WebSocket

if TYPE_CHECKING:
    from .app import App

_HTTP = Kind.HTTP | Kind.SOCKET


def _the_call(call: Any) -> Any:
    return call


_TYPES: dict[Any, Binder] = {
    Call: Binder(_the_call, "call"),
    Request: Binder(_the_call, "request", kinds=Kind.HTTP),
    HTTPConnection: Binder(_the_call, "connection", kinds=_HTTP),
    WebSocket: Binder(_the_call, "websocket", kinds=Kind.SOCKET),
    RpcRequest: Binder(_the_call, "rpc request", kinds=Kind.RPC),
    Message: Binder(_the_call, "message", kinds=Kind.MESSAGE),
    Batch: Binder(_the_call, "batch", kinds=Kind.BATCH),
    Tick: Binder(_the_call, "tick", kinds=Kind.TICK),
    BackgroundTasks: Binder(lambda call: call.background, "background tasks"),
    Scheduler: Binder(lambda call: call.app.scheduler, "scheduler"),
}
# What a bare name means; with another annotation the name is free.
_NAMES: dict[str, Binder] = {
    "call": _TYPES[Call],
    "request": Binder(_the_call, "request", kinds=_HTTP | Kind.RPC),
    "ws": _TYPES[WebSocket],
    "websocket": _TYPES[WebSocket],
    "message": _TYPES[Message],
    "batch": _TYPES[Batch],
    "tick": _TYPES[Tick],
    "background_tasks": _TYPES[BackgroundTasks],
}


class KernelPlugin:
    """Routers, executors, codecs, renderers, triggers and parameters of the kernel."""

    @hookimpl
    def microkit_settings(self) -> SettingsSpec:
        return SettingsSpec("app", KernelSettings)

    @hookimpl
    def microkit_configure(self, app: App) -> None:
        if app.settings.inspect_path is not None:
            from .cli.page import page_binding

            app.items.append(page_binding(app.settings.inspect_path))

    @hookimpl
    def microkit_routers(self) -> Iterable[RouterSpec]:
        return [LINEAR]

    @hookimpl
    def microkit_collect(self, obj: Any, app: App) -> Iterable[Binding] | None:
        return marked_bindings(obj)

    @hookimpl
    def microkit_bind_parameter(self, parameter: Parameter, endpoint: Endpoint) -> Binder | None:
        if parameter.annotation is annotations.Empty:
            return _NAMES.get(parameter.name)
        try:
            return _TYPES.get(parameter.annotation)
        except TypeError:  # an unhashable annotation is nobody's special type
            return None

    @hookimpl
    def microkit_validators(self) -> Iterable[ValidatorSpec]:
        return [KERNEL_VALIDATOR]

    @hookimpl
    def microkit_session_backends(self) -> Iterable[session.SessionBackendSpec]:
        return [session.MEMORY]

    @hookimpl
    def microkit_transports(self) -> Iterable[TransportSpec]:
        return [TIMERS]

    @hookimpl
    def microkit_triggers(self) -> Iterable[TriggerSpec]:
        return [
            TriggerSpec(Route, ingress="http"),
            TriggerSpec(SocketRoute, ingress="http"),
            TriggerSpec(Procedure, ingress="rpc"),
            TriggerSpec(Event, ingress="consumers"),
            TriggerSpec(Every, ingress="timers"),
        ]

    @hookimpl
    def microkit_executors(self) -> Iterable[executor.ExecutorSpec]:
        return [executor.THREAD, executor.INLINE]

    @hookimpl
    def microkit_codecs(self) -> Iterable[codecs.CodecSpec]:
        return [codecs.JSON_CODEC, codecs.TEXT_CODEC, codecs.BYTES_CODEC, FORM_CODEC]

    @hookimpl
    def microkit_renderers(self) -> Iterable[renderers.RendererSpec]:
        return renderers.BUILT_IN
