"""The reference plugin: a small, working implementation of every hook, for authors to read and for tests.

It brings *signals* (see `signals`) and a temperature type. Use it as `App(plugins=["microkit_testkit.reference"])`.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pluggy

from microkit import (
    App,
    BadRequest,
    Call,
    CallNext,
    Converter,
    InMemorySessionBackend,
    Kind,
    MiddlewareSpec,
    PluginInfo,
    Provider,
    Reply,
    Request,
)
from microkit.annotations import Parameter
from microkit.artifacts import ArtifactSpec
from microkit.binding import Binder
from microkit.codecs import CodecSpec, json_loads
from microkit.dispatch import handle_message
from microkit.endpoint import Binding, Endpoint
from microkit.executor import ExecutorSpec
from microkit.hookspecs import hookimpl
from microkit.http import FormData, QueryParams, TextResponse
from microkit.inspect import AppInfo, Section
from microkit.observe import Observer
from microkit.plan import Plan
from microkit.renderers import RendererSpec
from microkit.routing.matching import LinearRouter, RouterSpec
from microkit.session import SessionBackendSpec
from microkit.settings import SettingsSpec
from microkit.settlement import State
from microkit.testing import DriverSpec
from microkit.transport import TransportSpec
from microkit.triggers import TriggerSpec
from microkit.validation import Invalid, Shape, Source, ValidatorSpec

from .signals import Signal, SignalQueue, SignalServer, Stored, signal_message

if TYPE_CHECKING:
    from microkit.cli.program import CommandLine

    from .client import TestClient

_logger = logging.getLogger("microkit.reference")
microkit_plugin_info = PluginInfo("reference", kernel=">=0.4,<0.5", hook_api=1, automatic=("add_header",))
hookspec = pluggy.HookspecMarker("microkit")


@dataclass(frozen=True)
class ReferenceSettings:
    """Settings of the reference plugin.

    Attributes:
        header: value of the header `x-reference` of every HTTP reply.
        timeout: seconds that a handler of a signal may take.
    """

    header: str = "on"
    timeout: float = 5.0


@dataclass(frozen=True)
class Celsius:
    """A temperature in degrees Celsius: what this plugin validates and renders."""

    degrees: float


class SignalNames(tuple[str, ...]):
    """The names of all signals of the application, for a parameter of this type."""

    __slots__ = ()


class Counting(Observer):
    """Counts finished calls by kind."""

    def __init__(self) -> None:
        self.finished: dict[Kind, int] = {}

    def call_finished(self, call: Call, reply: Reply, duration: float) -> None:
        self.finished[call.kind] = self.finished.get(call.kind, 0) + 1


# -- registration ------------------------------------------------------------------------------------------------------


class Hooks:
    """Hooks of this plugin's own."""

    @hookspec
    def microkit_reference_greetings(self) -> str | None:
        """Another plugin's greeting, logged at start-up."""


@hookimpl
def microkit_addhooks(pluginmanager: Any) -> None:
    pluginmanager.add_hookspecs(Hooks)


@hookimpl
def microkit_settings() -> SettingsSpec:
    return SettingsSpec("reference", ReferenceSettings)


@hookimpl
def microkit_configure(app: App) -> None:
    app.converters.register(Converter("shout", str, _shout, str.upper))


def _shout(text: str) -> str:
    """`{name:shout}` matches a segment in capitals."""
    if not text.isupper():
        raise ValueError(text)
    return text.lower()


# -- build -------------------------------------------------------------------------------------------------------------


@hookimpl
def microkit_routers() -> RouterSpec:
    return RouterSpec("reference", LinearRouter)


@hookimpl
def microkit_collect(obj: object, app: App) -> Iterable[Binding] | None:
    """An object with a dict `signals` answers each of these signals by the function beside it."""
    signals: Any = getattr(obj, "signals", None)
    if not isinstance(signals, dict):
        return None
    return [Binding(Endpoint(handler), Signal(name)) for name, handler in signals.items()]


@hookimpl
def microkit_providers(app: App) -> Provider:
    return Provider(SignalQueue, scope="app")


@hookimpl
def microkit_bind_parameter(parameter: Parameter, endpoint: Endpoint) -> Binder | None:
    return Binder(_signal_names, "names of signals") if parameter.annotation is SignalNames else None


def _signal_names(call: Call) -> SignalNames:
    return SignalNames(signal_names(call.app))


def signal_names(app: App) -> list[str]:
    """The names of all signals of an application, sorted."""
    triggers = (plan.binding.trigger for plan in app.table.plans)
    return sorted(trigger.name for trigger in triggers if isinstance(trigger, Signal))


@hookimpl
def microkit_validators() -> ValidatorSpec:
    return ValidatorSpec("reference", lambda tp: Shape.SCALAR if tp is Celsius else None, _to_celsius)


def _to_celsius(tp: Any, source: Source) -> Callable[[Any], Celsius]:
    def convert(raw: Any) -> Celsius:
        value = json_loads(raw) if source is Source.JSON else raw
        if isinstance(value, Celsius):
            return value
        try:
            degrees = float(value)
        except (TypeError, ValueError):
            raise Invalid(((), "is no temperature", "celsius")) from None
        if not -273.15 <= degrees < float("inf"):
            raise Invalid(((), "is below absolute zero or no number", "celsius"))
        return Celsius(degrees)

    return convert


