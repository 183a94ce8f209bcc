"""Cores that are written out: what they share, what they show, and that no dependency escapes them."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, Depends, Procedure, Reply, Request
from microkit.observe import Observer

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G5")]


@pytest.fixture
def app() -> App:
    return App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}})


async def test_plans_of_one_shape_share_their_code_and_nothing_else(app: App) -> None:
    for number in range(3):

        async def made(number: int = number) -> int:
            return number

        @app.get(f"/{number}")
        async def handler(value: int = Depends(made)) -> dict[str, int]:
            return {"value": value}

    async with app.started():
        plans = [plan for plan in app.table.plans if plan.binding.endpoint.handler.__name__ == "handler"]
        assert len({plan.source() for plan in plans}) == 1
        answers = [(await app.handle(Request("GET", f"/{number}"))).body for number in range(3)]
    assert answers == [b'{"value":0}', b'{"value":1}', b'{"value":2}']


async def test_a_traceback_shows_the_written_line(app: App) -> None:
    failed: list[BaseException] = []

    class Watch(Observer):
        def call_finished(self, call: Any, reply: Reply, duration: float) -> None:
            if reply.error is not None:
                failed.append(reply.error)

    async def broken() -> int:
        raise LookupError("not there")

    @app.get("/")
    async def handler(value: int = Depends(broken)) -> int:
        return value

    async with app.started():
        app.observers = (Watch(),)
        assert (await app.handle(Request("GET", "/"))).http_status == 500
    text = "".join(traceback.format_exception(failed[0]))
    assert "microkit plan of shape" in text
    assert "= await f1()" in text


@pytest.mark.parametrize("fails", ["nothing", "handler", "first", "second"])
@pytest.mark.parametrize("suspends", [False, True])
async def test_teardowns_end_whether_they_suspend_fail_or_neither(app: App, fails: str, suspends: bool) -> None:
    log: list[str] = []

    def dependency(name: str) -> Any:
        async def made() -> AsyncIterator[str]:
            try:
                yield name
            except ValueError:
                log.append(f"{name} saw it")
                raise
            if suspends:
                await anyio.sleep(0.001)
            log.append(f"{name} left")
            if fails == name:
                raise ValueError(name)

        return made

    def sync() -> Iterator[str]:
        yield "sync"
        log.append("sync left")

    @app.get("/")
    async def handler(
        first: str = Depends(dependency("first")),
        between: str = Depends(sync),
        second: str = Depends(dependency("second")),
    ) -> dict[str, str]:
        if fails == "handler":
            raise ValueError("handler")
        return {"first": first, "second": second}

    sent: list[Any] = []

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(event: Any) -> None:
        sent.append(event)

    async with app.started():
        await app({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}, receive, send)
    assert sent[0]["status"] == (200 if fails == "nothing" else 500)
    expected = {
        "nothing": ["second left", "sync left", "first left"],
        "handler": ["second saw it", "first saw it"],
        "first": ["second left", "sync left", "first left"],
        "second": ["second left", "first saw it"],
    }
    assert log == expected[fails]


async def test_a_connection_scoped_dependency_is_shared_by_the_calls_of_a_connection(app: App) -> None:
    made: list[int] = []

    async def counter() -> int:
        made.append(1)
        return len(made)

    @app.on(Procedure("count"))
    async def count(number: int = Depends(counter, scope="connection")) -> int:
        return number

    async with app.started():
        async with app.connection() as connection:
            assert [await connection.call("count") for _ in range(3)] == [1, 1, 1]
        assert [await app.call("count") for _ in range(2)] == [2, 3]
