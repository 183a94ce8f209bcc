"""How dependencies run: nodes, the order they are entered in, and the way they are left.

The compiler turns parameters into `Node`s; `Steps` flattens them into a list that a call runs from front to back. What
was entered is recorded in a list of exits and left in reverse, exactly once, in the task that entered it.
"""

from __future__ import annotations

import enum
import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from . import annotations
from ._deadline import protected, resumed, unshielded
from .call import MISSING
from .di import Scope

if TYPE_CHECKING:
    from .scopes import CallScope, ScopeOwner

_logger = logging.getLogger("microkit.scope")


class Mode(enum.IntEnum):
    """How a node makes its value."""

    SYNC = 0
    ASYNC = 1
    ASYNC_GENERATOR = 2
    GENERATOR = 3
    WRAPPER = 4  # a function around another one: what it returns decides
    CONSTANT = 5
    CALL = 6  # the call itself


class Dispose(enum.Enum):
    """What a service needs at the end of its scope: the method that says so, the first one counts."""

    ASYNC_CONTEXT = "__aenter__"
    CONTEXT = "__enter__"
    ACLOSE = "aclose"
    CLOSE = "close"
    NOTHING = ""

    def fits(self, cls: type) -> bool:
        """Whether instances of a class can be ended in this way."""
        return self is not Dispose.NOTHING and callable(getattr(cls, self.value, None))


@dataclass(eq=False, slots=True, repr=False)
class Node:
    """One value of a plan: how it is made, from which others, and how long it lives.

    Attributes:
        label: for `explain` and errors.
        mode, func: how it is made.
        args: the nodes passed to `func`.
        scope: how long it lives.
        dispose: how a service is let go.
        value: the value of a constant.
        plugin: who contributed it.
        hooks: start and stop hooks of an app-scoped service.
        thread: run `func` in a worker thread.
        dynamic: it can have further nodes made while the call runs (a container).
        fake: it, or something below it, replaces another one.
    """

    label: str
    mode: Mode = Mode.SYNC
    func: Callable[..., Any] | None = None
    args: Sequence[Node] = ()
    _: KW_ONLY
    scope: Scope = Scope.CALL
    dispose: Dispose = Dispose.NOTHING
    value: Any = None
    plugin: str = ""
    hooks: tuple[Any, Any] = (None, None)
    thread: bool = False
    dynamic: bool = False
    fake: bool = False

    def __post_init__(self) -> None:
        self.args = tuple(self.args)
        self.fake = self.fake or any(each.fake for each in self.args)

    @property
    def needs_exit(self) -> bool:
        """Whether something is left to do at the end of its scope."""
        return self.mode in (Mode.ASYNC_GENERATOR, Mode.GENERATOR, Mode.WRAPPER) or self.dispose is not Dispose.NOTHING

    @property
    def may_suspend_at_exit(self) -> bool:
        """Whether leaving it may wait for something, and so must be protected from cancellation."""
        at_once = (self.mode is Mode.GENERATOR and not self.thread) or self.dispose is Dispose.CONTEXT
        return self.dynamic or (self.needs_exit and not at_once)

    @property
    def is_source(self) -> bool:
        """Whether it only reads call data."""
        return self.mode in (Mode.SYNC, Mode.ASYNC) and self.args == (CALL,)

    def __repr__(self) -> str:
        return f"<Node {self.label} {self.mode.name} {self.scope.name}>"


CALL = Node("call", Mode.CALL, scope=Scope.BACKGROUND)


def constant(value: Any, label: str = "default", scope: Scope = Scope.APP, *, fake: bool = False) -> Node:
    """A node whose value is known at compile time."""
    return Node(label, Mode.CONSTANT, value=value, scope=scope, fake=fake)


def mode_of(func: Any) -> Mode:
    """How `func` makes a value, as far as its kind tells."""
    if annotations.is_async_generator(func):
        return Mode.ASYNC_GENERATOR
    if annotations.is_generator(func):
        return Mode.GENERATOR
    if annotations.is_wrapper(func):
        return Mode.WRAPPER
    return Mode.ASYNC if annotations.is_async(func) else Mode.SYNC


