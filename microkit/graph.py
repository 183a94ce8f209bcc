"""How dependencies run: nodes, the order they are entered in, and the way they are left.

The compiler turns parameters into `Node`s; `Steps` flattens them into a list that a call runs from front to back. What
was entered is recorded in a list of exits and left in reverse, exactly once, in the task that entered it.
"""

from __future__ import annotations

import enum
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from ._deadline import protected
from .call import MISSING
from .di import Scope

_logger = logging.getLogger("microkit.scope")


class Mode(enum.IntEnum):
    """How a node makes its value."""

    SYNC = 0
    ASYNC = 1
    ASYNC_GENERATOR = 2
    GENERATOR = 3
    THREAD = 4
    THREAD_GENERATOR = 5
    CONSTANT = 6
    CALL = 7  # the call itself


class Dispose(enum.Enum):
    """What a service needs at the end of its scope."""

    NOTHING = enum.auto()
    ASYNC_CONTEXT = enum.auto()
    CONTEXT = enum.auto()
    ACLOSE = enum.auto()
    CLOSE = enum.auto()


class Node:
    """One value of a plan: how it is made, from which others, and how long it lives.

    Attributes:
        label: for `explain` and errors.
        mode, func: how it is made.
        args: the nodes passed to `func`.
        scope: how long it lives.
        dispose: how a service is let go.
        plugin: who contributed it.
        hooks: start and stop hooks of an app-scoped service.
    """

    __slots__ = ("args", "dispose", "func", "hooks", "label", "mode", "plugin", "scope", "value")

    def __init__(
        self,
        label: str,
        mode: Mode = Mode.SYNC,
        func: Callable[..., Any] | None = None,
        args: Sequence[Node] = (),
        *,
        scope: Scope = Scope.CALL,
        dispose: Dispose = Dispose.NOTHING,
        value: Any = None,
        plugin: str = "",
        hooks: tuple[Any, Any] = (None, None),
    ) -> None:
        self.label = label
        self.mode = mode
        self.func = func
        self.args = tuple(args)
        self.scope = scope
        self.dispose = dispose
        self.value = value
        self.plugin = plugin
        self.hooks = hooks

    @property
    def needs_exit(self) -> bool:
        """Whether something is left to do at the end of its scope."""
        return (
            self.mode in (Mode.ASYNC_GENERATOR, Mode.GENERATOR, Mode.THREAD_GENERATOR)
            or self.dispose is not Dispose.NOTHING
        )

    @property
    def may_suspend_at_exit(self) -> bool:
        """Whether leaving it may wait for something, and so must be protected from cancellation."""
        return self.needs_exit and not (self.mode is Mode.GENERATOR or self.dispose is Dispose.CONTEXT)

    @property
    def is_source(self) -> bool:
        """Whether it only reads call data, synchronously."""
        return self.mode is Mode.SYNC and self.args == (CALL,)

    def __repr__(self) -> str:
        return f"<Node {self.label} {self.mode.name} {self.scope.name}>"


CALL = Node("call", Mode.CALL, scope=Scope.BACKGROUND)


def constant(value: Any, label: str = "default") -> Node:
    """A node whose value is known at compile time."""
    return Node(label, Mode.CONSTANT, value=value, scope=Scope.APP)


# -- entering and leaving ----------------------------------------------------------------------------------------------

Exit = Callable[[BaseException | None], Any]  # returns an awaitable


async def enter(node: Node, args: list[Any], exits: list[Exit]) -> Any:
    """Make the value of `node`, and record in `exits` how it is left."""
    mode, func = node.mode, node.func
    assert func is not None
    if mode is Mode.ASYNC_GENERATOR:
        agen = func(*args)
        value = await agen.__anext__()
        exits.append(partial(_leave_async_generator, agen))
    elif mode is Mode.GENERATOR:
        gen = func(*args)
        value = next(gen)
        exits.append(partial(_leave_generator, gen))
    elif mode is Mode.THREAD_GENERATOR:
        gen = func(*args)
        value = await anyio.to_thread.run_sync(next, gen)
        exits.append(partial(_leave_thread_generator, gen))
    elif mode is Mode.THREAD:
        value = await anyio.to_thread.run_sync(partial(func, *args))
    else:
        value = func(*args)
        if mode is Mode.ASYNC:
            value = await value
    if node.dispose is not Dispose.NOTHING:
        value = await _enter_service(node.dispose, value, exits)
    return value


async def _enter_service(dispose: Dispose, service: Any, exits: list[Exit]) -> Any:
    if dispose is Dispose.ASYNC_CONTEXT:
        entered = await service.__aenter__()
        exits.append(partial(_leave_async_context, service))
        return entered
    if dispose is Dispose.CONTEXT:
        entered = service.__enter__()
        exits.append(partial(_leave_context, service))
        return entered
    exits.append(partial(_close, service.aclose if dispose is Dispose.ACLOSE else service.close))
    return service


