"""Pools of workers, queues, and the event loop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from microkit import App, Event
from microkit.broker import QueueState
from microkit.observe import WorkerPool, tell

pytestmark = pytest.mark.anyio


@dataclass
class Pool:
    """A pool as a plugin has it."""

    label: str
    mode: str
    size: int
    running: int = 0
    waiting: int = 0


def opened(app: App, pool: WorkerPool) -> None:
    app.build()
    for observer in app.observers:
        tell(observer.pool_opened, pool)


@pytest.mark.feature("F002-23")
async def test_pools_are_read_when_the_page_is(app: App, page: Any) -> None:
    orders, mails = Pool("orders", "thread", 3), Pool("mails", "process", 2)
    opened(app, orders)
    opened(app, mails)
    assert page(app).value("available_workers", context="orders") == 3
    orders.running, orders.waiting, orders.size = 2, 5, 3
    found = page(app)
    assert found.value("available_workers", context="orders") == 1
    assert found.value("busy_workers", context="orders") == 2
    assert found.value("waiting_tasks", context="orders") == 5
    assert found.value("service_info", context="orders", max_workers="3", worker_mode="thread", service="app") == 1
    assert found.value("service_info", context="mails", max_workers="2", worker_mode="process") == 1


@pytest.mark.feature("F002-23")
async def test_a_pool_that_is_opened_again_replaces_the_one_before(app: App, page: Any) -> None:
    opened(app, Pool("orders", "thread", 3, running=3))
    opened(app, Pool("orders", "thread", 4))
    assert page(app).value("available_workers", context="orders") == 4


@pytest.mark.feature("FX-26")
async def test_queues_are_shown_as_they_were_measured_last(app: App, page: Any) -> None:
    @app.on(Event("web", "order"))
    async def ship(payload: int) -> None: ...

    app.build()
    (plan,) = app.table.events["web", "order"]
    for state in (QueueState(1, 2, 3, 4), QueueState(5, 6, 7, 8)):
        for observer in app.observers:
            tell(observer.queue_measured, plan, "web.order", state)
    labels = {"kind": "message", "route": "web/order", "queue": "web.order"}
    states = ("ready", "unsettled", "delayed", "dead")
    assert [page(app).value("queue_messages", **labels, state=state) for state in states] == [5, 6, 7, 8]


@pytest.mark.feature("FX-32")
async def test_a_handler_that_blocks_the_loop_shows_as_its_lateness(make_app: Any, page: Any) -> None:
    app = make_app(loop_interval=0.01)
    async with app.started():
        await anyio.sleep(0.05)
        time.sleep(0.3)  # noqa: ASYNC251 - this is what the figure is about
        with anyio.fail_after(60):
            while page(app).value("event_loop_lag_seconds_sum") < 0.2:  # noqa: ASYNC110 - nothing tells of it
                await anyio.sleep(0.01)
        assert page(app).value("event_loop_lag_seconds_count") >= 2
