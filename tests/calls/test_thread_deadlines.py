"""Deadlines of sync handlers: a thread cannot be stopped, so its call goes on without it."""

from __future__ import annotations

import threading
import time
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
        with anyio.fail_after(10):
            while not condition():  # noqa: ASYNC110
                await anyio.sleep(0.005)

    return wait


async def status_of(app: App, *args: Any) -> StatusCode:
    try:
        await app.call("a.b", *args)
    except PublicError as exc:
        return exc.status
    return StatusCode.OK


async def test_a_call_ends_at_its_deadline_although_its_thread_does_not(
    app: App, gate: threading.Event, until: Any
) -> None:
    log: list[str] = []

    def resource() -> Iterator[str]:
        try:
            yield "resource"
        except PublicError as exc:
            log.append(exc.status.name)
            raise

    @app.on(Procedure("a.b"), timeout=0.1)
    def hang(held: Annotated[str, Depends(resource)]) -> None:
        gate.wait(20)
        log.append("ended")

    async with app.started():
        began = time.monotonic()
        assert await status_of(app) is StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - began < 5
        assert log == ["DEADLINE_EXCEEDED"]
        gate.set()
        await until(lambda: log == ["DEADLINE_EXCEEDED", "ended"])


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
        gate.wait(20)

    limiter = anyio.to_thread.current_default_thread_limiter()
    before, limiter.total_tokens = limiter.total_tokens, 2
    try:
        async with app.started():
            for name in ("a", "b", "c"):
                assert await status_of(app, name) is StatusCode.DEADLINE_EXCEEDED
            assert began == ["a", "b"]
            assert limiter.borrowed_tokens == 2
            gate.set()
            await until(lambda: limiter.borrowed_tokens == 0)
            assert await status_of(app, "d") is StatusCode.OK
            assert limiter.borrowed_tokens == 0
    finally:
        limiter.total_tokens = before
    assert began == ["a", "b", "d"]


async def test_a_cancellation_waits_for_the_thread_as_without_a_deadline(app: App, gate: threading.Event) -> None:
    log: list[str] = []

    @app.on(Procedure("a.b"), timeout=20)
    def hang() -> None:
        gate.wait(20)
        log.append("ended")

    async with app.started():
        with anyio.move_on_after(0.1):
            threading.Timer(0.3, gate.set).start()
            await app.call("a.b")
        assert log == ["ended"]
