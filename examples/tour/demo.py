"""Serve the shop on a free port, drive every entry point for real, print what happens, and stop.

With a terminal on standard input it keeps serving until Ctrl-C.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import sys
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from app import app
from websockets.sync.client import connect

from microkit import PublicError
from microkit.broker import Broker, OutgoingMessage
from microkit.host import Host


def free_port() -> int:
    """A port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def request(port: int, method: str, path: str, body: Any = None) -> str:
    """One HTTP request over a socket of its own; the status and the body as text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"content-type": "application/json"} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
        allow = response.getheader("allow")
        return f"{response.status} {text[:160]!r}" + (f" Allow: {allow}" if allow else "")
    finally:
        connection.close()


def chat(port: int, *messages: str) -> list[str]:
    """Say something over a WebSocket; the answers."""
    answers = []
    with connect(f"ws://127.0.0.1:{port}/chat", proxy=None) as ws:
        for message in messages:
            ws.send(message)
            answers.append(str(ws.recv(timeout=30)))
    return answers


async def in_thread(func: Any, *args: Any) -> Any:
    """The clients block; they run in threads beside the server."""
    return await anyio.to_thread.run_sync(partial(func, *args))


async def drive(port: int) -> None:
    """Every kind of call, one after the other."""
    print("\n== HTTP")
    for method, path, body in (
        ("GET", "/stock/tea", None),
        ("POST", "/orders", {"item": "tea", "amount": 2}),
        ("POST", "/orders", {"item": "tea", "amount": "many"}),
        ("POST", "/orders", {"item": "gold"}),
        ("GET", "/countdown?start=3", None),
        ("DELETE", "/orders", None),
        ("GET", "/nowhere", None),
    ):
        print(f"{method} {path} -> {await in_thread(request, port, method, path, body)}")

    print("\n== WebSocket")
    print(f"/chat -> {await in_thread(chat, port, 'hello', 'bye')}")

    print("\n== Remote procedure, in process")
    print(f"orders.create -> {await app.call('orders.create', item='cup')}")
    try:
        await app.call("orders.create", item="gold")
    except PublicError as error:
        print(f"orders.create -> {error.status.name}: {error.detail}")

    print("\n== Event, over the embedded broker")
    broker = await app.container.get(Broker)
    for payload in ({"item": "cup"}, {"item": "gold"}):
        await broker.publish("web", "order_wanted", OutgoingMessage(json.dumps(payload).encode()))
    queue = "web.order_wanted__shop.create_order"
    with anyio.fail_after(30):
        while (state := await broker.state(queue)).ready or state.unsettled:  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.01)
    async for letter in broker.dead_letters(queue):
        print(f"dead letter {letter.message.body.decode()}: {letter.reason}")

    print("\n== Timer: two firings")
    await anyio.sleep(1.2)

    print("\n== Endpoint page")
    print(f"GET /__endpoints__ -> {await in_thread(request, port, 'GET', '/__endpoints__')}")


async def main() -> None:
    """Run host and clients side by side."""
    port = free_port()
    host = Host(app, options={"host": "127.0.0.1", "port": port})
    async with anyio.create_task_group() as group:
        group.start_soon(host.serve)
        await host.opened.wait()
        await drive(port)
        if sys.stdin is not None and sys.stdin.isatty():
            print(f"\nserving on http://127.0.0.1:{port} until Ctrl-C; endpoints at /__endpoints__")
        else:
            print("\n== Shutdown")
            host.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="    ! %(name)s: %(message)s")
    anyio.run(main)
