"""Requests as a server makes them, to an application on each of the routers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import anyio
import pytest

import microkit_trie.plugin
from microkit import App


@dataclass
class Answer:
    """What a client gets."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def allow(self) -> set[str]:
        """The methods of the `Allow` header."""
        return set(self.headers["allow"].split(", "))


Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture(params=["linear", "trie"])
def new_app(request: pytest.FixtureRequest) -> Callable[..., App]:
    """Makes applications, on the kernel's own router and on the trie."""
    plugins = [microkit_trie.plugin] if request.param == "trie" else []

    def make(**settings: Any) -> App:
        return App(plugins=plugins, discover=False, router=request.param, settings={"app": settings})

    return make


@pytest.fixture
def app(new_app: Callable[..., App]) -> App:
    """An application with the default settings."""
    return new_app()


@pytest.fixture
def ask() -> Ask:
    """Sends one request: `await ask(app, "GET", "/a%2Fb?x=1")`; further arguments are keys of the ASGI scope."""

    async def send_request(app: App, method: str, target: str, **scope: Any) -> Answer:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"shop.example")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            **scope,
        }
        answer = Answer()
        waiting = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not waiting:
                await anyio.sleep_forever()  # a client that stays
            return waiting.pop()

        async def send(event: Any) -> None:
            if event["type"] == "http.response.start":
                answer.status = event["status"]
                answer.headers = {name.decode(): value.decode() for name, value in event["headers"]}
            else:
                answer.body += event.get("body", b"")

        async with app.started():
            await app(scope, receive, send)
        return answer

    return send_request
