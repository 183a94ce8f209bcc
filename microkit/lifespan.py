"""Start-up and shutdown: one root task that owns the application's scope and everything that lives as long as it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from . import _bridge
from ._deadline import current_scope, protected, scope_reader
from .annotations import describe
from .di import Scope
from .errors import ConfigurationError, MicrokitError, StartupError
from .graph import call_maybe_async
from .mounting import mounted_lifespan
from .scopes import ScopeOwner

if TYPE_CHECKING:
    from .app import App

_logger = logging.getLogger("microkit.lifespan")
_Undo = Callable[[], Awaitable[Any]]


class Runtime:
    """What exists while an application runs.

    Start-up is: settings, configure, build, app-scope services, `on_startup`, plugin lifespans, the app's lifespan.
    Shutdown is the exact reverse, and what was started is torn down also when a later step fails.

    Args:
        app: the application.

    Attributes:
        background: cancel scopes of background work that is running.
        put_off: cancel scopes of work that waits for its time.
        draining: shutdown has begun, so no work is put off any more.
        state: what the app's lifespan yielded, as a mapping.
        tasks: a task group for work that lives as long as the application.
        ready: start-up is over and shutdown has not begun; a host keeps it false also while an ingress is not open.
        processes: how many processes serve the application, as far as the host knows.
        process: number of this one among them, from 0.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.background: set[anyio.CancelScope] = set()
        self.put_off: set[anyio.CancelScope] = set()
        self.draining = False
        self.state: dict[str, Any] = {}
        self.tasks: Any = None
        self.new_scope: type[anyio.CancelScope] = anyio.CancelScope
        self.innermost_scope: Callable[[], object] = current_scope
        self.running = False
        self.ready = False
        self.processes, self.process = 1, 0
        self._grace: float | None = None
        self._starting: anyio.Event | None = None
        self._stopped: anyio.Event | None = None
        self._error: BaseException | None = None

    # -- from outside --------------------------------------------------------------------------------------------------

    async def ensure_started(self) -> None:
        """Start if nothing has; for ingresses without a lifespan and for direct calls."""
        if not self.running:
            await self.start_detached()

    async def start_detached(self, state: dict[str, Any] | None = None) -> None:
        """Start the root task; return when start-up is complete. A second start is a no-op.

        Args:
            state: the server's lifespan state; gets what the app's lifespan yielded.

        Raises:
            MicrokitError: start-up failed; everything was torn down again.
        """
        if self.app.owner.is_current():
            return None  # a step of start-up or shutdown makes a call
        starting = self._starting
        if starting is None:
            starting = self._starting = anyio.Event()
            self._stopped = anyio.Event()
            self._error = None
            _bridge.spawn_detached(self._root, "microkit root")
            try:
                await starting.wait()
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._stop_root()
                raise
        else:
            await starting.wait()
        if self._starting not in (None, starting):  # it failed, and somebody who heard of it earlier has begun anew
            return await self.start_detached(state)
        if not self.running:
            raise self._error or StartupError("The application is shutting down.")
        if state is not None:
            state.update(self.state)
        return None

    async def ended(self) -> None:
        """Return when the application has stopped, for whatever reason.

        Raises:
            Exception: a failure ended it.
        """
        if self._stopped is not None:
            await self._stopped.wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    async def stop(self, grace: float | None = None) -> None:
        """Drain background work, shut down in reverse order of start-up. A stop without a start is a no-op.

        Args:
            grace: seconds for the background work; None: the setting `shutdown_timeout`.

        Raises:
            Exception: the first failure of a shutdown step; the others ran all the same.
        """
        if self._starting is None:
            return
        self._grace = grace
        started = self._starting.is_set()
        await self._stop_root()
        if started:
            await self.ended()

    async def _stop_root(self) -> None:
        self.ready = False
        if self._starting is not None and not self._starting.is_set():
            # In the middle of start-up, where a step may hang.
            self._error = StartupError("Start-up was cut short: the application was told to stop.")
            if self.tasks is not None:
                self.tasks.cancel_scope.cancel()
        self.app.owner.stop()
        if self._stopped is not None:
            await self._stopped.wait()

    # -- the root task -------------------------------------------------------------------------------------------------

    async def _root(self) -> None:
        undo: list[tuple[str, _Undo]] = []
        starting, stopped = self._starting, self._stopped
        assert starting is not None
        assert stopped is not None
        try:
            async with anyio.create_task_group() as tasks:
                self.tasks = tasks
                if self._error is not None:  # stopped before this task ran for the first time
                    tasks.cancel_scope.cancel()
                # Entered before everything that shutdown leaves, so that it can shield that.
                with anyio.CancelScope() as self._shield:
                    self.new_scope = type(self._shield)  # the backend's own: anyio's face looks it up at each call
                    self.innermost_scope = scope_reader()
                    try:
                        await self._start(undo)
                        self.running = self.ready = True
                        starting.set()
                        await self.app.owner.serve()
                        await self._drain()
                    except Exception as exc:
                        self._error = exc
                    finally:
                        self.running = self.ready = False
                        await self._undo(undo)
                tasks.cancel_scope.cancel()
        except Exception as exc:
            self._error = self._error or exc
        finally:
            self._starting = self.tasks = None
            self.app.reset()
            stopped.set()
            starting.set()

    async def _start(self, undo: list[tuple[str, _Undo]]) -> None:
        app = self.app
        self.state, self.draining = {}, False
        app.owner = ScopeOwner(Scope.APP)
        app.owner.adopt()

        async def close_services() -> None:
            failure = await app.owner.close(app.settings.teardown_timeout, self._shield)
            if failure is not None:
                raise failure

        undo.append(("app-scope services", close_services))
        app.build()
        for node in app.app_nodes():
            try:
                await app.owner.get(node)
            except Exception as exc:
                raise _failed(f"the service {node.label}", exc) from exc
        app.freeze()
        undo += [(f"shutdown hook {describe(hook)}", _bind(hook)) for hook in app.shutdown_handlers]
        for hook in app.startup_handlers:
            try:
                await call_maybe_async(hook)
            except Exception as exc:
                raise _failed(f"the start-up hook {describe(hook)}", exc) from exc
        for contribution in app.hooks.lifespan(app):
            what = f"the lifespan of plugin {contribution.plugin}"
            await _enter(contribution.value, what, undo)
        for mounted in app.mounts():
            await _enter(mounted_lifespan(app, mounted), f"the application mounted at {mounted.path}", undo)
        if app.lifespan is not None:
            state = await _enter(as_context(app.lifespan, app), "the application's lifespan", undo)
            self.state |= state if isinstance(state, dict) else {}  # beside what mounted applications put there

    async def _drain(self) -> None:
        """Call off what waits for its time, give background work that runs some, then cancel it."""
        settings = self.app.settings
        self.draining = True
        for scope in self.put_off:
            scope.cancel()
        with anyio.move_on_after(settings.shutdown_timeout if self._grace is None else self._grace):
            while self.background:  # noqa: ASYNC110  # an event per task would cost each of them
                await anyio.sleep(0.01)
        for scope in list(self.background):
            _logger.warning("background work was cancelled at shutdown: it was not done in time")
            scope.cancel()
        with anyio.move_on_after(settings.teardown_timeout):  # a thread does not hear of the cancellation
            while self.background:  # noqa: ASYNC110  # an event per task would cost each of them
                await anyio.sleep(0.01)

    async def _undo(self, undo: list[tuple[str, _Undo]]) -> None:
        grace = self.app.settings.shutdown_timeout
        while undo:
            what, step = undo.pop()
            try:
                await protected(self._shield, grace, _await(step))
            except Exception as exc:
                if self._error is None:  # whoever stops the application gets it, and says it once
                    exc.add_note(f"while shutting down {what}")
                    self._error = exc
                else:
                    _logger.error("shutting down %s failed", what, exc_info=exc)


