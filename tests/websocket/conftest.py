"""The application of the WebSocket tests."""

from __future__ import annotations

import pytest

from microkit import App, WebSocket
from tests.websocket.support import application


@pytest.fixture
def app() -> App:
    app = application()

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            if isinstance(message, str):
                await ws.send_text(message)
            else:
                await ws.send_bytes(message)

    return app
