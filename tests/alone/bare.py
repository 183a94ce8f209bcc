"""Runs in an environment with the kernel and its two dependencies only: one request in process, answered."""

import asyncio
import json

from microkit import App, Request

app = App()


@app.get("/hello/{name}")
async def hello(name: str) -> dict[str, str]:
    return {"hello": name}


async def main() -> None:
    reply = await app.handle(Request("GET", "/hello/kernel"))
    assert reply.http_status == 200, reply
    assert json.loads(reply.body) == {"hello": "kernel"}, reply.body


asyncio.run(main())
