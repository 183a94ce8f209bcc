"""Cancel scopes that cost nothing until they are needed.

An `anyio.CancelScope` costs several times a whole small request, yet most teardowns and body reads finish without ever
suspending. A coroutine is therefore run up to its first suspension bare, and only then bounded or protected. That works
on both backends, since what is handed up to the event loop is not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

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

    The coroutine must not leave a cancel scope that was entered before.

    Raises:
        TimeoutError: it took longer.
    """
    scope: anyio.CancelScope | None = None

    def limit() -> None:
        nonlocal scope
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

    def protect() -> None:
        shield.shield = True
        shield.deadline = anyio.current_time() + grace

    if anyio.current_effective_deadline() == -math.inf:
        protect()  # cancelled already: a checkpoint begun without the shield would wait for the cancellation in vain
    try:
        return await _Watched(coroutine, protect)
    finally:
        if shield.shield and not shield.cancel_called:
            shield.shield = False
            shield.deadline = float("inf")
