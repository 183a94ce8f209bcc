"""Cancel scopes that cost nothing until they are needed.

An `anyio.CancelScope` costs several times a whole small request, yet most teardowns and body reads finish without ever
suspending. A coroutine is therefore run up to its first suspension bare, and only then bounded or protected. That works
on both backends, since what is handed up to the event loop is not touched.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeAlias, TypeVar
from weakref import ref

import anyio

T = TypeVar("T")
Begun: TypeAlias = Coroutine[Any, Any, T] | Generator[Any, Any, T]


class _Rest(Generic[T]):
    """Await the rest of what was begun, and call `suspended()` before each suspension, until it is True.

    Args:
        begun: a coroutine that was begun, or what `__await__` gave.
        trap: what its first suspension handed up.
    """

    __slots__ = ("_begun", "_suspended", "_trap")

    def __init__(self, begun: Begun[T], trap: Any, suspended: Callable[[], bool]) -> None:
        self._begun = begun
        self._trap = trap
        self._suspended = suspended

    def __await__(self) -> Generator[Any, Any, T]:
        begun, trap, settled = self._begun, self._trap, False
        while True:
            settled = settled or self._suspended()
            try:
                answer = yield trap
            except BaseException as exc:
                resume: Callable[[Any], Any] = begun.throw
                argument: Any = exc
            else:
                resume, argument = begun.send, answer
            try:
                trap = resume(argument)
            except StopIteration as done:
                return done.value


async def resumed(begun: Begun[T], trap: Any) -> T:
    """Await the rest of what was begun."""
    return await _Rest(begun, trap, lambda: True)


async def unshielded(seconds: float | None, coroutine: Coroutine[Any, Any, T], trap: Any) -> T:
    """Await the rest of a teardown in a task that had no cancel scope before what is torn down was entered.

    No scope can cancel such a task, so there is nothing to keep away; the teardown is bounded only. It may leave scopes
    that it holds: until they are left, theirs is the deadline.

    Args:
        seconds: how long it may take; None: without limit, and wherever it is.
        coroutine: the teardown, begun.
        trap: what its first suspension handed up.

    Raises:
        TimeoutError: it took longer, and was cut.
    """
    if seconds is None:
        return await resumed(coroutine, trap)
    return await limited(seconds, coroutine, trap, None, lent=True)


async def limited(seconds: float, begun: Begun[T], trap: Any, around: object, *, lent: bool = False) -> T:
    """Await the rest of something for at most `seconds`.

    It must not leave a cancel scope that was entered before. While it is inside of one of its own it is not bounded,
    since a scope entered that late would cross its own.

    Args:
        begun: a coroutine that was begun, or what `__await__` gave.
        trap: what its first suspension handed up.
        around: the innermost cancel scope from before it was begun, as `scope_reader` tells it.
        lent: lower the deadlines of the scopes that it is inside of meanwhile, instead of leaving them alone.

    Raises:
        TimeoutError: it took longer.
    """
    scope: anyio.CancelScope | None = None
    end = anyio.current_time() + seconds
    lowered: list[tuple[Any, float]] = []

    def limit() -> bool:
        nonlocal scope
        innermost: Any = current_scope()
        if innermost is around:
            scope = anyio.CancelScope(deadline=end)
            scope.__enter__()
            return True
        if lent and innermost.deadline > end:
            lowered.append((innermost, innermost.deadline))
            innermost.deadline = end
        return False

    try:
        result = await _Rest(begun, trap, limit)
    except BaseException as exc:
        if scope is not None and scope.__exit__(type(exc), exc, exc.__traceback__):
            raise TimeoutError from None
        raise
    finally:
        for each, deadline in lowered:
            each.deadline = deadline
    if scope is not None:
        scope.__exit__(None, None, None)
    elif lent and anyio.current_time() >= end:
        raise TimeoutError
    return result


async def protected(shield: anyio.CancelScope, grace: float, coroutine: Coroutine[Any, Any, T]) -> T:
    """Await `coroutine` with cancellation from outside of `shield` kept away, for at most `grace` seconds.

    Teardowns leave cancel scopes and task groups that were entered earlier, so no new scope may be put around them; the
    scope that does the shielding must be the one that was entered before all of them.

    Args:
        shield: an entered scope of this task. After `grace` it is cancelled for good.
    """

    limited = False

    def limit() -> bool:
        nonlocal limited
        limited = True
        shield.deadline = anyio.current_time() + grace
        return True

    # Shielded from the start: a checkpoint that begins unshielded in a cancelled scope waits for its cancellation.
    shield.shield = True
    try:
        try:
            trap = coroutine.send(None)
        except StopIteration as done:
            return done.value
        return await _Rest(coroutine, trap, limit)
    finally:
        if not shield.cancel_called:
            shield.shield = False
            if limited:
                shield.deadline = math.inf


_UNKNOWN = object()


def scope_reader() -> Callable[[], object]:
    """How the innermost cancel scope of the running task is read on the backend that runs. anyio has no name for that.

    Returns:
        A function whose results are to be compared; None is a task without any scope. Where that cannot be found out,
        it is always the same object.
    """
    trio: Any = sys.modules.get("trio")
    try:
        if trio is not None and trio.lowlevel.in_trio_run():
            current_task = trio.lowlevel.current_task
            _ = current_task()._cancel_status
            return lambda: current_task()._cancel_status
        # A dictionary with weak keys; its own methods cost more than the whole rest.
        state_of = sys.modules["anyio._backends._asyncio"]._task_states.data.get
        current = sys.modules["asyncio"].current_task
    except (AttributeError, KeyError):
        return lambda: _UNKNOWN

    def read() -> object:
        state = state_of(ref(current()))
        return None if state is None else state.cancel_scope

    return read


def current_scope() -> object:
    """The innermost cancel scope of this task, as `scope_reader` tells it."""
    return scope_reader()()