async def _leave_async_generator(agen: Any, exc: BaseException | None) -> None:
    try:
        await (agen.__anext__() if exc is None else agen.athrow(exc))
    except StopAsyncIteration:
        return
    await agen.aclose()
    raise RuntimeError(f"the dependency {agen.__qualname__} yielded more than once")


def _finish_generator(gen: Any, exc: BaseException | None) -> None:
    try:
        next(gen) if exc is None else gen.throw(exc)
    except StopIteration:
        return
    gen.close()
    raise RuntimeError(f"the dependency {gen.__qualname__} yielded more than once")


async def _leave_generator(gen: Any, exc: BaseException | None) -> None:
    _finish_generator(gen, exc)


async def _leave_thread_generator(gen: Any, exc: BaseException | None) -> None:
    await anyio.to_thread.run_sync(_finish_generator, gen, exc)


async def _leave_async_context(service: Any, exc: BaseException | None) -> None:
    await service.__aexit__(type(exc) if exc else None, exc, exc.__traceback__ if exc else None)


async def _leave_context(service: Any, exc: BaseException | None) -> None:
    service.__exit__(type(exc) if exc else None, exc, exc.__traceback__ if exc else None)


async def _close(close: Callable[[], Any], exc: BaseException | None) -> None:
    result = close()
    if hasattr(result, "__await__"):
        await result


def _only(group: BaseExceptionGroup[BaseException], exc: BaseException | None) -> bool:
    return all(
        _only(each, exc) if isinstance(each, BaseExceptionGroup) else each is exc  # pyright: ignore[reportUnknownArgumentType]
        for each in group.exceptions
    )


async def unwind(exits: list[Exit], exc: BaseException | None) -> BaseException | None:
    """Leave everything in `exits`, last entered first; one failure does not stop the others.

    Args:
        exits: emptied.
        exc: what each teardown sees; after a failing one, the others see its failure.

    Returns:
        The first failure of a teardown, if any.
    """
    failure: BaseException | None = None
    fatal: BaseException | None = None
    while exits:
        leave = exits.pop()
        try:
            await leave(exc)
        except BaseException as error:
            if error is exc or (isinstance(error, BaseExceptionGroup) and _only(error, exc)):
                continue  # passed on, as a teardown should; a task group in it wraps what passes
            if not isinstance(error, Exception):
                fatal = fatal or error
            elif failure is not None:
                _logger.error("another teardown failed", exc_info=error)  # the first one is logged with its call
            failure = failure or error
            exc = exc or error
    if fatal is not None and fatal is not exc:
        raise fatal
    return failure


async def leave_scope(
    exits: list[Exit], exc: BaseException | None, grace: float, shield: anyio.CancelScope | None
) -> BaseException | None:
    """`unwind`, protected from cancellation for at most `grace` seconds. Returns the first failure, if any.

    Args:
        shield: a scope that was entered before any of the exits; None if none of them can suspend.
    """
    if shield is None:
        return await unwind(exits, exc)
    return await protected(shield, grace, unwind(exits, exc))


# -- running -----------------------------------------------------------------------------------------------------------


class Steps:
    """Nodes in the order in which they are entered, with a slot of a frame for each.

    Args:
        known: slots of nodes that an outer scope has filled.
        connected: connection-scoped nodes live in `call.connection`, not in the call.
    """

    def __init__(self, known: dict[Node, int] | None = None, *, connected: bool = False) -> None:
        self.slots: dict[Node, int] = dict(known) if known is not None else {CALL: 0}
        self.template: list[Any] = [None] * (max(self.slots.values(), default=0) + 1)
        self.order: list[Node] = []
        self.connected = connected
        self._compiled: list[tuple[Any, ...]] = []

    def add(self, roots: Iterable[Node]) -> None:
        """Add nodes and all that they are made from, inputs first."""
        stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(list(roots))]
        while stack:
            node, ready = stack.pop()
            if node in self.slots:
                continue
            if ready:
                self.slots[node] = len(self.template)
                self.template.append(node.value if node.mode is Mode.CONSTANT else None)
                if node.mode is not Mode.CONSTANT:
                    self.order.append(node)
            else:
                stack.append((node, True))
                if node.scope is not Scope.APP:  # an app-scoped node is looked up, not made: its inputs are not needed
                    stack.extend((each, False) for each in reversed(node.args))

    def compile(self, owner: ScopeOwner) -> None:
        """Fix the list; app-scoped services that exist already become constants of the frame."""
        self._compiled = []
        for node in self.order:
            slot = self.slots[node]
            if node.scope is Scope.APP:
                if node in owner.instances:
                    self.template[slot] = owner.instances[node]
                else:
                    self._compiled.append((slot, -1, partial(owner.get, node), (), node, False))
                continue
            mode = int(node.mode) if node.dispose is Dispose.NOTHING else 9
            args = tuple(self.slots[each] for each in node.args)
            if node.scope is Scope.CONNECTION and self.connected:
                mode = 8
            self._compiled.append((slot, mode, node.func, args, node, node.scope is Scope.BACKGROUND))

    @property
    def idle(self) -> bool:
        """Whether nothing is left to run per call."""
        return not self._compiled

    @property
    def needs_exits(self) -> bool:
        """Whether a call may have something to leave."""
        return any(node.needs_exit for node in self.order if node.scope is not Scope.APP)

    @property
    def purely_sync(self) -> bool:
        """Whether every step is a plain call on the event loop."""
        return all(step[1] == 0 for step in self._compiled)

    def run_sync(self, frame: list[Any]) -> None:
        """Run steps that are `purely_sync`."""
        for slot, _mode, func, args, _node, _late in self._compiled:
            frame[slot] = func(*[frame[i] for i in args])

    async def run(self, frame: list[Any], exits: list[Exit], late_exits: list[Exit]) -> None:
        """Run all steps; what was entered is recorded in `exits` (background scope: in `late_exits`)."""
        for slot, mode, func, args, node, late in self._compiled:
            given = [frame[i] for i in args]
            if mode == 0:
                frame[slot] = func(*given)
            elif mode == 1:
                frame[slot] = await func(*given)
            elif mode == 2:
                agen = func(*given)
                frame[slot] = await agen.__anext__()
                (late_exits if late else exits).append(partial(_leave_async_generator, agen))
            elif mode == -1:
                frame[slot] = await func()
            elif mode == 8 and frame[0].connection is not None:
                frame[slot] = await frame[0].connection.owner.get(node)
            else:
                frame[slot] = await enter(node, given, late_exits if late else exits)


