"""Drives an ASGI application without a server: its lifespan, one checked exchange, and many measured ones."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any

from tests.benchmarks.cases import IDS, MESSAGE, Case, scope_of

_BATCH_NS = 4_000_000  # of CPU: short enough that some batches are not disturbed


class Client:
    """The client of one request: it sends one message, and is gone once the reply is complete."""

    __slots__ = ("body", "complete", "read", "waiting")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.read = self.complete = False
        self.waiting: asyncio.Future[None] | None = None

    async def receive(self) -> dict[str, Any]:
        if not self.read:
            self.read = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        while not self.complete:
            self.waiting = asyncio.get_running_loop().create_future()
            await self.waiting
        return {"type": "http.disconnect"}

    async def send(self, event: Any) -> None:
        """Only where it matters: frameworks that stream wait for the client to leave."""
        if not event.get("more_body") and event["type"] == "http.response.body":
            self.complete = True
            if self.waiting is not None and not self.waiting.done():
                self.waiting.set_result(None)


class Socket:
    """The client of a WebSocket: it sends a message, waits for the echo, and so on, and leaves.

    Every message arrives in a later step of the event loop, as from a network, so every application waits for it.
    """

    def __init__(self, count: int) -> None:
        self.left = count
        self.handshake = self.arrived = False
        self.waiting: asyncio.Future[None] | None = None
        self.loop = asyncio.get_running_loop()

    async def receive(self) -> dict[str, Any]:
        if not self.handshake:
            self.handshake = True
            return {"type": "websocket.connect"}
        while not self.arrived:
            self.waiting = self.loop.create_future()
            await self.waiting
        self.arrived = False
        if not self.left:
            return {"type": "websocket.disconnect", "code": 1000, "reason": ""}
        self.left -= 1
        return {"type": "websocket.receive", "text": MESSAGE}

    async def send(self, event: Any) -> None:
        self.loop.call_soon(self._arrive)

    def _arrive(self) -> None:
        self.arrived = True
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)


async def discard(event: Any) -> None:
    """A server that sends nowhere."""
    return


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that does nothing: what the loop around the others costs."""
    return


@asynccontextmanager
async def started(app: Any) -> Any:
    """Run the lifespan of an application, if it has one, around the block.

    Raises:
        RuntimeError: start-up failed.
    """
    to_app: asyncio.Queue[Any] = asyncio.Queue()
    from_app: asyncio.Queue[Any] = asyncio.Queue()
    to_app.put_nowait({"type": "lifespan.startup"})
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    task = asyncio.ensure_future(app(scope, to_app.get, from_app.put))
    answer = asyncio.ensure_future(from_app.get())
    await asyncio.wait([task, answer], return_when=asyncio.FIRST_COMPLETED)
    supported = answer.done()
    if supported and (event := answer.result())["type"] == "lifespan.startup.failed":
        raise RuntimeError(event.get("message", "the start-up failed"))
    try:
        yield
    finally:
        answer.cancel()
        if supported:
            to_app.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait([task], timeout=10)
        task.cancel()
        await asyncio.gather(task, answer, return_exceptions=True)


async def check(app: Any, case: Case, number: int, shape: str | None = None) -> str:
    """What is wrong with the answer to one request; empty if it is the right one."""
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)
        await client.send(event)

    scope = scope_of(case, case.path_of(number, shape))
    client = Socket(3) if case.kind == "socket" else Client(case.body)
    try:
        await asyncio.wait_for(app(scope, client.receive, send), 10)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"
    if case.kind == "socket":
        texts = [event.get("text") for event in sent if event["type"] == "websocket.send"]
        return "" if texts == [MESSAGE] * 3 else f"it echoes {texts}"
    if not sent or sent[0]["type"] != "http.response.start":
        return f"it sends {sent[:1]}"
    status = sent[0]["status"]
    body = b"".join(event.get("body", b"") for event in sent[1:])
    given = {name.lower(): value for name, value in sent[0].get("headers", ())}
    if status != 200 or body != case.answer_to(number):
        return f"it answers {status} {body[:200]!r}, not 200 {case.answer_to(number)[:200]!r}"
    if not given.get(b"content-type", b"").startswith(case.media_type):
        return f"its content type is {given.get(b'content-type')!r}"
    if case.name == "stream" and len([event for event in sent if event.get("body")]) != 1_000:
        return "it merges chunks"
    return ""


class Runner:
    """Measures one application and case, turn by turn.

    Args:
        app: the application, started.
        case: what it is asked.
        shape: the path that it has instead, if any.
    """

    def __init__(self, app: Any, case: Case, shape: str | None = None) -> None:
        self._app = app
        self._case = case
        varied = "{id}" in case.path
        self._paths = cycle([case.path_of(number, shape) for number in range(IDS if varied else 1)])
        self._size = 0

    async def measure(self, nanoseconds: int) -> float:
        """The best CPU time of one request, message or stream.

        Args:
            nanoseconds: how much CPU time to spend.
        """
        batch = self._sockets if self._case.kind == "socket" else self._requests
        while not self._size:
            size, taken = 1, 0
            while taken < _BATCH_NS // 2:
                size *= 2
                taken = await batch(size)
            self._size = max(1, size * _BATCH_NS // max(taken, 1))
        best, spent = float("inf"), 0
        while spent < nanoseconds:
            taken = await batch(self._size)
            spent += taken
            best = min(best, taken / self._size)
        return best

    async def _requests(self, count: int) -> int:
        app, case = self._app, self._case
        clients = [Client(case.body) for _ in range(count)]
        streams = case.name == "stream"
        calls = [
            (scope_of(case, next(self._paths)), client.receive, client.send if streams else discard)
            for client in clients
        ]
        start = time.thread_time_ns()
        for scope, receive, send in calls:
            await app(scope, receive, send)
        return time.thread_time_ns() - start

    async def _sockets(self, count: int) -> int:
        client, scope = Socket(count), scope_of(self._case, self._case.path)
        start = time.thread_time_ns()
        await self._app(scope, client.receive, client.send)
        return time.thread_time_ns() - start
