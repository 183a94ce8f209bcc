"""Cancel scopes that cost nothing until they are needed.

An `anyio.CancelScope` costs several times a whole small request, yet most teardowns and body reads finish without ever
suspending. `within` therefore runs a coroutine up to its first suspension bare, and enters the scope only then. It works
on both backends, since what is handed up to the event loop is not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

import anyio

T = TypeVar("T")


class within(Generic[T]):  # reads as a verb: `await within(make_scope, coroutine)`
    """Await `coroutine` inside `scope()`, which is entered at the first suspension.

    Args:
        scope: makes a new `anyio.CancelScope`.
        coroutine: what to run.

    Raises:
        TimeoutError: the scope's own cancellation ended the coroutine.
    """

    __slots__ = ("_coroutine", "_scope")

    def __init__(self, scope: Callable[[], anyio.CancelScope], coroutine: Coroutine[Any, Any, T]) -> None:
        self._scope = scope
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        coroutine = self._coroutine
        try:
            trap = coroutine.send(None)
        except StopIteration as done:
            return done.value
        with self._scope():
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
        raise TimeoutError  # reached only when the scope swallowed its own cancellation


def shielded(grace: float) -> Callable[[], anyio.CancelScope]:
    """A maker of scopes that ignore outer cancellation, for at most `grace` seconds."""
    return lambda: anyio.CancelScope(shield=True, deadline=anyio.current_time() + grace)


def expiring(seconds: float) -> Callable[[], anyio.CancelScope]:
    """A maker of scopes that end after `seconds`, counted from their first suspension."""
    return lambda: anyio.CancelScope(deadline=anyio.current_time() + seconds)