async def _await(step: _Undo) -> None:
    await step()


def _bind(hook: Callable[[], Any]) -> _Undo:
    async def run() -> None:
        await call_maybe_async(hook)

    return run


async def _enter(manager: AbstractAsyncContextManager[Any], what: str, undo: list[tuple[str, _Undo]]) -> Any:
    try:
        value = await manager.__aenter__()
    except Exception as exc:
        raise _failed(what, exc) from exc

    async def leave() -> None:
        await manager.__aexit__(None, None, None)

    undo.append((what, leave))
    return value


def _failed(what: str, exc: BaseException) -> MicrokitError:
    if isinstance(exc, MicrokitError):
        return exc
    from .cli.loading import describe_failure

    return StartupError(f"Start-up failed in {what}. {describe_failure(exc)}. What had been started was stopped again.")


def as_context(lifespan: Any, app: App) -> AbstractAsyncContextManager[Any]:
    """A lifespan as a context manager: an async generator function or an `@asynccontextmanager`, taking the app or
    nothing.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(lifespan, AbstractAsyncContextManager):
        return lifespan
    takes_app = any(
        each.default is inspect.Parameter.empty and each.kind is not inspect.Parameter.VAR_KEYWORD
        for each in inspect.signature(lifespan).parameters.values()
    )
    made = lifespan(app) if takes_app else lifespan()
    if isinstance(made, AsyncGenerator) and not isinstance(made, AbstractAsyncContextManager):
        return asynccontextmanager(lambda: made)()
    if not isinstance(made, AbstractAsyncContextManager):
        raise ConfigurationError(
            f"The lifespan {describe(lifespan)} must be an async generator function or an @asynccontextmanager."
        )
    return made
