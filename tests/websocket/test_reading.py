"""Who reads from the server: the handler itself, or the watch in its place while the handler is busy."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from microkit import App, ConnectionClosed, WebSocket
from tests.asgi_driver import Socket
from tests.websocket.support import application

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G10")]


class Counted(Socket):
    """A socket that notes how many events the application took, and how many of its tasks asked at a time."""

    taken = 0
    asking = 0
    most = 0

    async def run(self) -> Socket:
        receive = self._app_receives.receive

        async def counted() -> Any:
            self.asking += 1
            self.most = max(self.most, self.asking)
            try:
                event = await receive()
            finally:
                self.asking -= 1
            self.taken += 1
            return event

        async def asgi(scope: Any, _: Any, send: Any) -> None:
            await app(scope, counted, send)

        app, self.app = self.app, asgi
        return await super().run()


@pytest.fixture
def app() -> App:
    return application()


async def test_what_is_read_ahead_of_a_busy_handler_is_bounded_and_complete(app: App) -> None:
    resume = anyio.Event()
    got: list[str | bytes] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        got.append(await ws.receive())
        await resume.wait()
        got.extend([message async for message in ws])

    seen = Counted(app, "/ws")
    for number in range(100):
        seen.say(str(number))
    seen.leave()
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        taken = 0
        with anyio.fail_after(60):
            while seen.taken <= 2 or seen.taken > taken:  # the handshake, the first message, what is read ahead
                taken = seen.taken
                await anyio.sleep(0.2)
        resume.set()
    assert taken < 30
    assert got == [str(number) for number in range(100)]
    assert (seen.most, seen.error) == (1, None)


async def test_several_tasks_of_a_handler_share_the_messages_with_one_reader(app: App) -> None:
    got: list[str | bytes] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()

        async def take() -> None:
            async for message in ws:
                got.append(message)
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(take)

    seen = Counted(app, "/ws")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        for number in range(30):
            seen.say(str(number))
            await anyio.sleep(0.004)
        seen.leave()
    assert sorted(got, key=int) == [str(number) for number in range(30)]
    assert (seen.most, seen.error) == (1, None)


async def test_a_receive_that_is_given_up_loses_no_message(app: App) -> None:
    got: list[str | bytes] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        while not ws.closed:
            with anyio.move_on_after(0.002):
                while True:
                    got.append(await ws.receive())
            await anyio.sleep(0.06)

    seen = Counted(app, "/ws")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        for number in range(20):
            seen.say(str(number))
            await anyio.sleep(0.013)
        with anyio.fail_after(60):
            while len(got) < 20:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        seen.leave()
    assert got == [str(number) for number in range(20)]
    assert (seen.most, seen.error) == (1, None)


async def test_a_handler_that_only_sends_ends_with_its_client(app: App) -> None:
    ended: list[str] = []

    @app.websocket("/ws")
    async def ticker(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                await ws.send_text("tick")
                await anyio.sleep(0.01)
        finally:
            ended.append("cancelled")

    seen = Socket(app, "/ws")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        await seen.until(lambda: len(seen.sent) > 3)
        seen.leave()
        with anyio.fail_after(60):
            await seen.done.wait()
    assert (ended, seen.error) == (["cancelled"], None)


async def test_a_client_that_leaves_is_noticed_after_a_receive_was_given_up(app: App) -> None:
    ended: list[str] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        with anyio.move_on_after(0.2):  # by then somebody else has seen that the handler reads by itself
            await ws.receive()
        try:
            await ws.send_text("busy")
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    seen = Socket(app, "/ws")
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        await seen.until(lambda: seen.messages == ["busy"])
        seen.leave()
        with anyio.fail_after(60):
            await seen.done.wait()
    assert (ended, seen.error) == (["cancelled"], None)


@pytest.mark.parametrize("busy", [False, True])
async def test_a_client_that_is_gone_when_it_is_told_of_its_big_message_is_no_error(busy: bool) -> None:
    app = application(max_websocket_message=10)
    ended: list[str] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        try:
            if busy:
                await anyio.sleep_forever()
            await ws.receive()
        except ConnectionClosed as exc:
            ended.append(f"closed {exc.code}")
        finally:
            ended.append("ended")

    async def gone(event: Any) -> None:
        if event["type"] == "websocket.close":
            raise OSError

    seen = Socket(app, "/ws")
    seen.on_send = gone
    seen.say("x" * 11)
    async with anyio.create_task_group() as group:
        group.start_soon(seen.run)
        with anyio.fail_after(60):
            await seen.done.wait()
    assert seen.error is None
    assert ended == (["ended"] if busy else ["closed 1009", "ended"])


async def test_a_handler_that_hears_of_the_end_when_it_sends_may_clean_up(app: App) -> None:
    log: list[str] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                await ws.send_text("tick")
        except ConnectionClosed:
            await anyio.sleep(0.2)
            log.append("cleaned up")

    async def gone(event: Any) -> None:
        if event["type"] == "websocket.send":
            raise OSError

    seen = Socket(app, "/ws")
    seen.on_send = gone
    seen.leave()
    await seen.run()
    assert (log, seen.error) == (["cleaned up"], None)
