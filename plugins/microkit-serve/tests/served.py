"""The application that the tests serve: `python served.py BACKEND SERVER`, or `served:app` for a server's program."""

import os
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import anyio.lowlevel

from microkit import App, BackgroundTasks, Depends, Request, StreamingResponse, WebSocket

app = App(settings={"app": {"max_body_size": 1000, "max_websocket_message": 1000}})


async def transaction() -> AsyncIterator[str]:
    try:
        yield "transaction"
    finally:
        await anyio.lowlevel.checkpoint()
        print("transaction ended")


@app.on_startup
def up() -> None:
    if os.environ.get("FAIL"):
        raise ValueError("no database")
    print("started")


@app.on_shutdown
def down() -> None:
    print("shut down")


@app.get("/")
async def hello() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/echo")
async def echo(request: Request) -> bytes:
    return await request.body()


@app.get("/version")
async def version(request: Request) -> str:
    return request.scope["http_version"]


@app.get("/boom")
async def boom() -> None:
    raise ValueError("secret detail")


@app.get("/stream")
async def stream(transaction: Annotated[str, Depends(transaction)]) -> StreamingResponse:
    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await anyio.sleep(0.01)
        finally:
            print("generator closed")

    return StreamingResponse(endless())


@app.get("/broken-stream")
async def broken_stream() -> StreamingResponse:
    async def broken() -> AsyncIterator[bytes]:
        yield b"first"
        raise ValueError("in the middle")

    return StreamingResponse(broken())


@app.get("/background")
async def background(tasks: BackgroundTasks) -> str:
    release = anyio.Event()
    releases.append(release)

    async def work() -> None:
        print("background begun")
        await release.wait()
        print("background done")

    tasks.add(work)
    return "accepted"


releases: list[Any] = []


@app.get("/release")
async def release() -> None:
    releases.pop().set()


@app.websocket("/ws")
async def socket(ws: WebSocket, transaction: Annotated[str, Depends(transaction)]) -> None:
    await ws.accept()
    async for message in ws:
        await (ws.send_text(message) if isinstance(message, str) else ws.send_bytes(message))


if __name__ == "__main__":
    certificate = dict(zip(("certfile", "keyfile"), sys.argv[3:], strict=False))
    app.run(sys.argv[2], backend=sys.argv[1], port=0, **certificate)
