"""What an application is given when it is made, and what it is given later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from microkit import App, ConfigurationError, MicroAPI, Request, StatusCode, route
from tests.asgi_driver import request

pytestmark = pytest.mark.anyio


@pytest.fixture
def log() -> list[str]:
    return []


def layer(log: list[str], name: str) -> Any:
    async def middleware(request: Request, call_next: Any) -> Any:
        log.append(name)
        return await call_next(request)

    return middleware


@pytest.mark.feature("F003-01")
async def test_everything_is_registered_at_creation_in_the_order_given(log: list[str]) -> None:
    class Orders:
        @route("/orders")
        async def orders(self) -> str:
            log.append("handler")
            return "orders"

    class Users:
        @route("/users")
        async def users(self) -> str:
            return "users"

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[dict[str, int]]:
        log.append(f"lifespan {app.version}")
        yield {"answer": 42}
        log.append("lifespan ends")

    app = MicroAPI(
        discover=False,
        services=[Orders, Users],
        middlewares=[layer(log, "first"), layer(log, "second")],
        on_startup=[lambda: log.append("up 1"), lambda: log.append("up 2")],
        on_shutdown=[lambda: log.append("down 1"), lambda: log.append("down 2")],
        lifespan=lifespan,
        version=7,
    )
    async with app.started():
        assert (await request(app, target="/orders")).body == b"orders"
        assert (await request(app, target="/users")).body == b"users"
        assert app.runtime.state == {"answer": 42}
    started, second_request = log[:6], log[6:8]
    assert started == ["up 1", "up 2", "lifespan 7", "first", "second", "handler"]
    assert second_request == ["first", "second"]
    assert log[8:] == ["lifespan ends", "down 2", "down 1"]


@pytest.mark.feature("F003-01")
def test_the_old_name_is_an_alias_and_the_version_defaults_to_one() -> None:
    assert MicroAPI is App
    assert App(discover=False).version == 1


@pytest.mark.feature("F003-03")
async def test_everything_is_registered_after_creation_too(log: list[str]) -> None:
    app = App(discover=False, on_startup=[lambda: log.append("given")], middlewares=[layer(log, "given layer")])
    app.add_middleware(layer(log, "added layer"))

    def up() -> None:
        log.append("up")

    async def down() -> None:
        log.append("down")

    assert app.on_startup(up) is up
    assert app.on_shutdown(down) is down

    @app.get("/")
    async def hello() -> str:
        return "hello"

    async with app.started():
        assert (await request(app)).body == b"hello"
        with pytest.raises(ConfigurationError, match="running"):
            app.on_startup(up)
        with pytest.raises(ConfigurationError, match="running"):
            app.add_middleware(layer(log, "too late"))
    assert log == ["given", "up", "given layer", "added layer", "down"]


@pytest.mark.feature("F003-24")
def test_the_status_codes_are_those_of_grpc() -> None:
    assert {each.name: each.value for each in StatusCode} == {
        "OK": 0,
        "CANCELLED": 1,
        "UNKNOWN": 2,
        "INVALID_ARGUMENT": 3,
        "DEADLINE_EXCEEDED": 4,
        "NOT_FOUND": 5,
        "ALREADY_EXISTS": 6,
        "PERMISSION_DENIED": 7,
        "RESOURCE_EXHAUSTED": 8,
        "FAILED_PRECONDITION": 9,
        "ABORTED": 10,
        "OUT_OF_RANGE": 11,
        "UNIMPLEMENTED": 12,
        "INTERNAL": 13,
        "UNAVAILABLE": 14,
        "DATA_LOSS": 15,
        "UNAUTHENTICATED": 16,
    }


async def _lifespan(app: App, *events: str) -> list[dict[str, Any]]:
    told, sent = [{"type": f"lifespan.{event}"} for event in events], []

    async def receive() -> dict[str, Any]:
        return told.pop(0)

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    return sent


@pytest.mark.feature("F004-50")
async def test_handler_lists_run_in_the_lifespan_of_the_server(log: list[str]) -> None:
    app = App(discover=False)
    app.startup_handlers += [lambda: log.append("up 1"), lambda: log.append("up 2")]
    app.shutdown_handlers += [lambda: log.append("down 1"), lambda: log.append("down 2")]
    sent = await _lifespan(app, "startup", "shutdown")
    assert [event["type"] for event in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert log == ["up 1", "up 2", "down 2", "down 1"]


@pytest.mark.feature("F004-50")
async def test_a_failing_startup_handler_is_reported_as_failed(log: list[str]) -> None:
    def broken() -> None:
        raise ValueError("no database")

    app = App(
        discover=False,
        on_startup=[lambda: log.append("up"), broken, lambda: log.append("never")],
        on_shutdown=[lambda: log.append("down")],
    )
    [event] = await _lifespan(app, "startup")
    assert event["type"] == "lifespan.startup.failed"
    assert "ValueError: no database" in event["message"]
    assert "broken" in event["message"]
    assert log == ["up", "down"]


@pytest.mark.feature("F004-50")
async def test_a_failing_shutdown_handler_is_reported_as_failed_and_the_others_run(log: list[str]) -> None:
    def broken() -> None:
        raise ValueError("cannot flush")

    app = App(discover=False, settings={"app": {"log_level": "CRITICAL"}})
    app.on_shutdown(lambda: log.append("first"))
    app.on_shutdown(broken)
    sent = await _lifespan(app, "startup", "shutdown")
    assert [event["type"] for event in sent] == ["lifespan.startup.complete", "lifespan.shutdown.failed"]
    assert sent[1]["message"] == "ValueError: cannot flush"
    assert log == ["first"]
