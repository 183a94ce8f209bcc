"""Scopes whose instances are asked for one by one: a call's, for its container, and those that outlive calls."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio

from .di import Scope
from .errors import ResolutionError
from .graph import CALL, Exit, Mode, Node, call_maybe_async, enter, leave_scope, run_hook


class LiveScope:
    """The instances of one scope, made when they are asked for.

    Args:
        scope: how long they live.
        parent: the longer scope around it.
    """

    def __init__(self, scope: Scope, parent: LiveScope | None = None) -> None:
        self.scope = scope
        self.parent = parent
        self.instances: dict[Node, Any] = {}
        self.exits: list[Exit] = []
        self._pending: dict[Node, tuple[anyio.Event, int]] = {}

    async def get(self, node: Node) -> Any:
        """The instance of `node`; made if there is none yet, once however many ask at a time.

        Raises:
            ResolutionError: it lives shorter than this scope, or needs itself.
        """
        if node.mode is Mode.CONSTANT:
            return node.value
        if self.parent is not None and node.scope >= self.parent.scope:
            return await self.parent.get(node)
        while node not in self.instances:
            task = anyio.get_current_task().id
            if node in self._pending:
                event, maker = self._pending[node]
                if maker == task:
                    raise ResolutionError(f"Dependency cycle through a container: {self._cycle(node)}.")
                await event.wait()
                continue
            if node.scope < self.scope:
                raise ResolutionError(
                    f"{node.label} lives for one {node.scope.name.lower()} only, and is asked for where there is none. "
                    f'Inject it or a Container in a handler, or give it scope="{self.scope.name.lower()}".'
                )
            self._pending[node] = anyio.Event(), task
            try:
                self.instances[node] = await self._enter(node)
            finally:
                self._pending.pop(node)[0].set()
        return self.instances[node]

    def _cycle(self, node: Node) -> str:
        names = [each.label for each in self._pending]
        return " -> ".join([*names[list(self._pending).index(node) :], node.label])

    async def _enter(self, node: Node) -> Any:
        args = [await self.get(each) for each in node.args]
        started, stopped = node.hooks
        if started is not None:
            await call_maybe_async(started)
        value = await enter(node, args, self.exits)
        if stopped is not None:
            self.exits.append(partial(run_hook, stopped, value))
        return value


class CallScope(LiveScope):
    """The scope of a call in which a container can have nodes made.

    Args:
        call: the running call, with its lists of exits.
    """

    def __init__(self, call: Any) -> None:
        owner = call.connection.owner if call.connection is not None else call.app.owner
        super().__init__(Scope.CALL, owner)
        self.instances[CALL] = call
        self.local: dict[Any, Any] = {}
        self.exits = call._exits
        self._late_exits = call._late_exits
        self._task = anyio.get_current_task().id

    async def _enter(self, node: Node) -> Any:
        if node.needs_exit and anyio.get_current_task().id != self._task:
            raise RuntimeError(
                f"{node.label} must be left in the task that entered it: ask for it in the task of the handler, before "
                f"it starts others."
            )
        args = [await self.get(each) for each in node.args]
        return await enter(node, args, self._late_exits if node.scope is Scope.BACKGROUND else self.exits)

    def cut(self, size: int) -> None:
        """Forget all but the first `size` instances: what they hold was left."""
        while len(self.instances) > size:
            self.instances.popitem()


class _Job:
    __slots__ = ("done", "error", "node", "value")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.done = anyio.Event()
        self.value: Any = None
        self.error: BaseException | None = None


class ScopeOwner(LiveScope):
    """A scope that outlives calls (application or connection): made and left in the one task that serves it."""

    _task: int | None = None

    def adopt(self) -> None:
        """Declare the running task the owner."""
        self._task = anyio.get_current_task().id
        self._jobs: list[_Job] = []
        self._wake = anyio.Event()
        self._stopped = False

    def is_current(self) -> bool:
        """Whether the running task is the owner."""
        return self._task == anyio.get_current_task().id

    async def get(self, node: Node) -> Any:
        """The instance of `node`; made by the owner task if there is none yet.

        Raises:
            RuntimeError: the scope is not open.
            ResolutionError: it lives shorter than this scope, or needs itself.
        """
        if node in self.instances:
            return self.instances[node]
        if self.is_current() or node.mode is Mode.CONSTANT:
            return await super().get(node)
        if self._task is None or self._stopped:
            state = "is closing" if self._task is not None else "is not open: start the application first"
            raise RuntimeError(f"the {self.scope.name.lower()} scope {state}")
        job = _Job(node)
        self._jobs.append(job)
        self._wake.set()
        await job.done.wait()
        if job.error is not None:
            raise job.error
        return job.value

    async def serve(self) -> None:
        """Make what is asked for, until `stop`."""
        try:
            while self._jobs or not self._stopped:
                if not self._jobs:
                    self._wake = anyio.Event()
                    await self._wake.wait()
                    continue
                job = self._jobs.pop(0)
                try:
                    job.value = await self.get(job.node)
                except Exception as exc:
                    job.error = exc
                except BaseException:
                    self._jobs.append(job)
                    raise
                job.done.set()
        finally:
            self._stopped = True
            for job in self._jobs:
                job.error = RuntimeError(f"the {self.scope.name.lower()} scope is closing")
                job.done.set()

    def stop(self) -> None:
        """Let `serve` return; only the owner task itself can have something made afterwards."""
        if self._task is not None:
            self._stopped = True
            self._wake.set()

    async def close(
        self, grace: float, shield: anyio.CancelScope, exc: BaseException | None = None
    ) -> BaseException | None:
        """Leave all instances in reverse order. Returns the first failure, if any.

        Args:
            grace: seconds that it may take.
            shield: a scope that the owner task entered before anything was made.
            exc: what the teardowns see.
        """
        self.stop()
        try:
            return await leave_scope(self.exits, exc, grace, shield)
        finally:
            self.instances.clear()
            self._task = None
