"""What the WebSocket tests share."""

from __future__ import annotations

from typing import Any

from microkit import App
from tests.asgi_driver import Socket

DENIAL = {"extensions": {"websocket.http.response": {}}}


def application(**settings: Any) -> App:
    return App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL", **settings}})


async def talk(app: App, target: str, *messages: Any, headers: dict[str, str] | None = None, **changes: Any) -> Socket:
    """A client that says all `messages` at once and goes away when the app has said nothing more to come."""
    seen = Socket(app, target, headers, **changes)
    for message in messages:
        if isinstance(message, dict):
            seen.give(message)
        else:
            seen.say(message)
    return await seen.run()
