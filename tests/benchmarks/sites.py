"""Sites of the auto router in process, against explicit routes of the kernel that answer the same.

Run it with `python tests/benchmarks/sites.py [requests]`. Both sides of a row take turns in one event loop; printed is
the best CPU time of a request in nanoseconds, without that of the loop around it, and the ratio.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import microkit_trie.plugin
from microkit import App, Request
from microkit_auto import App as SiteApp

_ROUNDS = 25
routes = App(plugins=[microkit_trie.plugin], discover=False)


@routes.get("/hello")
async def hello() -> Any:
    return {"hello": "world"}


@routes.get("/greet/{name}")
async def greet(name: str) -> Any:
    return {"hello": name}


@routes.get("/search")
async def search(text: str, limit: int) -> Any:
    return {"text": text, "limit": limit}


@routes.get("/method")
async def method(request: Request) -> Any:
    return request.method


class Site(SiteApp):
    """The same pages."""

    async def hello(self) -> Any:
        return {"hello": "world"}

    async def greet(self, name: str = "Guest") -> Any:
        return {"hello": name}

    async def search(self, text: str, limit: int) -> Any:
        return {"text": text, "limit": limit}

    async def method(self) -> Any:
        return self.request.method


site = Site(discover=False)
beside = Site(plugins=[microkit_trie.plugin], discover=False)
beside.get("/other/{name:int}")(lambda name: name)

CASES = (
    ("hello, JSON", "/hello", b""),
    ("one argument in the path", "/greet/Alice", b""),
    ("two query values", "/search", b"text=tea+cup&limit=20"),
    ("the request", "/method", b""),
)


def _scope(path: str, query: bytes) -> dict[str, Any]:
    headers = [(b"host", b"127.0.0.1"), (b"accept", b"*/*"), (b"user-agent", b"benchmark")]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "root_path": "", "headers": headers}
    return {**scope, "raw_path": path.encode(), "http_version": "1.1", "scheme": "http"}


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _answer(app: App, path: str, query: bytes) -> Any:
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    await app(_scope(path, query), _receive, send)
    return sent[0]["status"], sent[1]["body"]


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    return


async def _send(event: Any) -> None:
    return


async def _measure(way: Any, path: str, query: bytes, count: int) -> float:
    """Nanoseconds of CPU of one request. The scopes are made beforehand."""
    scopes = [_scope(path, query) for _ in range(count)]
    start = time.thread_time_ns()
    for scope in scopes:
        await way(scope, _receive, _send)
    return (time.thread_time_ns() - start) / count


async def main() -> None:
    """Print one row per case."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("| request | routes (CPU ns) | site (CPU ns) | ratio | site beside routes |\n|---|---|---|---|---|")
    async with routes.started(), site.started(), beside.started():
        for name, path, query in CASES:
            answers = [await _answer(app, path, query) for app in (routes, site, beside)]
            if any(answer != answers[0] for answer in answers):
                raise SystemExit(f"{name}: the answers differ: {answers}")
            best = {way: float("inf") for way in (_nothing, routes, site, beside)}
            for _ in range(_ROUNDS):
                for way in best:
                    best[way] = min(best[way], await _measure(way, path, query, count))
            loop, explicit, ours, both = best.values()
            ratio = (ours - loop) / (explicit - loop)
            print(f"| {name} | {explicit - loop:,.0f} | {ours - loop:,.0f} | {ratio:.2f}x | {both - loop:,.0f} |")


if __name__ == "__main__":
    asyncio.run(main())