@hookimpl
def microkit_middleware(app: App) -> MiddlewareSpec:
    value = app.all_settings["reference"].header

    async def add_header(call: Call, call_next: CallNext) -> Reply:
        reply = await call_next(call)
        reply.headers["x-reference"] = value
        return reply

    return MiddlewareSpec(add_header, kinds=Kind.HTTP, automatic=True)


@hookimpl
def microkit_session_backends() -> SessionBackendSpec:
    return SessionBackendSpec("reference", lambda url: InMemorySessionBackend(max_sessions=100))


@hookimpl
def microkit_transports() -> TransportSpec:
    return TransportSpec("signals", Kind.MESSAGE, server=SignalServer, in_process=True, automatic=True)


@hookimpl
def microkit_triggers() -> TriggerSpec:
    return TriggerSpec(Signal, ingress="signals")


@hookimpl
def microkit_executors() -> ExecutorSpec:
    return ExecutorSpec("reference", _in_thread)


def _in_thread(func: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(func)
    async def call(*args: Any) -> Any:
        return await anyio.to_thread.run_sync(func, *args)

    return call


@hookimpl
def microkit_codecs() -> Iterable[CodecSpec]:
    lines = "text/x-lines", lambda value: "\n".join(value).encode(), lambda data: data.decode().split("\n")
    return [CodecSpec(*lines), CodecSpec("text/x-form", *lines[1:], read=_read_form)]


@dataclass
class SentFile:
    """The file of a form."""

    filename: str
    content_type: str
    content: AsyncIterator[bytes]


async def _read_form(request: Request) -> FormData:
    """A form of lines `name=value`. A line `name@filename` begins a file: all that follows, read while it arrives."""
    fields: list[tuple[str, str]] = []
    pieces, text = request.stream(), b""
    async for piece in pieces:
        *complete, text = (text + piece).split(b"\n")
        for number, line in enumerate(complete):
            if b"=" not in line and b"@" in line:
                name, filename = line.decode().split("@", 1)
                begun = b"\n".join([*complete[number + 1 :], text])
                file = SentFile(filename.rpartition("/")[2], "application/octet-stream", _rest(begun, pieces))
                return FormData(QueryParams(fields), {name: [file]})
            fields.append(_field(line))
    return FormData(QueryParams(fields if not text else [*fields, _field(text)]))


def _field(line: bytes) -> tuple[str, str]:
    try:
        name, value = line.decode().split("=", 1)
    except ValueError:
        raise BadRequest("The body is not valid text/x-form.") from None
    return name, value


async def _rest(begun: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield begun
    async for piece in pieces:
        yield piece


@hookimpl
def microkit_renderers() -> RendererSpec:
    return RendererSpec(Celsius, lambda value: TextResponse(f"{value.degrees:g} °C"))


@hookimpl
def microkit_observers(app: App) -> Observer:
    return Counting()


@hookimpl
def microkit_modify_plan(plan: Plan) -> None:
    """A handler of a signal has a deadline, unless it or the application declares one."""
    if isinstance(plan.binding.trigger, Signal) and plan.timeout is None:
        plan.timeout = plan.app.all_settings["reference"].timeout


@hookimpl
@asynccontextmanager
async def microkit_lifespan(app: App) -> AsyncGenerator[None]:
    greetings = app.plugins.hook.microkit_reference_greetings()
    _logger.info("signals: %s; greetings: %s", signal_names(app), greetings)
    yield
    _logger.info("signals: closed")


# -- tooling -----------------------------------------------------------------------------------------------------------


@hookimpl
def microkit_artifacts() -> ArtifactSpec:
    return ArtifactSpec("signals", "the names of all signals, one a line", _write_signals)


def _write_signals(app: App, folder: Path) -> Iterator[Path]:
    path = folder / "signals.txt"
    path.write_text("".join(f"{name}\n" for name in signal_names(app)))
    yield path


@hookimpl
def microkit_commands(cli: CommandLine) -> None:
    cli.add_command("temperature", _check_temperature, help="check a temperature", configure=_add_degrees)


def _add_degrees(parser: ArgumentParser) -> None:
    parser.add_argument("degrees")


def _check_temperature(arguments: Namespace) -> int:
    try:
        _to_celsius(Celsius, Source.TEXT)(arguments.degrees)
    except Invalid:
        return 1
    return 0


@hookimpl
def microkit_inspect(info: AppInfo) -> list[Section]:
    rows = [{"signal": each.address} for each in info.bindings if each.address.startswith("signal ")]
    return [Section("Signals", tuple(rows))] if rows else []


@hookimpl
def microkit_test_drivers() -> DriverSpec:
    return DriverSpec("signals", SignalDriver)


class SignalDriver:
    """`client.signals`: puts signals into the application's queue and handles what waits there.

    Args:
        client: the test client.
    """

    def __init__(self, client: TestClient) -> None:
        self._app = client.app

    async def emit(self, name: str, body: bytes) -> list[State]:
        """Put a signal into the queue and handle all that waits, one delivery each. Returns how each was settled."""
        queue: SignalQueue = await self._app.container.get(SignalQueue)
        queue.put(Stored(name, body))
        states: list[State] = []
        for delivery in iter(queue.take, None):
            message = signal_message(self._app, delivery)
            await handle_message(message)
            assert message.settlement is not None
            states.append(message.settlement.state)
        return states
