"""Sites of the auto router in process, against explicit routes of the kernel that answer the same.

Run it with `python tests/benchmarks/sites.py [requests]`. Both sides of a row take turns in one event loop; printed is
the best CPU time of a request in nanoseconds, without that of the loop around it, and the ratio.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from requests_in_process import Case, _ask, _measure, _nothing, raw_hello

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
    Case("hello, JSON", raw_hello, "/hello"),
    Case("one argument in the path", raw_hello, "/greet/Alice"),
    Case("two query values", raw_hello, "/search", query=b"text=tea+cup&limit=20"),
    Case("the request", raw_hello, "/method"),
)


async def main() -> None:
    """Print one row per case."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("| request | routes (CPU ns) | site (CPU ns) | ratio | site beside routes |\n|---|---|---|---|---|")
    async with routes.started(), site.started(), beside.started():
        for case in CASES:
            answers = [await _ask(app, case) for app in (routes, site, beside)]
            if any(answer != answers[0] for answer in answers):
                raise SystemExit(f"{case.name}: the answers differ: {answers}")
            best = {way: float("inf") for way in (_nothing, routes, site, beside)}
            for _ in range(_ROUNDS):
                for way in best:
                    best[way] = min(best[way], await _measure(way, case, count))
            loop, explicit, ours, both = best.values()
            ratio = (ours - loop) / (explicit - loop)
            print(f"| {case.name} | {explicit - loop:,.0f} | {ours - loop:,.0f} | {ratio:.2f}x | {both - loop:,.0f} |")


if __name__ == "__main__":
    asyncio.run(main())