def disposal_of(factory: Any, key: Any) -> Dispose:
    """How instances end. A factory's product is judged by the class that it is registered for."""
    cls = factory if inspect.isclass(factory) else key
    if not inspect.isclass(cls) or mode_of(factory) in (Mode.GENERATOR, Mode.ASYNC_GENERATOR):
        return Dispose.NOTHING
    return next((each for each in Dispose if each.fits(cls)), Dispose.NOTHING)


# -- entering and leaving ----------------------------------------------------------------------------------------------

# An async generator, or what leaves something else: a partial that takes the exception that its scope ended with.
Exit = AsyncGeneratorType[Any, Any] | partial[Any]


async def enter(node: Node, args: Sequence[Any], exits: list[Exit]) -> Any:
    """Make the value of `node`, and record in `exits` how it is left."""
    assert node.func is not None
    value = await anyio.to_thread.run_sync(partial(node.func, *args)) if node.thread else node.func(*args)
    mode = node.mode
    if mode is Mode.ASYNC_GENERATOR or (mode is Mode.WRAPPER and inspect.isasyncgen(value)):
        exits_with: Exit = value
        value = await anext(value, MISSING)
    elif mode is Mode.GENERATOR or (mode is Mode.WRAPPER and inspect.isgenerator(value)):
        exits_with = partial(_leave_generator, value, node.thread)
        value = await anyio.to_thread.run_sync(next, value, MISSING) if node.thread else next(value, MISSING)
    else:
        if mode is Mode.ASYNC or (mode is Mode.WRAPPER and inspect.isawaitable(value)):
            value = await value
        # A test's double that a lambda gives for a service may lack what the service's class has.
        if node.dispose is not Dispose.NOTHING and (not node.fake or node.dispose.fits(type(value))):
            await _enter_service(node.dispose, value, exits)
        return value
    if value is MISSING:
        raise yielded_nothing(node)
    exits.append(exits_with)
    return value


async def _enter_service(dispose: Dispose, service: Any, exits: list[Exit]) -> None:
    if dispose is Dispose.ASYNC_CONTEXT:
        await service.__aenter__()
    elif dispose is Dispose.CONTEXT:
        service.__enter__()
    exits.append(partial(_leave_service, service, dispose))


async def _end_twice(agen: Any, exc: BaseException | None) -> None:
    await agen.aclose()
    raise RuntimeError(f"the dependency {agen.__qualname__} yielded more than once")


def _finish_generator(gen: Any, exc: BaseException | None) -> None:
    try:
        next(gen) if exc is None else gen.throw(exc)
    except StopIteration:
        return
    gen.close()
    raise RuntimeError(f"the dependency {gen.__qualname__} yielded more than once")


async def _leave_generator(gen: Any, thread: bool, exc: BaseException | None) -> None:
    if thread:
        await anyio.to_thread.run_sync(_finish_generator, gen, exc)
    else:
        _finish_generator(gen, exc)


async def _leave_service(service: Any, dispose: Dispose, exc: BaseException | None) -> None:
    details = (type(exc), exc, exc.__traceback__) if exc is not None else (None, None, None)
    if dispose is Dispose.ASYNC_CONTEXT:
        await service.__aexit__(*details)
    elif dispose is Dispose.CONTEXT:
        service.__exit__(*details)
    else:
        await call_maybe_async(service.aclose if dispose is Dispose.ACLOSE else service.close)


async def run_hook(hook: Callable[..., Any], value: Any, exc: BaseException | None) -> None:
    """Leave a service by its stop hook."""
    await call_maybe_async(hook, value)


