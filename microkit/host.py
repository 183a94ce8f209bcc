"""The host: one owner of signals, lifespan and ingresses.

Start-up follows the application's own order and opens the ingresses last; they are the first to go at shutdown, where
all of them stop accepting at once and drain side by side to one deadline.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from .annotations import describe
from .errors import ConfigurationError, StartupError, contributed, nearest
from .transport import Process, TransportServer, TransportSpec

if TYPE_CHECKING:
    from .app import App

_logger = logging.getLogger("microkit.host")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(eq=False)
class Worker:
    """The place of this process under a supervisor.

    Attributes:
        index: its number, from 0.
        count: how many there are.
        control: connection to the supervisor.
        sockets: listening sockets that the supervisor holds, by the key that they were asked for with.
    """

    index: int
    count: int
    control: socket.socket
    sockets: dict[str, list[socket.socket]] = field(default_factory=dict[str, list[socket.socket]])

    def report(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Tell the supervisor that this process serves, and hand it the sockets that it does not have yet."""
        new = {key: found for key, found in sockets.items() if key not in self.sockets}
        message = json.dumps({key: len(found) for key, found in new.items()}).encode()
        socket.send_fds(self.control, [message], [each.fileno() for found in new.values() for each in found])

    async def supervisor_gone(self) -> None:
        """Return when the supervisor has ended."""
        await anyio.wait_readable(self.control)  # it never writes, so this is the end of the stream


