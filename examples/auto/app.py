"""A site whose URLs are its methods."""

from collections.abc import AsyncIterator
from typing import Any

from microkit_auto import App, HttpMiddleware, WebSocket

log: list[str] = []


class Watch(HttpMiddleware):
    """Writes down what comes and what goes, errors included."""

    async def before_request(self, request: Any) -> None:
        log.append(f"before {request.path}")

    async def after_request(
        self, request: Any, status_code: int, response_body: Any, extra_headers: list[tuple[str, str]]
    ) -> dict[str, Any]:
        log.append(f"after {status_code}")
        return {"headers": [("x-frame-options", "DENY")]}


class Site(App):
    """Every public method is a page."""

    async def index(self) -> str:
        """`/`"""
        return "Welcome to microkit."

    async def greet(self, name: str = "Guest") -> str:
        """`/greet`, `/greet/Alice`, `/greet?name=Alice`"""
        return f"Hello, {name}!"

    async def hello(self) -> str:
        """`/hello?name=Alice`, by way of the request"""
        name = self.request.query_params.get("name", ["nobody"])[0]
        return f"Hello {name}!"

    async def submit(self, username: str = "Anonymous") -> str:
        """A field of a form or a member of a JSON object"""
        return f"Form submitted by: {username}"

    async def submit_catch_all(self) -> str:
        """The same by way of the request"""
        username = self.request.body_params.get("username", ["Anonymous"])[0]
        return f"Submitted by: {username}"

    async def total(self, *numbers: str) -> dict[str, int]:
        """`/total/1/2/3`"""
        return {"total": sum(int(number) for number in numbers if number.isdecimal())}

    async def stream(self) -> AsyncIterator[str]:
        """Sent piece by piece"""

        async def pieces() -> AsyncIterator[str]:
            for i in range(1, 6):
                yield f"Chunk {i}\n"

        return pieces()

    async def leave(self) -> Any:
        """To the start"""
        return self._redirect("/")

    async def ws_echo(self, ws: WebSocket) -> None:
        """`ws://.../echo`"""
        await ws.accept()
        while True:
            message = await ws.receive_text()
            await ws.send_text(f"Echo: {message}")

    async def _hidden(self) -> str:
        return "no URL leads here"


app = Site()
app.middlewares.append(Watch())
