"""How WebSockets end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from microkit import App, BackgroundTasks, Depends, Forbidden, WebSocket
from microkit.errors import ConnectionClosed
from tests.asgi_driver import Socket, socket
from tests.websocket.support import application, talk

pytestmark = pytest.mark.anyio


# -- closing -----------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F004-44")
@pytest.mark.guarantee("G9")
@pytest.mark.parametrize(
    ("how", "close"),
    [
        ("returns", (1000, "")),
        ("raises", (1011, "internal error")),
        ("public", (1008, "members only")),
        ("long", (1008, "\u4e16" * 41)),
        ("closes", (4001, "done")),
    ],
)
async def test_how_a_handler_ends_is_how_the_socket_is_closed(app: App, how: str, close: tuple[int, str]) -> None:
    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        if how == "raises":
            raise ValueError("secret")
        if how == "public":
            raise Forbidden("members only")
        if how == "long":
            raise Forbidden("\u4e16" * 100)
        if how == "closes":
            await ws.close(4001, "done")
            await ws.close(4002)
            with pytest.raises(ConnectionClosed):
                await ws.send_text("late")

    seen = await socket(app, "/ws")
    assert (seen.close, seen.error) == (close, None)


@pytest.mark.feature("F004-44")
@pytest.mark.parametrize(
    ("code", "reason"), [*((code, "") for code in (0, 999, 1005, 1006, 1015, 2999, 5000)), (1000, "\u4e16" * 42)]
)
async def test_a_close_that_cannot_be_sent_is_an_error(app: App, code: int, reason: str) -> None:
    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        with pytest.raises(ValueError, match="close"):
            await ws.close(code, reason)

    assert (await socket(app, "/ws")).close == (1000, "")


@pytest.mark.feature("F004-44")
async def test_the_end_of_a_reading_handler_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    app = App(plugins=[], discover=False)
    log: list[str] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket, tasks: BackgroundTasks) -> None:
        tasks.add(log.append, "task")
        await ws.accept()
        while True:
            await ws.receive_text()

    seen = await talk(app, "/ws", "a", {"type": "websocket.disconnect", "code": 1001})
    assert (seen.error, log) == (None, ["task"])
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@pytest.mark.guarantee("G5")
async def test_a_disconnect_cancels_a_busy_handler_and_leaves_its_dependencies(app: App) -> None:
    log: list[str] = []

    async def connection() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            log.append("left")

    @app.websocket("/busy")
    async def busy(ws: WebSocket, value: int = Depends(connection)) -> None:
        await ws.accept()
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    seen = Socket(app, "/busy")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        await seen.until(lambda: seen.accepted)
        seen.leave()
    assert (log, seen.error) == (["cancelled", "left"], None)


async def test_messages_that_came_before_the_disconnect_can_still_be_read(app: App) -> None:
    got: list[Any] = []
    go_on = anyio.Event()

    @app.websocket("/slow")
    async def slow(ws: WebSocket) -> None:
        await ws.accept()
        await go_on.wait()
        got.extend([message async for message in ws])

    seen = Socket(app, "/slow")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        await seen.until(lambda: seen.accepted)
        for i in range(3):
            seen.say(str(i))
        seen.leave()
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert got == ["0", "1", "2"]


async def test_a_handler_that_never_reads_what_came_is_cancelled_after_a_grace() -> None:
    app = application(teardown_timeout=0.01)
    log: list[str] = []

    @app.websocket("/deaf")
    async def deaf(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    await talk(app, "/deaf", "never read", {"type": "websocket.disconnect"})
    assert log == ["cancelled"]


@pytest.mark.guarantee("G5")
@pytest.mark.parametrize("fails", [False, True])
async def test_dependencies_are_left_before_the_close(app: App, fails: bool) -> None:
    log: list[str] = []

    async def commits() -> AsyncIterator[int]:
        yield 1
        log.append("left")
        if fails:
            raise RuntimeError("secret")

    @app.websocket("/ws")
    async def handler(ws: WebSocket, value: int = Depends(commits)) -> None:
        await ws.accept()

    seen = Socket(app, "/ws")

    async def note(event: dict[str, Any]) -> None:
        log.append(event["type"])

    seen.on_send = note
    await seen.run()
    assert log == ["websocket.accept", "left", "websocket.close"]
    assert seen.close == ((1011, "internal error") if fails else (1000, ""))


async def test_a_server_that_raises_when_the_client_is_gone_closes_the_socket(app: App) -> None:
    caught: list[Any] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.send_text("a")
        except ConnectionClosed as exc:
            caught.append(exc.code)
            raise

    seen = Socket(app, "/ws")

    async def gone(event: dict[str, Any]) -> None:
        if event["type"] != "websocket.accept":
            raise ConnectionResetError

    seen.on_send = gone
    await seen.run()
    assert (seen.error, caught) == (None, [1006])


async def test_a_client_that_leaves_in_the_handshake_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    app = App(plugins=[], discover=False)

    async def slow(request: Any, call_next: Any) -> Any:
        while seen.untaken:  # noqa: ASYNC110  # until somebody has looked whether the client is still there
            await anyio.sleep(0.01)
        return await call_next(request)

    app.add_middleware(slow)

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text("a")

    seen = Socket(app, "/ws")
    seen.leave(1006)
    await seen.run()
    assert (seen.error, seen.messages) == (None, [])
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_no_task_is_left_behind(app: App) -> None:
    before = len(anyio.get_running_tasks())
    await socket(app, "/nowhere")  # starts the application's own tasks
    running = len(anyio.get_running_tasks())
    for _ in range(5):
        await talk(app, "/echo", "a", {"type": "websocket.disconnect"})
        await socket(app, "/nowhere")
    assert len(anyio.get_running_tasks()) == running >= before


@pytest.mark.feature("F004-42")
async def test_a_websocket_made_by_hand_needs_no_application() -> None:
    events = [
        {"type": "websocket.receive", "text": "a"},
        {"type": "websocket.disconnect", "code": 1001},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return events.pop(0)

    async def send(event: Any) -> None:
        sent.append(event)

    ws = WebSocket(receive, send)
    await ws.accept()
    assert await ws.receive_text() == "a"
    for _ in range(2):
        with pytest.raises(ConnectionClosed):
            await ws.receive_text()
    assert (ws.close_code, sent[0]["type"]) == (1001, "websocket.accept")
