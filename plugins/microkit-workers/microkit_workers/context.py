"""Runner contexts: groups of bindings with a worker pool of their own, and the pools of an application."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from microkit import ConfigurationError, Router
from microkit.observe import WorkerPool, tell
from microkit.routing.groups import Included

from .pool import Pool
from .settings import MODES, WorkersSettings

if TYPE_CHECKING:
    from microkit import App
    from microkit.plan import Plan

    from .routes import Route


class RunnerContext(Router):
    """Bindings that share workers which no other context uses. `app.include(context)` adds it to an application.

    Routes of the seed and the verbs of a `Router` (`context.on(Event(...))`, `context.every(10)`) may be mixed.

    Args:
        routes: to begin with.
        worker_mode: `async`, `thread`, `greedy_thread` or `process`; None: by the settings.
        max_workers: calls at a time; None: by the settings.
        context_metric_label: for logs and metrics, one for each context; None: `context_<number>`.
        max_tasks_per_child: calls after which a child process is replaced, 0 for never; None: by the settings.
        middleware: for the calls of this context; first is outermost.

    Raises:
        ConfigurationError: the mode is unknown, or there is no worker.
    """

    executor = "workers"

    def __init__(
        self,
        routes: Sequence[Route] = (),
        worker_mode: str | None = None,
        max_workers: int | None = None,
        context_metric_label: str | None = None,
        *,
        max_tasks_per_child: int | None = None,
        middleware: Sequence[Any] = (),
    ) -> None:
        super().__init__("", middleware=middleware)
        if worker_mode == "asyncio":  # the seed's undocumented name
            worker_mode = "async"
        if worker_mode is not None and worker_mode not in MODES:
            raise ConfigurationError(f"The worker mode {worker_mode!r} must be one of {', '.join(MODES)}.")
        if max_workers is not None and max_workers < 1:
            raise ConfigurationError("A context needs at least one worker.")
        self.worker_mode = worker_mode
        self.max_workers = max_workers
        self.label = context_metric_label
        self.max_tasks_per_child = max_tasks_per_child
        self.routes: list[Route] = []
        self.add_routes(*routes)

    def add_routes(self, *routes: Route) -> None:
        """Add routes; before the application starts."""
        for each in routes:
            self.include(each)
            self.routes.append(each)


class Pools:
    """The worker pools of an application: one for each context, and one for all that is in none.

    Args:
        app: the application; its settings are loaded.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.default = self._make("default", None)
        self._of_group: dict[int, tuple[Router, Pool]] = {}  # the group is kept, so that its id stays its own
        self._of_context: dict[int, Pool] = {}

    @property
    def settings(self) -> WorkersSettings:
        """The settings of this plugin."""
        return self.app.all_settings["workers"]

    def of(self, plan: Plan) -> Pool:
        """The pool whose workers run the calls of a plan."""
        group = plan.binding.group
        if group is not None and id(group) not in self._of_group:
            self._of_group.update({id(each): (each, pool) for each, pool in self._walk(self.app, self.default)})
        return self._of_group[id(group)][1] if id(group) in self._of_group else self.default

    def in_context(self, plan: Plan) -> bool:
        """Whether a plan belongs to a context."""
        return self.of(plan) is not self.default

    def all(self) -> list[Pool]:
        """Every pool that a binding uses, in the order of their contexts."""
        return list(dict.fromkeys(self.of(plan) for plan in self.app.table.plans if plan.ingress))

    def uses_workers(self, plan: Plan) -> bool:
        """Whether the calls of a plan wait for a worker of their pool, whatever their ingress."""
        return self.in_context(plan) or plan.ingress == "consumers"

    def open(self) -> None:
        """Begin anew, and tell the observers of the pools.

        Raises:
            ConfigurationError: two contexts have the same label.
        """
        for pool in {self.default, *self._of_context.values()}:
            pool.open()
        opened: dict[str, WorkerPool] = {}
        for pool in dict.fromkeys(self.of(plan) for plan in self.app.table.plans if plan.context):
            if opened.setdefault(pool.label, pool) is not pool:
                raise ConfigurationError(
                    f"Two pools of workers have the label {pool.label!r}, so nobody could tell them apart. Give each "
                    f"context a context_metric_label of its own ('default' is what belongs to none)."
                )
        for observer in self.app.observers:
            for pool in opened.values():
                tell(observer.pool_opened, pool)

    def _walk(self, group: Router, pool: Pool) -> Iterator[tuple[Router, Pool]]:
        yield group, pool
        for item in group.items:
            if isinstance(item, Included) and isinstance(item.obj, Router):
                inner = item.obj
                yield from self._walk(inner, self._pool_of(inner) if isinstance(inner, RunnerContext) else pool)

    def _pool_of(self, context: RunnerContext) -> Pool:
        if id(context) not in self._of_context:
            label = context.label = context.label or f"context_{len(self._of_context) + 1}"
            self._of_context[id(context)] = self._make(label, context)
        return self._of_context[id(context)]

    def _make(self, label: str, context: RunnerContext | None) -> Pool:
        settings = self.settings
        size, mode, tasks = settings.max_workers, settings.worker_mode, settings.max_tasks_per_child
        if context is not None:
            size, mode = context.max_workers or size, context.worker_mode or mode
            tasks = tasks if context.max_tasks_per_child is None else context.max_tasks_per_child
        return Pool(label, size, mode, tasks)


def pools_of(app: App) -> Pools:
    """The pools of an application that has this plugin."""
    provider = app.registry.get(Pools)
    if provider is None:
        raise ConfigurationError(f"The plugin workers is not active in the application {app.name!r}.")
    return provider.value
