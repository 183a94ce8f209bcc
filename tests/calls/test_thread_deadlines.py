"""Deadlines of sync handlers: a thread cannot be stopped, so its call goes on without it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import anyio
import anyio.to_thread
import pytest

from microkit import App, Depends, Procedure, PublicError, StatusCode

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G10")]


@pytest.fixture
def app() -> App:
    return App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the threads of a test hang at."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    async def wait(condition: Callable[[], Any]) -> None:
        with anyio.fail_after(60):
            while not condition():  # noqa: ASYNC110
                await anyio.sleep(0.005)

    return wait


async def status_of(app: App, *args: Any) -> StatusCode:
    try:
        await app.call("a.b", *args)
    except PublicError as exc:
        return exc.status
    return StatusCode.OK


async def late_in_its_thread(app: App, began: list[str], name: str) -> None:
    """Call until the deadline has passed in a thread: on a machine that stands still, it may pass before one begins."""
    while name not in began:
        assert await status_of(app, name) is StatusCode.DEADLINE_EXCEEDED


async def test_a_call_ends_at_its_deadline_although_its_thread_does_not(
    app: App, gate: threading.Event, until: Any
) -> None:
    log: list[str] = []
    began: list[str] = []

    def resource() -> Iterator[str]:
        try:
            yield "resource"
        except PublicError as exc:
            log.append(exc.status.name)
            raise

    @app.on(Procedure("a.b"), timeout=0.1)
    def hang(name: str, held: Annotated[str, Depends(resource)]) -> None:
        began.append(name)
        gate.wait(30)
        log.append("ended")

    async with app.started():
        await late_in_its_thread(app, began, "a")
        assert set(log) == {"DEADLINE_EXCEEDED"}
        gate.set()
        await until(lambda: log.count("ended") == len(began))


async def test_results_and_errors_come_through_within_the_deadline(app: App) -> None:
    @app.on(Procedure("a.b"), timeout=20)
    def divide(a: int, b: int) -> float:
        return a / b

    async with app.started():
        assert await app.call("a.b", 4, 2) == 2
        assert await status_of(app, 1, 0) is StatusCode.INTERNAL


async def test_threads_that_are_left_behind_keep_their_places(app: App, gate: threading.Event, until: Any) -> None:
    began: list[str] = []

    @app.on(Procedure("a.b"), timeout=0.1)
    def hang(name: str) -> None:
        began.append(name)
        gate.wait(30)

    limiter = anyio.to_thread.current_default_thread_limiter()
    before, limiter.total_tokens = limiter.total_tokens, 2
    try:
        async with app.started():
            for name in "ab":
                await late_in_its_thread(app, began, name)
            assert await status_of(app, "c") is StatusCode.DEADLINE_EXCEEDED
            assert began == ["a", "b"]
            assert limiter.borrowed_tokens == 2
            gate.set()
            await until(lambda: limiter.borrowed_tokens == 0)
            while await status_of(app, "d") is not StatusCode.OK:
                await until(lambda: limiter.borrowed_tokens == 0)
            assert limiter.borrowed_tokens == 0
    finally:
        limiter.total_tokens = before
    assert (began[:2], set(began[2:])) == (["a", "b"], {"d"})


async def test_a_cancellation_waits_for_the_thread_as_without_a_deadline(
    app: App, gate: threading.Event, until: Any
) -> None:
    log: list[str] = []

    @app.on(Procedure("a.b"), timeout=60)
    def hang() -> None:
        log.append("began")
        gate.wait(30)
        log.append("ended")

    async def cancel(scope: anyio.CancelScope) -> None:
        await until(lambda: log == ["began"])
        scope.cancel()
        threading.Timer(0.3, gate.set).start()

    async with app.started(), anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel, scope)
            await app.call("a.b")
        assert log == ["began", "ended"]
