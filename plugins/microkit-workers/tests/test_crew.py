"""Messages that follow each other in one task are as good as alone: they begin at once, each in a fresh context."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, Event

MakeApp = Callable[..., App]
_tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@pytest.mark.anyio
async def test_a_context_variable_of_one_message_is_not_seen_by_the_next(
    make_app: MakeApp, serving: Any, until: Any
) -> None:
    app, seen = make_app(max_workers=1, prefetch_factor=20), list[str]()

    @app.on(Event("a", "b"))
    async def handle(number: int) -> None:
        seen.append(_tenant.get())
        _tenant.set(f"tenant {number}")
        await anyio.lowlevel.checkpoint()

    async with serving(app) as service:
        for number in range(20):
            await service.publish("a", "b", number)
        await until(lambda: len(seen) == 20)
    assert set(seen) == {"nobody"}


@pytest.mark.anyio
async def test_messages_begin_although_others_wait_for_each_other(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, done = make_app(max_workers=20), list[int]()
    arrived, all_there = list[int](), anyio.Event()

    @app.on(Event("a", "b"))
    async def handle(number: int) -> None:
        arrived.append(number)
        if len(arrived) % 20 == 0:
            all_there.set()
        await all_there.wait()
        done.append(number)

    async with serving(app) as service:
        for number in range(20):
            await service.publish("a", "b", number)
        await until(lambda: len(done) == 20)
        all_there = anyio.Event()
        for number in range(20, 40):  # by tasks that have rested meanwhile
            await service.publish("a", "b", number)
        await until(lambda: len(done) == 40)
    assert sorted(done) == list(range(40))


@pytest.mark.anyio
async def test_a_burst_of_quick_messages_needs_few_tasks(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, tasks = make_app(max_workers=50), list[int]()

    @app.on(Event("a", "b"))
    async def handle(number: int) -> None:
        tasks.append(anyio.get_current_task().id)

    async with serving(app) as service:
        for number in range(200):
            await service.publish("a", "b", number)
        await until(lambda: len(tasks) == 200)
    assert len(set(tasks)) < 20


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_late_cancellation_by_a_handler_harms_no_message_that_comes_later(
    make_app: MakeApp, serving: Any, until: Any, anyio_backend: str
) -> None:
    """asyncio lets anybody cancel a task by hand, even one whose message is done."""
    import asyncio

    app, seen = make_app(), list[int]()
    tasks: list[asyncio.Task[Any]] = []

    @app.on(Event("a", "b"))
    async def handle(number: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        seen.append(number)

    async with serving(app) as service:
        await service.publish("a", "b", 1)
        await until(lambda: seen == [1])
        await service.drained("a.b__svc.handle")
        await anyio.sleep(0.05)
        await service.publish("a", "b", 2)
        tasks[0].cancel()
        await until(lambda: 2 in seen)
        await service.publish("a", "b", 3)
        await until(lambda: 3 in seen)
        await service.drained("a.b__svc.handle")
    assert seen == [1, 2, 3]