class Host:
    """Serves one application in this process.

    Args:
        app: the application.
        transports: ingresses beside, or instead of, those that the application's bindings ask for: names of transports,
            or `TransportServer` objects.
        only: names of ingresses or transports; no other one is opened. None: all.
        backend: the anyio backend that this runs on.
        options: what ingresses may read of the caller's wishes, such as `host` and `port`.
        worker: this process's place under a supervisor; None without one.
        owns_process: end the process if an ingress cannot be closed, because a thread does not end.
    """

    def __init__(
        self,
        app: App,
        transports: Sequence[str | TransportServer] = (),
        *,
        only: Iterable[str] | None = None,
        backend: str = "asyncio",
        options: Mapping[str, Any] | None = None,
        worker: Worker | None = None,
        owns_process: bool = False,
    ) -> None:
        self.app = app
        self._transports = transports
        self._only = None if only is None else list(only)
        self._backend = backend
        self._options = options or {}
        self._worker = worker
        self._owns_process = owns_process
        self._overdue = False
        self._stopping = anyio.Event()
        self._opening: anyio.CancelScope | None = None
        self.opened = anyio.Event()

    def stop(self) -> None:
        """Shut down, as the first signal does."""
        self.app.runtime.ready = False
        self._stopping.set()
        if self._opening is not None:
            self._opening.cancel()

    @contextmanager
    def _until_stopped(self) -> Generator[None]:
        """Cancel the block when this host is told to stop."""
        with anyio.CancelScope() as self._opening:
            if self._stopping.is_set():
                self._opening.cancel()
            yield
        self._opening = None

    async def serve(self) -> None:
        """Start the application, open its ingresses, and serve until a signal or `stop`; then drain and shut down.

        Raises:
            MicrokitError: something cannot be built or started; what was started is torn down.
            Exception: an ingress or a shutdown step failed.
        """
        servers = select(self.app, self._transports, self._only, self._backend)
        async with anyio.create_task_group() as watchers:
            if threading.current_thread() is threading.main_thread():
                await watchers.start(self._watch_signals)
            if self._worker is not None:
                watchers.start_soon(self._watch_supervisor, self._worker)
            try:
                await self._serve(servers)
            finally:
                watchers.cancel_scope.cancel()

    async def _serve(self, servers: list[TransportServer]) -> None:
        runtime, worker = self.app.runtime, self._worker
        if worker is not None:
            runtime.processes, runtime.process = worker.count, worker.index
        with self._until_stopped():
            await runtime.start_detached()
        if not runtime.running:
            return
        runtime.ready = False
        deadline = None
        try:
            async with anyio.create_task_group() as tasks:
                process = Process(tasks, self._backend, options=self._options)
                if worker is not None:
                    process.index, process.count, process.sockets = worker.index, worker.count, dict(worker.sockets)
                tasks.start_soon(self._watch_application)
                begun: list[TransportServer] = []
                try:
                    with self._until_stopped():
                        for server in servers:
                            begun.append(server)
                            await server.start(self.app, process)
                        self.opened.set()
                    if self.opened.is_set():
                        runtime.ready = True
                        if worker is not None:
                            worker.report(process.sockets)
                        await self._stopping.wait()
                        await anyio.sleep(self.app.settings.shutdown_delay)
                finally:
                    runtime.ready = False
                    self._stopping.set()
                    deadline = anyio.current_time() + self.app.settings.shutdown_timeout
                    with anyio.CancelScope(shield=True):
                        await self._close(begun, deadline)
                        if self._overdue and self._owns_process:
                            # A thread cannot be cancelled, so the tasks around it would never end.
                            await runtime.stop(0.0)
                            _logger.error("ending the process although some of its threads still run")
                            exit_now(0)
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await runtime.stop(None if deadline is None else max(0.0, deadline - anyio.current_time()))

    async def _close(self, servers: list[TransportServer], deadline: float) -> None:
        async with anyio.create_task_group() as group:
            for server in servers:
                group.start_soon(self._close_one, server, deadline)

    async def _close_one(self, server: TransportServer, deadline: float) -> None:
        grace = deadline - anyio.current_time()
        with anyio.move_on_after(grace + self.app.settings.teardown_timeout) as scope:
            try:
                await server.stop(max(0.0, grace))
            except Exception:
                _logger.exception("closing the ingress %s failed", server.name)
        if scope.cancelled_caught:
            self._overdue = True
            _logger.error("the ingress %s did not close in time; what it still runs is cut off", server.name)

    async def _watch_application(self) -> None:
        await self.app.runtime.ended()
        if not self._stopping.is_set():
            raise StartupError("The application ended while its ingresses were open.")

    async def _watch_signals(self, *, task_status: Any) -> None:
        with anyio.open_signal_receiver(*_SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                if self._worker is not None and (number == signal.SIGINT or self._stopping.is_set()):
                    # A terminal or a service manager signals all processes of a group, and the supervisor passes on
                    # what it gets; it also ends those that are to end at once.
                    continue
                if self._stopping.is_set():
                    end_by(number)
                _logger.info("%s: draining; a second signal ends the process at once", signal.Signals(number).name)
                self.stop()

    async def _watch_supervisor(self, worker: Worker) -> None:
        await worker.supervisor_gone()
        _logger.warning("the supervisor is gone; shutting down")
        self.stop()


def exit_now(code: int) -> None:
    """End this process without waiting for its threads."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def end_by(number: int) -> None:
    """End this process by a signal, at once and without any handler."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


# -- choosing ingresses ------------------------------------------------------------------------------------------------


def select(
    app: App, transports: Sequence[str | TransportServer], only: list[str] | None, backend: str
) -> list[TransportServer]:
    """Make the ingresses of an application: those asked for, an automatic one for every ingress that its bindings need
    and that has none yet, and those that want to be opened for it.

    Args:
        app, transports, only, backend: as for `Host`.

    Raises:
        ConfigurationError: a name is unknown, or there is nothing to serve.
        StartupError: a transport does not run on the backend.
    """
    plans = app.table.plans
    specs = {name: spec for name, spec in app.transports.items() if spec.server is not None}
    wanted = [spec for spec in specs.values() if spec.wanted is not None and spec.wanted(app)]
    used = list(dict.fromkeys(each.ingress for each in (*plans, *wanted) if each.ingress))
    if only is not None:
        known = {*specs, *used, *(spec.ingress for spec in specs.values()), *map(_name, transports)}
        for name in only:
            if name not in known:
                raise ConfigurationError(
                    f"There is no ingress {name!r} to serve only.{nearest(name, known)} There are: "
                    f"{', '.join(sorted(known))}."
                )
    chosen: list[tuple[str, str, TransportServer]] = []  # name, ingress, server
    missing: list[str] = []
    for each in transports:
        if isinstance(each, str):
            spec = contributed(specs, each, "transport")
            chosen.append((each, spec.ingress, _make(spec, specs, backend)))
        else:
            chosen.append((_name(each), getattr(each, "ingress", each.name), each))
    for ingress in used:
        if any(ingress == taken for _, taken, _ in chosen):
            continue
        candidates = [spec for spec in specs.values() if (spec.automatic or spec in wanted) and spec.ingress == ingress]
        if only is not None and ingress not in only and not any(spec.name in only for spec in candidates):
            continue
        if not candidates:
            missing.append(ingress)
            continue
        fitting = [spec for spec in candidates if backend in spec.backends] or candidates
        chosen.append((fitting[0].name, ingress, _make(fitting[0], specs, backend)))
    servers = [server for name, ingress, server in chosen if only is None or name in only or ingress in only]
    if not servers:
        raise ConfigurationError(
            f"The application {app.name!r} has nothing to serve: "
            + (
                f"its bindings need {', '.join(used)}, which "
                + ("--only leaves out. " if only is not None else "no active plugin opens. ")
                + "HTTP needs a plugin such as microkit-serve; `microkit plugins` lists the active ones."
                if used
                else "nothing that comes from outside is bound. Bind a handler, such as with @app.get(path)."
            )
        )
    for ingress in missing:
        if ingress != "rpc":  # procedures can also be called in process
            deaf = dict.fromkeys(plan.address for plan in plans if plan.ingress == ingress)
            _logger.warning(
                "no active plugin opens the ingress %r, so nothing from outside reaches %s; install one that does",
                ingress,
                ", ".join(deaf),
            )
    return servers


def _name(transport: Any) -> str:
    if isinstance(transport, str):
        return transport
    name = getattr(transport, "name", None)
    if not isinstance(name, str) or not hasattr(transport, "start"):
        raise ConfigurationError(
            f"{describe(transport)} is no transport: give the name of one, or an object with name, start and stop "
            f"(microkit.transport.TransportServer)."
        )
    return name


def _make(spec: TransportSpec, specs: Mapping[str, TransportSpec], backend: str) -> TransportServer:
    if backend not in spec.backends:
        others = [each.name for each in specs.values() if each.ingress == spec.ingress and backend in each.backends]
        remedy = f"use {' or '.join(others)} instead, or " if others else ""
        raise StartupError(
            f"The transport {spec.name!r} runs on {' and '.join(spec.backends)} only, not on {backend}: {remedy}run on "
            f"--backend {spec.backends[0]}."
        )
    assert spec.server is not None
    return spec.server()
