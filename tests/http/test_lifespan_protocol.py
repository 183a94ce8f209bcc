"""The ASGI lifespan as a server drives it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from microkit import App, Request
from tests.asgi_driver import request

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G1"), pytest.mark.guarantee("G2")]


class Lifespan:
    """The lifespan of one server."""

    def __init__(self, app: App, **scope: Any) -> None:
        self.app = app
        self.scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, **scope}
        self.sent: list[dict[str, Any]] = []
        self._give, self._take = anyio.create_memory_object_stream[dict[str, Any]](10)
        self._news = anyio.Event()

    async def run(self) -> None:
        try:
            await self.app(self.scope, self._take.receive, self._send)
        finally:
            self._give.close()
            self._take.close()

    async def _send(self, event: dict[str, Any]) -> None:
        self.sent.append(event)
        self._news.set()

    async def say(self, kind: str) -> dict[str, Any]:
        """Send `lifespan.<kind>` and wait for the answer."""
        self._news = anyio.Event()
        self._give.send_nowait({"type": f"lifespan.{kind}"})
        with anyio.fail_after(60):
            await self._news.wait()
        return self.sent[-1]


@pytest.fixture
def log() -> list[str]:
    return []


def application(log: list[str], fails: str = "") -> App:
    def step(name: str) -> None:
        log.append(name)
        if name == fails:
            raise ValueError(f"{name} failed")

    async def lifespan() -> AsyncIterator[dict[str, Any]]:
        step("lifespan")
        yield {"pool": log}
        step("lifespan ends")

    app = App(plugins=[], discover=False, lifespan=lifespan, settings={"app": {"log_level": "CRITICAL"}})
    for number in (1, 2):
        app.on_startup(lambda number=number: step(f"start {number}"))
        app.on_shutdown(lambda number=number: step(f"stop {number}"))

    @app.get("/")
    async def handler(request: Request) -> str:
        return "up"

    return app


@pytest.mark.feature("F001-01")
@pytest.mark.feature("F001-33")
async def test_start_up_and_shutdown_in_reverse(log: list[str]) -> None:
    server = Lifespan(application(log), state={})
    async with anyio.create_task_group() as group:
        group.start_soon(server.run)
        assert await server.say("startup") == {"type": "lifespan.startup.complete"}
        assert server.scope["state"] == {"pool": log}
        assert (await request(server.app)).body == b"up"
        assert await server.say("shutdown") == {"type": "lifespan.shutdown.complete"}
    assert log == ["start 1", "start 2", "lifespan", "lifespan ends", "stop 2", "stop 1"]


@pytest.mark.feature("F001-34")
@pytest.mark.parametrize("fails", ["start 1", "start 2", "lifespan"])
async def test_a_failing_start_up_is_reported_and_what_was_started_is_torn_down(log: list[str], fails: str) -> None:
    server = Lifespan(application(log, fails))
    async with anyio.create_task_group() as group:
        group.start_soon(server.run)
        answer = await server.say("startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert f"{fails} failed" in answer["message"]
    assert log[-2:] == ["stop 2", "stop 1"]


@pytest.mark.feature("F001-34")
async def test_a_failing_shutdown_is_reported_and_does_not_stop_the_rest(log: list[str]) -> None:
    server = Lifespan(application(log, "stop 2"))
    async with anyio.create_task_group() as group:
        group.start_soon(server.run)
        await server.say("startup")
        answer = await server.say("shutdown")
    assert answer["type"] == "lifespan.shutdown.failed"
    assert log[-2:] == ["stop 2", "stop 1"]


async def test_two_servers_start_one_application_once(log: list[str]) -> None:
    app = application(log)
    first, second = Lifespan(app), Lifespan(app)
    async with anyio.create_task_group() as group:
        group.start_soon(first.run)
        group.start_soon(second.run)
        await first.say("startup")
        await second.say("startup")
        assert (await first.say("shutdown"))["type"] == "lifespan.shutdown.complete"
        assert (await second.say("shutdown"))["type"] == "lifespan.shutdown.complete"
    assert log.count("start 1") == log.count("stop 1") == 1


async def test_a_shutdown_without_a_start_up_is_harmless(log: list[str]) -> None:
    server = Lifespan(application(log))
    server._give.send_nowait({"type": "lifespan.shutdown"})
    await server.run()
    assert log == []


@pytest.mark.parametrize("stage", ["in start-up", "while serving"])
async def test_a_cancelled_lifespan_tears_down_what_was_started(log: list[str], stage: str) -> None:
    app = application(log)
    begun = anyio.Event()

    @app.on_startup
    async def slow() -> None:
        begun.set()
        if stage == "in start-up":
            await anyio.sleep_forever()

    server = Lifespan(app)
    async with anyio.create_task_group() as group:
        group.start_soon(server.run)
        if stage == "in start-up":
            server._give.send_nowait({"type": "lifespan.startup"})
            await begun.wait()
        else:
            await server.say("startup")
        group.cancel_scope.cancel()
    assert log[-2:] == ["stop 2", "stop 1"]


@pytest.mark.feature("F001-34")
async def test_a_server_without_lifespan_starts_the_application_by_its_first_request(log: list[str]) -> None:
    app = application(log)
    assert (await request(app)).body == b"up"
    assert (await request(app)).body == b"up"
    assert log == ["start 1", "start 2", "lifespan"]
    await app.runtime.stop()
    assert log[-1] == "stop 1"


@pytest.mark.feature("F001-34")
async def test_a_server_without_lifespan_meets_a_failing_start_up_at_each_request(log: list[str]) -> None:
    app = application(log, "start 2")
    for _ in range(2):
        reply = await request(app)
        assert (reply.sent, type(reply.error).__name__) == ([], "StartupError")


@pytest.mark.feature("F001-01")
async def test_an_unknown_scope_type_is_refused() -> None:
    app = App(plugins=[], discover=False)
    with pytest.raises(ValueError, match="'quic'"):
        await app({"type": "quic"}, None, None)


async def test_the_state_is_a_copy_per_request_of_a_server_that_copies_it(log: list[str]) -> None:
    app = application(log)
    seen: list[Any] = []

    @app.get("/state")
    async def handler(request: Request) -> None:
        seen.append(request.scope_state.get("mine"))
        request.scope_state["mine"] = 1

    server = Lifespan(app, state={})
    async with anyio.create_task_group() as group:
        group.start_soon(server.run)
        await server.say("startup")
        for _ in range(2):
            await request(app, target="/state", state=dict(server.scope["state"]))
        await server.say("shutdown")
    assert seen == [None, None]