# -- scopes that outlive a call ----------------------------------------------------------------------------------------


class _Job:
    __slots__ = ("done", "error", "node", "value")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.done = anyio.Event()
        self.value: Any = None
        self.error: BaseException | None = None


class ScopeOwner:
    """Instances of one long scope (application or connection), made and left in the one task that serves it.

    Args:
        parent: owner of the longer scope.
        scope: the scope that it owns.
    """

    def __init__(self, scope: Scope, parent: ScopeOwner | None = None) -> None:
        self.scope = scope
        self.parent = parent
        self.instances: dict[Node, Any] = {}
        self.exits: list[Exit] = []
        self._task: int | None = None
        self._jobs: Any = None

    def adopt(self) -> None:
        """Declare the running task the owner."""
        self._task = anyio.get_current_task().id
        self._jobs = anyio.create_memory_object_stream[_Job](float("inf"))

    async def get(self, node: Node) -> Any:
        """The instance of `node`; made by the owner task if there is none yet.

        Raises:
            RuntimeError: the scope is not open.
        """
        if node in self.instances:
            return self.instances[node]
        if self._task is None:
            raise RuntimeError(f"the {self.scope.name.lower()} scope is not open: start the application first")
        if anyio.get_current_task().id == self._task:
            return await self._make(node)
        job = _Job(node)
        try:
            self._jobs[0].send_nowait(job)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise RuntimeError(f"the {self.scope.name.lower()} scope is closing") from None
        await job.done.wait()
        if job.error is not None:
            raise job.error
        return job.value

    async def serve(self) -> None:
        """Make what is asked for, until `stop`."""
        async for job in self._jobs[1]:
            try:
                job.value = await self._make(job.node)
            except Exception as exc:
                job.error = exc
            except BaseException:
                job.error = RuntimeError(f"the {self.scope.name.lower()} scope was cancelled")
                raise
            finally:
                job.done.set()

    def stop(self) -> None:
        """Let `serve` return; nothing can be made afterwards."""
        if self._jobs is not None:
            self._jobs[0].close()

    async def _make(self, node: Node) -> Any:
        if node.mode is Mode.CONSTANT:
            return node.value
        if node in self.instances:
            return self.instances[node]
        if node.scope > self.scope and self.parent is not None:
            return await self.parent.get(node)
        args = [await self._make(each) for each in node.args]
        started, stopped = node.hooks
        if started is not None:
            await call_maybe_async(started)
        value = await enter(node, args, self.exits)
        if stopped is not None:
            self.exits.append(lambda exc: call_maybe_async(stopped, value))
        self.instances[node] = value
        return value

    async def close(self, grace: float, shield: anyio.CancelScope) -> BaseException | None:
        """Leave all instances in reverse order. Returns the first failure, if any.

        Args:
            grace: seconds that it may take.
            shield: a scope that the owner task entered before anything was made.
        """
        self.stop()
        if self._jobs is not None:
            self._jobs[1].close()
        failure = await leave_scope(self.exits, sys.exc_info()[1], grace, shield)
        self.instances.clear()
        self._task = None
        return failure


async def call_maybe_async(func: Callable[..., Any], *args: Any) -> Any:
    """Call a sync or async callable."""
    result = func(*args)
    return await result if hasattr(result, "__await__") else result


__all__ = [
    "CALL",
    "MISSING",
    "Dispose",
    "Mode",
    "Node",
    "ScopeOwner",
    "Steps",
    "constant",
    "enter",
    "leave_scope",
    "unwind",
]
