"""What counting costs a call: the same application with and without microkit-metrics.

Run it with `python tests/benchmarks/metrics.py [calls]`. They take turns in one event loop; printed is the best CPU
time of a call in nanoseconds, and the difference. An idle observer shows what the kernel needs to time a call and to
tell of it. The last line is what a page costs.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import microkit_metrics.plugin
import microkit_trie.plugin
from microkit import App, Event, Message, Procedure, Request, RpcRequest, hookimpl
from microkit.dispatch import handle_message
from microkit.inprocess import RecordingDelivery
from microkit.observe import Observer
from microkit.settlement import Settlement
from microkit_metrics import Metrics

_ROUNDS = 25
_ROUTES = 200

Drive = Callable[[App, int], Awaitable[None]]


class _Watching:
    @hookimpl
    def microkit_observers(self, app: App) -> Observer:
        return Observer()


def _app(*plugins: Any, **settings: Any) -> App:
    app = App(plugins=[microkit_trie.plugin, *plugins], discover=False, settings=settings)

    @app.get("/users/{id:int}")
    async def user(id: int) -> Any:
        return {"id": id}

    @app.on(Procedure("users.get"))
    async def get(id: int) -> int:
        return id

    @app.on(Event("shop", "sold"))
    async def sold(payload: Any) -> None:
        return

    for number in range(_ROUTES):
        app.get(f"/routes/{number}")(_nothing)
    return app


async def _nothing() -> None:
    return


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(event: Any) -> None:
    return


async def _http(app: App, count: int) -> None:
    scope = {"type": "http", "method": "GET", "path": "/users/12345", "query_string": b"", "headers": []}
    for _ in range(count):
        await app(dict(scope), _receive, _send)


async def _rpc(app: App, count: int) -> None:
    for _ in range(count):
        await app.handle(RpcRequest("users.get", (1,)))


async def _message(app: App, count: int) -> None:
    (plan,) = app.table.events["shop", "sold"]
    for _ in range(count):
        message = Message(b"1", source="shop", name="sold", published_at=0.0)
        message.app, message.plan, message.settlement = app, plan, Settlement.of(plan, RecordingDelivery())
        await handle_message(message)


async def _measure(drive: Drive, app: App, count: int) -> float:
    start = time.thread_time_ns()
    await drive(app, count)
    return (time.thread_time_ns() - start) / count


async def main() -> None:
    """Print one row per kind of call, and what a page costs."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    counting = _app(microkit_metrics.plugin, metrics={"enabled": True})
    apps = (_app(), _app(_Watching()), counting)
    print("| call | without (CPU ns) | an idle observer | with metrics | more |\n|---|---|---|---|---|")
    async with apps[0].started(), apps[1].started(), apps[2].started():
        for name, drive in (("HTTP, path parameter", _http), ("procedure", _rpc), ("message", _message)):
            best = [float("inf")] * len(apps)
            for _ in range(_ROUNDS):
                for index, app in enumerate(apps):
                    best[index] = min(best[index], await _measure(drive, app, count))
            off, idle, on = best
            print(f"| {name} | {off:,.0f} | {idle:,.0f} | {on:,.0f} | {on - off:,.0f} |")
        for number in range(_ROUTES):
            await counting.handle(Request("GET", f"/routes/{number}"))
        metrics = Metrics.of(counting)
        metrics.render()
        start = time.thread_time_ns()
        page, _ = metrics.render()
        took = (time.thread_time_ns() - start) / 1e6
        print(f"\nA page of {len(metrics.series)} series ({len(page):,} bytes): {took:,.1f} ms, in a thread.")


if __name__ == "__main__":
    asyncio.run(main())