async def leave_scope(
    exits: list[Exit], exc: BaseException | None, grace: float | None, shield: anyio.CancelScope | None, depth: int = 0
) -> BaseException | None:
    """Leave what is in `exits`, last entered first; one failure does not stop the others.

    Args:
        exits: emptied, down to `depth`.
        exc: what each teardown sees; after a failing one, the others see its failure.
        grace: seconds that this may take, cancellation from outside kept away; None if nothing of it can suspend.
        shield: a scope that was entered before any of the exits; None if the task was in no scope then.

    Returns:
        The first failure, if any; the others are logged here, and that one too if the scope was cancelled.
    """
    leaving = _unwind(exits, exc, depth)
    if shield is not None and grace is not None:
        return await protected(shield, grace, leaving)
    try:
        trap = leaving.send(None)
    except StopIteration as done:  # as nearly always, nothing had to be waited for
        return done.value
    try:
        return await unshielded(grace, leaving, trap)
    except TimeoutError:
        return cut_error(grace or 0)


def leave_at_once(exits: list[Exit], depth: int) -> bool:
    """Leave what is in `exits` as `leave_scope` does, as far as it is async generators that neither fail nor suspend.

    Returns:
        Whether that was all; else `leave_scope` does the rest, and goes on with the one that did.
    """
    while len(exits) > depth:
        leave = exits[-1]
        if type(leave) is not AsyncGeneratorType:
            return False
        ending = leave.__anext__()
        try:
            trap = ending.send(None)
        except StopAsyncIteration:
            exits.pop()
            continue
        except StopIteration:
            exits[-1] = partial(_end_twice, leave)
        except BaseException as error:
            exits[-1] = partial(_fail_with, error)
        else:
            exits[-1] = partial(_go_on, leave, ending, trap)
        return False
    return True


async def _fail_with(error: BaseException, exc: BaseException | None) -> None:
    raise error


async def _go_on(agen: Any, ending: Any, trap: Any, exc: BaseException | None) -> None:
    try:
        await resumed(ending, trap)
    except StopAsyncIteration:
        return
    await _end_twice(agen, exc)


def cut_error(grace: float) -> TimeoutError:
    """What is wrong with a scope whose teardown took longer than it may."""
    return TimeoutError(f"a teardown took longer than {grace:g} seconds and was cut")


async def _unwind(exits: list[Exit], exc: BaseException | None, depth: int) -> BaseException | None:
    failure: BaseException | None = None
    fatal: BaseException | None = None
    cancelled = exc is not None and not isinstance(exc, Exception)
    while len(exits) > depth:
        leave = exits.pop()
        try:
            if type(leave) is AsyncGeneratorType:
                try:
                    await (leave.__anext__() if exc is None else leave.athrow(exc))
                except StopAsyncIteration:
                    continue
                await _end_twice(leave, exc)
            else:
                await leave(exc)
        except BaseException as error:
            if _passed_on(error, exc):
                continue
            if not isinstance(error, Exception):
                fatal = fatal or error
            elif failure is not None or cancelled:
                what = leave.args[0] if isinstance(leave, partial) else leave
                _logger.error("leaving %s failed", annotations.describe(what), exc_info=error)
            failure = failure or error
            exc = exc or error
    if fatal is not None:
        raise fatal
    return failure


def _passed_on(error: BaseException, exc: BaseException | None) -> bool:
    """Whether a teardown merely let the exception through that it was shown; task groups wrap it."""
    if isinstance(error, BaseExceptionGroup):
        return all(_passed_on(each, exc) for each in error.exceptions)
    return error is exc or (type(error) is type(exc) and not isinstance(error, Exception))


# -- running -----------------------------------------------------------------------------------------------------------

# What a step does: call, await a call, begin an async generator of the call's scope, ask the owner of a longer scope,
# or whatever `enter` does.
CALLED, AWAITED, BEGUN, OWNED, ENTERED = range(5)
_PLAIN_STEPS = {Mode.SYNC: CALLED, Mode.ASYNC: AWAITED, Mode.ASYNC_GENERATOR: BEGUN}


