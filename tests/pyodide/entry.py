"""Runs inside Pyodide: an app from source folders without package metadata answers one request in process."""

import json
import sys

_before = set(sys.modules)

import microkit_trie.plugin  # noqa: E402 - what the imports bring along is what is measured
from microkit import App, Request  # noqa: E402

app = App(plugins=[microkit_trie.plugin], discover=False)


@app.get("/hello/{name}")
async def hello(name: str) -> dict[str, str]:
    return {"hello": name}


async def main() -> str:
    """The answer and the modules that it took, as JSON for the test."""
    reply = await app.handle(Request("GET", "/hello/pyodide"))
    return json.dumps(
        {
            "status": reply.http_status,
            "body": bytes(reply.body).decode(),
            "modules": sorted(set(sys.modules) - _before),
            "python": sys.version.split()[0],
        }
    )
