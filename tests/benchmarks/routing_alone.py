"""Matching alone, without requests: 1,000 routes `/api/v1/resN/{id}/actN` in each router.

Every match has another id. The routers of microkit take segments that are split already, as their kernel does once per
request, so the splitting is part of their time here. python-matchit is a router in Rust.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from microkit.routing import Converters, RouteEntry, parse_pattern
from microkit.routing.matching import LINEAR
from microkit_trie import TRIE
from tests.benchmarks.cases import IDS, ROUTES, deep_routes
from tests.benchmarks.options import Options, save
from tests.benchmarks.tables import Table, duration, ratio
from tests.benchmarks.turns import best_of

Find = Callable[[str], Any]


def measure(options: Options) -> dict[str, Any]:
    """Run all routers; see `save` for what is returned."""
    finders, builds, notes = {}, {}, []
    for name, make in (
        ("microkit trie", _ours(TRIE)),
        ("microkit linear", _ours(LINEAR)),
        ("python-matchit", _matchit),
        ("litestar trie", _litestar),
        ("falcon compiled", _falcon),
    ):
        start = time.thread_time_ns()
        try:
            finders[name] = make()
            finders[name]("/api/v1/res7/1/act7")  # falcon compiles on first use
        except ImportError as exc:
            notes.append(f"{name} is not there: {exc}")
            continue
        builds[name] = time.thread_time_ns() - start
        assert finders[name]("/api/v1/res999/5/act999") is not None, name
        assert finders[name]("/api/v1/res999/5/nothing") is None, name
    last = ROUTES - 1
    paths = {
        "the first": [f"/api/v1/res0/{number}/act0" for number in range(IDS)],
        "the last": [f"/api/v1/res{last}/{number}/act{last}" for number in range(IDS)],
        "a miss": [f"/api/v1/res{last}/{number}/nothing" for number in range(IDS)],
    }
    found = {which: best_of(finders, given, 5 if options.quick else 25) for which, given in paths.items()}
    rows = []
    for name in finders:
        cells = [f"{duration(taken[name])} ({ratio(taken[name] / taken['microkit trie'])})" for taken in found.values()]
        rows.append([name, *cells, duration(builds[name])])
    title = "Matching alone, 1,000 routes (ratio to microkit trie)"
    table = Table(title, ["router", *found, "build"], rows, notes)
    return {"figures": {"match": found, "build": builds}, "versions": {}, "tables": [table]}


def _ours(spec: Any) -> Callable[[], Find]:
    def make() -> Find:
        converters = Converters()
        entries = [RouteEntry("GET", parse_pattern(path, converters), path) for path in deep_routes(ROUTES)]
        match = spec.build(entries).match
        return lambda path: match("GET", path[1:].split("/"))

    return make


def _matchit() -> Find:
    from matchit import Router

    router: Any = Router()
    for path in deep_routes(ROUTES):
        router.insert(path, path)

    def find(path: str) -> Any:
        try:
            return router.at(path)
        except LookupError:
            return None

    return find


def _litestar() -> Find:
    from litestar import Litestar, get
    from litestar.exceptions import NotFoundException

    async def handler(id: str) -> None:
        return

    routes = [get(path)(handler) for path in deep_routes(ROUTES, "{id:str}")]
    resolve = Litestar(route_handlers=routes, openapi_config=None).asgi_router.handle_routing

    def find(path: str) -> Any:
        try:
            return resolve(path=path, method="GET")
        except NotFoundException:
            return None

    return find


def _falcon() -> Find:
    from falcon.routing import CompiledRouter

    class Resource:
        def on_get(self, req: Any, resp: Any, id: str) -> None:
            return

    router, resource = CompiledRouter(), Resource()
    for path in deep_routes(ROUTES):
        router.add_route(path, resource)
    return router.find


if __name__ == "__main__":
    save("routing_alone", measure, sys.argv[1:])