class Steps:
    """Nodes in the order in which they are entered, with a slot of a frame for each.

    Args:
        outer: steps of an outer scope, which have run in the same frame.
    """

    def __init__(self, outer: Steps | None = None) -> None:
        self.outer = outer
        self.slots: dict[Node, int] = dict(outer.slots) if outer is not None else {CALL: 0}
        self.template: list[Any] = list(outer.template) if outer is not None else [MISSING]
        self.order: list[Node] = []
        self.compiled: list[tuple[Any, ...]] = []

    def add(self, roots: Iterable[Node]) -> None:
        """Add nodes and all that they are made from, inputs first."""
        stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(list(roots))]
        while stack:
            node, ready = stack.pop()
            if node in self.slots:
                continue
            if ready:
                self.slots[node] = len(self.template)
                self.template.append(node.value if node.mode is Mode.CONSTANT else MISSING)
                if node.mode is not Mode.CONSTANT:
                    self.order.append(node)
            else:
                stack.append((node, True))
                if node.scope is not Scope.APP:  # an app-scoped node is looked up, not made: its inputs are not needed
                    stack.extend((each, False) for each in reversed(node.args))

    def compile(self, owner: ScopeOwner) -> None:
        """Fix the list; app-scoped services that exist already become constants of the frame."""
        self.compiled = []
        if self.outer is not None:
            self.template[: len(self.outer.template)] = self.outer.template
        for node in self.order:
            slot = self.slots[node]
            if node.scope is Scope.APP and node in owner.instances:
                self.template[slot] = owner.instances[node]
                continue
            args = tuple(self.slots[each] for each in node.args) if node.scope is not Scope.APP else ()
            self.compiled.append((slot, _step_of(node), node.func, args, node))

    @property
    def idle(self) -> bool:
        """Whether nothing is left to run per call."""
        return not self.compiled

    @property
    def needs_exits(self) -> bool:
        """Whether a call may have something to leave."""
        return any(node.needs_exit or node.dynamic for node in self.order if node.scope is not Scope.APP)

    @property
    def dynamic(self) -> bool:
        """Whether a container can have nodes made beside these."""
        return any(node.dynamic for node in self.order)

    async def run(self, frame: list[Any], exits: list[Exit], late_exits: list[Exit]) -> None:
        """Run all steps; what was entered is recorded in `exits` (background scope: in `late_exits`)."""
        for slot, step, func, args, node in self.compiled:
            if step == CALLED:
                frame[slot] = func(*[frame[i] for i in args]) if args else func()
            elif step == AWAITED:
                frame[slot] = await (func(*[frame[i] for i in args]) if args else func())
            elif step == BEGUN:
                agen = func(*[frame[i] for i in args]) if args else func()
                frame[slot] = value = await anext(agen, MISSING)
                if value is MISSING:
                    raise yielded_nothing(node)
                exits.append(agen)
            else:
                frame[slot] = await enter_owned(node, frame[0], [frame[i] for i in args], exits, late_exits)

    async def run_dynamic(self, frame: list[Any], scope: CallScope) -> None:
        """Run all steps, except what a container had made before."""
        for slot, _step, _func, _args, node in self.compiled:
            frame[slot] = await scope.get(node)


def _step_of(node: Node) -> int:
    if node.scope in (Scope.APP, Scope.CONNECTION):
        return OWNED
    plain = not node.thread and node.dispose is Dispose.NOTHING
    if not plain or (node.mode is Mode.ASYNC_GENERATOR and node.scope is not Scope.CALL):
        return ENTERED
    return _PLAIN_STEPS.get(node.mode, ENTERED)


def yielded_nothing(node: Node) -> RuntimeError:
    """What is wrong with a generator that ends before it has given a value."""
    return RuntimeError(f"the dependency {node.label} yielded nothing")


async def enter_owned(node: Node, call: Any, args: Sequence[Any], exits: list[Exit], late_exits: list[Exit]) -> Any:
    """The value of a node that is not simply called: that of a longer scope, if there is one, else a new one."""
    owner: ScopeOwner | None = None
    if node.scope is Scope.APP:
        owner = call.app.owner
    elif node.scope is Scope.CONNECTION and call.connection is not None:
        owner = call.connection.owner
    if owner is not None:
        return await owner.get(node)
    return await enter(node, args, late_exits if node.scope is Scope.BACKGROUND else exits)


async def call_maybe_async(func: Callable[..., Any], *args: Any) -> Any:
    """Call a sync or async callable."""
    result = func(*args)
    return await result if hasattr(result, "__await__") else result
