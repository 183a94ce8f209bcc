"""Cancel scopes that cost nothing until they are needed.

An `anyio.CancelScope` costs several times a whole small request, yet most teardowns and body reads finish without ever
suspending. A coroutine is therefore run up to its first suspension bare, and only then bounded or protected. That works
on both backends, since what is handed up to the event loop is not touched.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar
from weakref import ref

import anyio

T = TypeVar("T")


class _Watched(Generic[T]):
    """Await a coroutine, and call `suspended()` before its first suspension."""

    __slots__ = ("_coroutine", "_suspended")

    def __init__(self, coroutine: Coroutine[Any, Any, T], suspended: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._suspended = suspended

    def __await__(self) -> Generator[Any, Any, T]:
        coroutine = self._coroutine
        try:
            trap = coroutine.send(None)
        except StopIteration as done:
            return done.value
        self._suspended()
        while True:
            try:
                answer = yield trap
            except BaseException as exc:
                resume: Callable[[Any], Any] = coroutine.throw
                argument: Any = exc
            else:
                resume, argument = coroutine.send, answer
            try:
                trap = resume(argument)
            except StopIteration as done:
                return done.value


async def within(seconds: float, coroutine: Coroutine[Any, Any, T]) -> T:
    """Await `coroutine`, which has `seconds` from its first suspension on.

    The coroutine must not leave a cancel scope that was entered before. If it is inside of one of its own when it first
    suspends, it is not bounded, since a scope entered that late would cross its own.

    Raises:
        TimeoutError: it took longer.
    """
    scope: anyio.CancelScope | None = None
    around = current_scope()

    def limit() -> None:
        nonlocal scope
        if current_scope() is not around:
            return
        scope = anyio.CancelScope(deadline=anyio.current_time() + seconds)
        scope.__enter__()

    try:
        result = await _Watched(coroutine, limit)
    except BaseException as exc:
        if scope is not None and scope.__exit__(type(exc), exc, exc.__traceback__):
            raise TimeoutError from None
        raise
    if scope is not None:
        scope.__exit__(None, None, None)
    return result


async def protected(shield: anyio.CancelScope, grace: float, coroutine: Coroutine[Any, Any, T]) -> T:
    """Await `coroutine` with cancellation from outside of `shield` kept away, for at most `grace` seconds.

    Teardowns leave cancel scopes and task groups that were entered earlier, so no new scope may be put around them; the
    scope that does the shielding must be the one that was entered before all of them.

    Args:
        shield: an entered scope of this task. After `grace` it is cancelled for good.
    """

    limited = False

    def limit() -> None:
        nonlocal limited
        limited = True
        shield.deadline = anyio.current_time() + grace

    # Shielded from the start: a checkpoint that begins unshielded in a cancelled scope waits for its cancellation.
    shield.shield = True
    try:
        return await _Watched(coroutine, limit)
    finally:
        if not shield.cancel_called:
            shield.shield = False
            if limited:
                shield.deadline = math.inf


def current_scope() -> object:
    """The innermost cancel scope of this task, to be compared only. anyio has no public name for that.

    Returns:
        None where it cannot be found out.
    """
    trio: Any = sys.modules.get("trio")
    try:
        if trio is not None and trio.lowlevel.in_trio_run():
            return trio.lowlevel.current_task()._cancel_status
        # A dictionary with weak keys; its own methods cost more than the whole rest.
        states: Any = sys.modules["anyio._backends._asyncio"]._task_states.data
        state = states.get(ref(sys.modules["asyncio"].current_task()))
        return None if state is None else state.cancel_scope
    except (AttributeError, KeyError, TypeError):
        return None
