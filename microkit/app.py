"""The application."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from . import dispatch
from .annotations import location
from .asgi import asgi
from .build import Builder
from .builtin import KernelPlugin
from .call import Call, Kind, Reply, RpcRequest
from .catalog import Catalog
from .codecs import CodecSpec
from .connection import Connection
from .container import Container
from .di import Provider, Registry, Scope
from .errors import PluginError, contributed
from .executor import ExecutorSpec
from .graph import Node
from .hooks import values_of
from .lifespan import Runtime
from .middleware import MiddlewareList, MiddlewareSpec
from .observe import Observer
from .plugins import PluginManager
from .renderers import Renderers, RendererSpec
from .resolve import Resolver
from .routing.groups import Included, Mounted, Router
from .routing.matching import RouterSpec
from .routing.pattern import Converters
from .routing.table import Table
from .schedule import Clock, Scheduler, SystemClock
from .scopes import ScopeOwner
from .selection import Selection
from .session import SessionBackend, SessionBackendSpec
from .settings import KernelSettings, find_project_table, load_settings
from .transport import TransportSpec
from .triggers import TriggerSpec, merged
from .validation import Validators, ValidatorSpec

if TYPE_CHECKING:
    from .hooks import Hooks

F = TypeVar("F", bound=Callable[..., Any])


class App(Router):
    """An application: an ASGI 3 callable that also runs procedures, messages and timers.

    Args:
        plugins: plugins used beside the discovered ones: modules, objects or import paths.
        discover: look for installed plugins; False uses exactly `plugins` and scans nothing.
        settings: by plugin name (the kernel's is `app`), a mapping or a finished settings object.
        service_providers: groups of services.
        services: objects to include.
        middlewares: middleware, outermost first.
        on_startup, on_shutdown: sync or async hooks; shutdown hooks run in reverse.
        lifespan: async generator function or `@asynccontextmanager`, taking the app or nothing; a dict that it
            yields is the lifespan state.
        router: name of the router; None: the one that a plugin offers for every app, else the kernel's linear one.
        validator: claims types before all contributed validators.
        session_backend: store of sessions, for the plugin that manages them: an object, or a URL such as `memory://`.
        timeout: seconds for every handler without a `timeout` of its own; None is none. It bounds the handler, not its
            dependencies; not generators; a sync handler in a thread is waited for, since a thread cannot be stopped.
        name: for logs, queues and listings.
        version: version of the application's interface.
        clock: where schedules take the time from.
    """

    def __init__(
        self,
        *,
        plugins: Sequence[Any] = (),
        discover: bool = True,
        settings: Mapping[str, Any] | None = None,
        service_providers: Iterable[Any] = (),
        services: Iterable[Any] = (),
        middlewares: Sequence[Any] = (),
        on_startup: Sequence[Callable[[], Any]] = (),
        on_shutdown: Sequence[Callable[[], Any]] = (),
        lifespan: Any = None,
        router: str | None = None,
        validator: ValidatorSpec | None = None,
        session_backend: SessionBackend | str | None = None,
        timeout: float | None = None,
        name: str = "app",
        version: int = 1,
        clock: Clock | None = None,
    ) -> None:
        super().__init__("", middleware=middlewares)
        self.name = name
        self.version = version
        self.timeout = timeout
        self.session_backend = session_backend
        self.startup_handlers: list[Callable[[], Any]] = list(on_startup)
        self.shutdown_handlers: list[Callable[[], Any]] = list(on_shutdown)
        self.lifespan = lifespan
        self.registry = Registry()
        self.converters = Converters()
        self.clock: Clock = clock or SystemClock()
        self.scheduler = Scheduler(self)
        self.runtime = Runtime(self)
        self.owner = ScopeOwner(Scope.APP)
        self.container = Container(self)
        self.middlewares = MiddlewareList(self.add_middleware)
        self.ws_middlewares = MiddlewareList(self.add_middleware)
        self.dependency_overrides = _Overrides(self._rebuild)
        self.settings = KernelSettings()
        self.configuration: Mapping[str, Any] = {}
        self.plugin_flags: Sequence[str] = ()
        self.tolerant = False
        self.origin = ""  # where it was loaded from, as `module:attribute`, for processes that load it again
        self._given = (tuple(plugins), discover, settings or {}, router, validator)
        self._manager: PluginManager | None = None
        self._built_from: list[tuple[int, int]] = []
        self.compiled: Any = None  # the Table; `table` builds it on first use
        self._kept: Mapping[Any, Node] = {}
        for source in service_providers:
            self.registry.add_services(source)
        for each in services:
            self.include(each)

    # -- plugins and settings ------------------------------------------------------------------------------------------

    @property
    def plugins(self) -> PluginManager:
        """The plugins; loaded on first use.

        Raises:
            PluginError: one of them cannot be used.
        """
        if self._manager is None:
            plugins, discover, *_ = self._given
            if discover and not self.configuration:
                from pathlib import Path

                # Whoever hosts it: an ASGI server's own command line knows nothing of our configuration file.
                self.configuration = find_project_table(Path.cwd())
            manager = PluginManager(tolerant=self.tolerant)
            manager.register(KernelPlugin(), "kernel", origin="kernel")
            environ = os.environ if discover else {}
            manager.load(
                Selection.from_environment(
                    environ, self.configuration, self.plugin_flags, explicit=plugins, discover=discover
                )
            )
            self._manager = manager
            self._load()
        return self._manager

    @property
    def hooks(self) -> Hooks:
        """Typed calls of all hooks."""
        return self.plugins.hooks

    def _load(self) -> None:
        hooks = self.hooks
        _, discover, code, router, validator = self._given
        specs = hooks.settings()
        for spec in specs:
            if spec.plugin != spec.value.plugin and spec.plugin != "kernel":
                raise PluginError(
                    f"The plugin {spec.plugin!r} declares settings named {spec.value.plugin!r}. A plugin's settings "
                    f"carry its own name."
                )
        environ = os.environ if discover else {}
        self.all_settings = load_settings((each.value for each in specs), code, environ, self.configuration)
        self.settings = self.all_settings["app"]
        logging.getLogger("microkit").setLevel(self.settings.log_level.upper())
        hooks.configure(self)
        self.renderers = Renderers(values_of(hooks.renderers(), RendererSpec))
        claiming = values_of([each for each in hooks.validators() if each.plugin != "kernel"], ValidatorSpec)
        self.validators = Validators(([validator] if validator is not None else []) + claiming)
        self.codecs = {each.media_type: each for each in values_of(hooks.codecs(), CodecSpec)}
        self.session_backends = {each.scheme: each for each in values_of(hooks.session_backends(), SessionBackendSpec)}
        if isinstance(self.session_backend, str):
            self.session_backend = self._session_backend(self.session_backend)
        self.executors = {each.name: each for each in values_of(hooks.executors(), ExecutorSpec)}
        self.trigger_specs = merged(values_of(hooks.triggers(), TriggerSpec))
        self.transports = {each.name: each for each in values_of(hooks.transports(), TransportSpec)}
        self.router_specs = {each.name: each for each in values_of(hooks.routers(), RouterSpec)}
        automatic = [spec for spec in self.router_specs.values() if spec.automatic]
        self.router_spec = self.router_named(router) if router else (automatic or [self.router_specs["linear"]])[0]
        self.observers: tuple[Observer, ...] = tuple(values_of(hooks.observers(self), Observer))
        middleware, providers = hooks.middleware(self), hooks.providers(self)
        for contribution in (*middleware, *providers):
            kind = MiddlewareSpec if contribution in middleware else Provider
            values_of([contribution], kind)[0].plugin = contribution.plugin
        # One that is not automatic takes part where the application adds it itself.
        self.contributed_middleware = [each.value for each in middleware if each.value.automatic]
        for contribution in providers:
            if contribution.value.key not in self.registry:  # the application's own services come first
                self.registry.add(contribution.value)

    def _session_backend(self, url: str) -> SessionBackend:
        return contributed(self.session_backends, url.partition(":")[0], "session store").factory(url)

    def router_named(self, name: str) -> RouterSpec:
        """A router by name.

        Raises:
            ConfigurationError: no plugin brings it.
        """
        return contributed(self.router_specs, name, "router")

    # -- building ------------------------------------------------------------------------------------------------------

    @property
    def table(self) -> Table:
        """The compiled bindings; built on first use.

        Raises:
            ConfigurationError: something cannot be built.
        """
        if self.compiled is None or (not self.runtime.running and self._built_from != self._declared()):
            self.compiled = None
            self.build()
        return self.compiled

    def build(self) -> Table:
        """Load plugins and compile all bindings. Needs no event loop.

        Raises:
            ConfigurationError: something cannot be resolved, told apart or bound.
        """
        manager = self.plugins
        if self.compiled is None:
            self.catalog = Catalog(
                self,
                self.registry,
                self.validators,
                manager.hooks.bind_parameter,
                dict(self.dependency_overrides),
                self._kept,
            )
            self.resolver = Resolver(self.catalog, Kind.all())
            self._built_from = self._declared()
            self.compiled = Builder(self, self.catalog).build()
        return self.compiled

    def _declared(self) -> list[tuple[int, int]]:
        """How much is declared, group by group. Nothing is ever taken away: more means that a build is out of date."""
        return [(len(group.items), len(group.layers)) for group in self._groups()]

    def app_nodes(self) -> list[Node]:
        """The app-scoped services that some plan reaches, each after those that it holds."""
        found: dict[Node, None] = {}
        for plan in self.table.plans:
            found.update(dict.fromkeys(plan.app_nodes))
        return list(found)

    def freeze(self) -> None:
        """Finish the plans: app-scoped services exist now. Nothing can be added afterwards."""
        self._close("the application is running")
        for plan in self.table.plans:
            plan.freeze()

    def _close(self, reason: str) -> None:
        for group in self._groups():
            group._closed = reason

    def _groups(self) -> Iterator[Router]:
        todo: list[Router] = [self]
        while todo:
            group = todo.pop()
            yield group
            todo += [item.obj for item in group.items if isinstance(item, Included) and isinstance(item.obj, Router)]

    def mounts(self) -> list[Mounted]:
        """The ASGI applications mounted in this one."""
        return [item for group in self._groups() for item in group.items if isinstance(item, Mounted)]

    def reset(self) -> None:
        """After shutdown: the application can be changed and started again."""
        self._close("")
        self.compiled = None
        self._kept = {}

    def _rebuild(self) -> None:
        self.compiled = None
        if self.runtime.running:
            self._kept = self.catalog.all_nodes()
            self.build()
            self.freeze()

    # -- lifecycle -----------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the application takes work: false before its ingresses are open, and once shutdown has begun."""
        return self.runtime.ready

    def on_startup(self, func: F) -> F:
        """Run `func` at start-up, after app-scoped services were built. Works as a decorator."""
        self._check_open("A start-up hook")
        self.startup_handlers.append(func)
        return func

    def on_shutdown(self, func: F) -> F:
        """Run `func` at shutdown; later ones first. Works as a decorator."""
        self._check_open("A shutdown hook")
        self.shutdown_handlers.append(func)
        return func

    @asynccontextmanager
    async def started(self) -> AsyncGenerator[App]:
        """Run the application without an ingress: start-up on entry, shutdown on exit."""
        await self.runtime.start_detached()
        try:
            yield self
        finally:
            await self.runtime.stop()

    @contextmanager
    def override(self, dependency: Any, fake: Any) -> Generator[None]:
        """Replace a dependency while the block runs, everywhere and for every kind of call.

        Args:
            dependency: callable or key, as given to `Depends` or registered.
            fake: a callable whose result takes its place (its parameters are injected too), or an instance.
        """
        missing = object()
        before = self.dependency_overrides.get(dependency, missing)
        self.dependency_overrides[dependency] = fake
        try:
            yield
        finally:
            if before is missing:
                del self.dependency_overrides[dependency]
            else:
                self.dependency_overrides[dependency] = before

    # -- calls ---------------------------------------------------------------------------------------------------------

    __call__ = asgi

    async def handle(self, call: Call) -> Reply:
        """Run one request directly, without a server.

        Args:
            call: a `Request` or an `RpcRequest`.

        Returns:
            The reply. The body of a streamed one must be read to its end.
        """
        await self.runtime.ensure_started()
        return await dispatch.handle(self, call)

    async def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a procedure in process.

        Args:
            name: `service.method`.
            args, kwargs: its arguments.

        Returns:
            Its result; an async iterator if it streams.

        Raises:
            PublicError: what the procedure raised, if public, else INTERNAL; NOT_FOUND for an unknown name.
        """
        await self.runtime.ensure_started()
        return await dispatch.call_procedure(self, RpcRequest(name, args, kwargs))

    def connection(self) -> Connection:
        """An in-process connection, for calls that share a connection scope; an async context manager."""
        return Connection(self)

    def url_for(self, name: str, /, **values: Any) -> str:
        """The path of a named HTTP or WebSocket binding, with every value escaped; always on this origin.

        Args:
            name: option `name` of the binding, or the name of its handler.
            values: its path parameters.

        Raises:
            KeyError: there is no such binding, or several.
            ValueError: a value is missing, left over, or does not fit.
        """
        found = self.table.names.get(name, {})
        if len(found) != 1:
            raise KeyError(f"{len(found) or 'no'} routes are named {name!r}; give one of them the option name=...")
        return next(iter(found.values())).build(**values)

    def run(self, *transports: Any, **options: Any) -> None:
        """Serve until stopped; see `microkit.cli.serving.run`."""
        from .cli.serving import run

        run(self, *transports, **options)

    def __repr__(self) -> str:
        return f"<App {self.name!r} at {location(type(self))}>"


class _Overrides(MutableMapping[Any, Any]):
    """Overrides by dependency; a change recompiles the plans, and is taken back if they cannot be compiled."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._fakes: dict[Any, Any] = {}

    def __getitem__(self, key: Any) -> Any:
        return self._fakes[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._fakes)

    def __len__(self) -> int:
        return len(self._fakes)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._set({**self._fakes, key: value})

    def __delitem__(self, key: Any) -> None:
        fakes = self._fakes.copy()
        del fakes[key]
        self._set(fakes)

    def _set(self, fakes: dict[Any, Any]) -> None:
        before, self._fakes = self._fakes, fakes
        try:
            self._changed()
        except BaseException:
            self._fakes = before
            self._changed()
            raise


MicroAPI = App
HttpKernel = App


def logger(name: str) -> logging.Logger:
    """A standard logger below `microkit`, so that the app's log level governs it."""
    return logging.getLogger(name if name.startswith("microkit") else f"microkit.{name}")
