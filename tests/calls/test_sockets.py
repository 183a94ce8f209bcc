"""How a socket's handler and its receive pump share the connection."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from microkit import App, WebSocket

pytestmark = pytest.mark.anyio


async def test_a_handler_that_receives_at_once_never_reads_beside_the_pump() -> None:
    app = App(discover=False)
    got: list[str | bytes] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        got.extend([message async for message in ws])

    send, receive = anyio.create_memory_object_stream[dict[str, Any]](10)

    async def answer(message: dict[str, Any]) -> None:
        """Does not suspend, so the handler runs on before any other task does."""

    scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": [], "subprotocols": []}
    async with app.started(), send, receive:
        send.send_nowait({"type": "websocket.connect"})
        async with anyio.create_task_group() as group:
            group.start_soon(app, scope, receive.receive, answer)
            for text in "abc":
                await anyio.wait_all_tasks_blocked()
                send.send_nowait({"type": "websocket.receive", "text": text})
            await anyio.wait_all_tasks_blocked()
            send.send_nowait({"type": "websocket.disconnect", "code": 1000})
    assert got == ["a", "b", "c"]
