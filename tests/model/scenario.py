"""A random call: dependencies, middleware and a handler, each of which may fail or be cancelled at any stage.

The scenario is run for real and leaves a log; the tests compare the log with the rules.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
from hypothesis import strategies as st

from microkit import App, Call, Depends, PublicError, StatusCode

FAULTS = ("none", "raise", "public", "cancel")


class Boom(Exception):
    """An exception that is not public."""


@dataclass(frozen=True)
class Dependency:
    """One link of a chain of dependencies."""

    form: str  # async_generator, generator, plain
    set_up: str = "none"
    teardown: str = "none"


@dataclass(frozen=True)
class Layer:
    """One middleware."""

    before: str = "none"
    after: str = "none"
    answers: bool = False  # without calling what follows
    injects: bool = False  # a dependency of its own, with a teardown
    teardown: str = "none"


@dataclass(frozen=True)
class Scenario:
    """Everything that happens in one call."""

    dependencies: tuple[Dependency, ...]
    layers: tuple[Layer, ...]
    handler: str = "none"
    streams: bool = False
    stream_fault: str = "none"
    background: str = "none"


@dataclass
class Run:
    """A running scenario: its log, and the scope that a fault may cancel."""

    log: list[tuple[str, str]] = field(default_factory=list)
    scope: anyio.CancelScope | None = None
    seen: dict[str, BaseException | None] = field(default_factory=dict)

    async def stage(self, fault: str, name: str) -> None:
        """A point where something may go wrong; always a checkpoint."""
        if fault == "raise":
            raise Boom(f"secret of {name}")
        if fault == "public":
            raise PublicError("told", status=StatusCode.FAILED_PRECONDITION)
        if fault == "cancel":
            assert self.scope is not None
            self.scope.cancel()
        await anyio.lowlevel.checkpoint()

    def leave(self, name: str, spec: Dependency) -> None:
        """Note that a dependency is being left, and whether that is about to fail."""
        self.log.append(("leave", name))
        if spec.teardown in ("raise", "public"):
            self.log.append(("failed", name))

    def check_teardowns(self) -> None:
        """The rules for teardowns, whatever started the call."""
        entered, left = self.names("enter"), self.names("leave")
        # Each exactly once, and in reverse, those of middlewares after those of the handler.
        assert sorted(entered) == sorted(left)
        assert len(set(left)) == len(left)
        for own in (False, True):
            order = [name for name in entered if name.endswith(".own") is own]
            assert [name for name in left if name.endswith(".own") is own] == order[::-1]
        # Each runs to its end, also under a cancellation: nothing cuts a teardown but its own failure.
        assert self.names("done") == [name for name in left if name not in self.names("failed")]
        # What is left after a failed teardown of the same scope must not believe that all went well.
        for failed in self.names("failed"):
            later = left[left.index(failed) + 1 :]
            assert all(self.seen[n] is not None for n in later if n.endswith(".own") is failed.endswith(".own"))

    def names(self, what: str) -> list[str]:
        """The names that did something, in order."""
        return [name for kind, name in self.log if kind == what]


def _async_generator(run: Run, name: str, spec: Dependency, below: Any) -> Callable[..., Any]:
    async def dependency(below: Any = below) -> AsyncIterator[str]:
        await run.stage(spec.set_up, name)
        run.log.append(("enter", name))
        try:
            yield name
        except BaseException as exc:
            run.seen[name] = exc
            run.leave(name, spec)
            await run.stage(spec.teardown, name)
            run.log.append(("done", name))
            raise
        run.seen[name] = None
        run.leave(name, spec)
        await run.stage(spec.teardown, name)
        run.log.append(("done", name))

    return dependency


def _generator(run: Run, name: str, spec: Dependency, below: Any) -> Callable[..., Any]:
    def fail(fault: str) -> None:
        if fault in ("raise", "public"):
            raise Boom(name) if fault == "raise" else PublicError("told", status=StatusCode.FAILED_PRECONDITION)

    def dependency(below: Any = below) -> Iterator[str]:
        fail(spec.set_up)
        run.log.append(("enter", name))
        try:
            yield name
        except BaseException as exc:
            run.seen[name] = exc
            run.leave(name, spec)
            fail(spec.teardown)
            run.log.append(("done", name))
            raise
        run.seen[name] = None
        run.leave(name, spec)
        fail(spec.teardown)
        run.log.append(("done", name))

    return dependency


def _plain(run: Run, name: str, spec: Dependency, below: Any) -> Callable[..., Any]:
    async def dependency(below: Any = below) -> str:
        await run.stage(spec.set_up, name)
        return name

    return dependency


_FORMS = {"async_generator": _async_generator, "generator": _generator, "plain": _plain}


def _middleware(run: Run, name: str, layer: Layer) -> Callable[..., Any]:
    own = _async_generator(run, f"{name}.own", Dependency("async_generator", teardown=layer.teardown), None)

    async def plain(call: Call, call_next: Any) -> Any:
        run.log.append(("before", name))
        await run.stage(layer.before, name)
        reply = await call_next(call) if not layer.answers else {"answered": name}
        run.log.append(("after", name))
        await run.stage(layer.after, name)
        return reply

    async def injecting(call: Call, call_next: Any, own: Any = Depends(own)) -> Any:
        return await plain(call, call_next)

    return injecting if layer.injects else plain


def build(scenario: Scenario, run: Run, bind: Callable[[App], Callable[..., Any]]) -> App:
    """An application with one endpoint that plays the scenario.

    Args:
        bind: gives the decorator that binds the handler.
    """
    app = App(plugins=[], discover=False, settings={"app": {"teardown_timeout": 60.0, "log_level": "CRITICAL"}})
    for number, layer in enumerate(scenario.layers):
        app.add_middleware(_middleware(run, f"layer{number}", layer))
    below: Any = None
    for number, spec in enumerate(scenario.dependencies):
        made = _FORMS[spec.form](run, f"dep{number}", spec, below)
        below = Depends(made)

    async def note() -> None:
        run.log.append(("background", "task"))
        await run.stage(scenario.background, "background")

    async def work(call: Call) -> None:
        run.log.append(("handler", "handler"))
        call.background.add(note)
        await run.stage(scenario.handler, "handler")

    async def handler(call: Call, chain: Any = below) -> Any:
        await work(call)
        return {"ok": True}

    async def streaming(call: Call, chain: Any = below) -> Any:
        await work(call)

        async def items() -> AsyncIterator[bytes]:
            yield b"one"
            await run.stage(scenario.stream_fault, "stream")
            yield b"two"

        return items()

    bind(app)(streaming if scenario.streams else handler)
    return app


_fault = st.sampled_from(("none", "none", "none", *FAULTS))
_dependency = st.builds(Dependency, st.sampled_from(tuple(_FORMS)), _fault, _fault)
_layer = st.builds(Layer, _fault, _fault, st.sampled_from((False, False, False, True)), st.booleans(), _fault)


def scenarios(*, streams: bool = True) -> st.SearchStrategy[Scenario]:
    """Random scenarios."""
    return st.builds(
        Scenario,
        st.lists(_dependency, max_size=4).map(tuple),
        st.lists(_layer, max_size=3).map(tuple),
        _fault,
        st.booleans() if streams else st.just(False),
        _fault,
        st.sampled_from(("none", "none", "raise")),
    )
