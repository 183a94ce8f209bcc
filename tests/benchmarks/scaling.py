"""What microkit costs as an application grows: each row should be flat, or a straight line.

routes        CPU of a request to the last of 1 to 10,000 routes, and of start-up
dependencies  CPU of a request with up to 50 of them
middleware    CPU of a request through up to 20 of them
plugins       CPU from a bare interpreter to a ready application with up to 30 of them
sockets       memory of each of up to 5,000 open WebSockets; of the other frameworks too
"""

from __future__ import annotations

import gc
import json
import re
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import microkit_trie.plugin
from microkit import App, Call, Depends, Reply
from tests.benchmarks.cases import CASES, PEERS, Case, chosen
from tests.benchmarks.driving import Runner, started
from tests.benchmarks.environment import run
from tests.benchmarks.options import Options, save
from tests.benchmarks.startup import least
from tests.benchmarks.tables import Table, duration, ratio

SIZES = {
    "routes": (1, 10, 100, 1_000, 3_000, 10_000),
    "dependencies": (1, 10, 20, 30, 40, 50),
    "middleware": (0, 5, 10, 15, 20),
    "plugins": (0, 5, 10, 15, 20, 25, 30),
    "sockets": (1, 500, 1_000, 2_000, 3_000, 4_000, 5_000),
}
TITLES = {
    "routes": "Routes: CPU of a request to the last one",
    "dependencies": "Dependencies: CPU of a request",
    "middleware": "Middleware: CPU of a request",
    "plugins": "Plugins: CPU from a bare interpreter to ready",
    "sockets": "Open WebSockets: resident memory above none",
}
_TURN_NS = 60_000_000


def measure(options: Options) -> dict[str, Any]:
    """Run all parts; see `save` for what is returned."""
    import uvloop

    figures: dict[str, Any] = {}
    tables: list[Table] = []
    for part in chosen(options.only, list(SIZES), "part"):
        found: list[float]
        if part == "plugins":
            found, table = _plugins(options)
        elif part == "sockets":
            found, table = _sockets(options)
        else:
            found, table = uvloop.run(_requests(part, options))
        figures[part] = {"sizes": SIZES[part][: len(found)], "costs": found}
        tables.append(table)
        print(f"{part}: {table.notes[-1]}", flush=True)
    return {"figures": figures, "versions": {}, "tables": tables}


# -- requests ----------------------------------------------------------------------------------------------------------


async def _requests(part: str, options: Options) -> tuple[list[float], Table]:
    """Applications of all sizes at a time, in turns."""
    runners, builds = [], []
    async with AsyncExitStack() as stack:
        for size in SIZES[part]:
            app, case = _MAKERS[part](size)
            before = time.process_time_ns()
            await stack.enter_async_context(started(app))
            builds.append(time.process_time_ns() - before)
            runners.append(Runner(app, case))
        gc.collect()
        gc.freeze()
        best = [float("inf")] * len(runners)
        for _ in range(2 if options.quick else 8):
            for index, runner in enumerate(runners):
                best[index] = min(best[index], await runner.measure(_TURN_NS))
    rows = [
        [f"{size:,}", duration(cost), ratio(cost / best[0]), duration(build)]
        for size, cost, build in zip(SIZES[part], best, builds, strict=True)
    ]
    notes = [_line(SIZES[part], best, "ns")] if part != "routes" else []
    notes += [f"start-up: {_line(SIZES[part], builds, 'ns')}"] if part == "routes" else []
    columns = [part, "CPU per request", f"to {SIZES[part][0]}", "start-up"]
    return best, Table(TITLES[part], columns, rows, notes)


def _app() -> App:
    return App(plugins=[microkit_trie.plugin], discover=False)


def with_routes(count: int) -> tuple[App, Case]:
    """An application with many routes, and a request to the last."""
    app = _app()
    for number in range(count):

        async def handler(id: str) -> Any:
            return {"id": id}

        app.get(f"/api/v1/res{number}/{{id}}/act{number}")(handler)
    return app, Case("routes", "", f"/api/v1/res{count - 1}/{{id}}/act{count - 1}", b"")


def with_dependencies(count: int) -> tuple[App, Case]:
    """An application whose handler has many async dependencies."""

    def dependency(number: int) -> Any:
        async def value() -> int:
            return number

        return value

    # Written out as source, since the number of parameters varies.
    namespace: dict[str, Any] = {f"A{n}": Annotated[int, Depends(dependency(n))] for n in range(count)}
    names = ", ".join(f"d{n}: A{n}" for n in range(count))
    exec(f"async def handler({names}):\n    return {' + '.join(f'd{n}' for n in range(count))}", namespace)
    app = _app()
    app.get("/sum")(namespace["handler"])
    return app, Case("dependencies", "", "/sum", b"")


def with_middleware(count: int) -> tuple[App, Case]:
    """An application with many layers."""

    def layer() -> Any:
        async def middleware(call: Call, call_next: Any) -> Reply:
            return await call_next(call)

        return middleware

    app = _app()
    for _ in range(count):
        app.add_middleware(layer())

    @app.get("/hello")
    async def hello() -> Any:
        return {"hello": "world"}

    return app, Case("middleware", "", "/hello", b"")


_MAKERS = {"routes": with_routes, "dependencies": with_dependencies, "middleware": with_middleware}


# -- processes ---------------------------------------------------------------------------------------------------------

_PLUGINS = """
import types, asyncio, microkit
from dataclasses import dataclass
from microkit import App, MiddlewareSpec, Provider, hookimpl
from microkit.plugininfo import PluginInfo

def plugin(number):
    module = types.ModuleType(f"plugin{number}")
    class Service:
        pass
    async def layer(call, call_next):
        return await call_next(call)
    @hookimpl
    def microkit_middleware(app):
        return MiddlewareSpec(layer, automatic=True)
    @hookimpl
    def microkit_providers(app):
        return Provider(Service, Service)
    module.microkit_middleware, module.microkit_providers = microkit_middleware, microkit_providers
    module.microkit_plugin_info = PluginInfo(f"plugin{number}")
    return module

app = App(plugins=[plugin(number) for number in range(COUNT)], discover=False)
@app.get("/hello")
async def hello():
    return {"hello": "world"}
async def main():
    async with app.started():
        finish()
asyncio.run(main())
"""


def _plugins(options: Options) -> tuple[list[float], Table]:
    programs: dict[Any, str] = {count: f"COUNT = {count}\n{_PLUGINS}" for count in SIZES["plugins"]}
    best = least(programs | {"bare": "finish()"}, 3 if options.quick else 12)
    bare = best["bare"][0]
    costs = [(best[count][0] - bare) * 1e9 for count in SIZES["plugins"]]
    rows = [
        [str(count), duration(cost), ratio(cost / costs[0])]
        for count, cost in zip(SIZES["plugins"], costs, strict=True)
    ]
    notes = ["each plugin brings one middleware and one service", _line(SIZES["plugins"], costs, "ns")]
    return costs, Table(TITLES["plugins"], ["plugins", "CPU above a bare interpreter", "to none"], rows, notes)


def _sockets(options: Options) -> tuple[list[float], Table]:
    sizes = SIZES["sockets"]
    found: dict[str, list[int]] = {}
    for peer in chosen(options.peers, PEERS, "peer"):
        done = run("scaling", "--sockets-of", peer, capture_output=True)
        if done.returncode == 0:
            found[peer] = json.loads(done.stdout)
    ours = [float(each) for each in found.get("microkit_trie", [])]
    peers = list(found)
    rows = [
        [f"{size:,}", *(f"{found[peer][index] / 1024:.1f} MiB" for peer in peers)] for index, size in enumerate(sizes)
    ]
    rows.append(["each, of the last", *(f"{found[peer][-1] / sizes[-1]:.1f} KiB" for peer in peers)])
    notes = ["in process, without a server; resident memory in steps of the allocator"]
    if ours:
        notes.append(f"microkit: {_line(sizes, ours, 'KiB')}")
    return ours, Table(TITLES["sockets"], ["sockets", *peers], rows, notes)


async def _open_sockets(peer: str) -> list[int]:
    """KiB of resident memory above none, for each number of open WebSockets."""
    import asyncio
    import importlib

    from tests.benchmarks.cases import scope_of
    from tests.benchmarks.driving import discard

    app = importlib.import_module(f"tests.benchmarks.peers.with_{peer}").CASES["echo"]()
    tasks: list[Any] = []
    found: list[int] = []

    class Silent:
        """A client that opens the socket and says nothing."""

        def __init__(self) -> None:
            self.opened = False

        async def receive(self) -> Any:
            if self.opened:
                await asyncio.get_running_loop().create_future()
            self.opened = True
            return {"type": "websocket.connect"}

    async with started(app):
        for size in (20, *SIZES["sockets"]):  # the first ones warm up
            while len(tasks) < size + 20:
                tasks.append(asyncio.ensure_future(app(scope_of(CASES["echo"], "/echo"), Silent().receive, discard)))
            for _ in range(20):
                await asyncio.sleep(0)
            gc.collect()
            found.append(_resident())
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [max(each - found[0], 0) for each in found[1:]]


def _resident() -> int:
    found = re.search(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


def _line(sizes: Sequence[int], costs: Sequence[float], unit: str) -> str:
    """How well a straight line fits: its slope, and the largest distance from it in parts of the largest cost."""
    count = len(sizes)
    mean_size, mean_cost = sum(sizes) / count, sum(costs) / count
    spread = sum((size - mean_size) ** 2 for size in sizes)
    slope = sum((size - mean_size) * (cost - mean_cost) for size, cost in zip(sizes, costs, strict=True)) / spread
    off = max(
        abs(mean_cost + slope * (size - mean_size) - cost) for size, cost in zip(sizes, costs, strict=True)
    ) / max(costs)
    each = duration(slope) if unit == "ns" and slope > 0 else f"{slope:.1f} {unit}"
    return f"{each} for each further one; at most {off:.0%} off a straight line"


def main() -> None:
    """Run the parts, or be the process whose sockets are counted."""
    if sys.argv[1:2] == ["--sockets-of"]:
        import uvloop

        print(json.dumps(uvloop.run(_open_sockets(sys.argv[2]))))
        return
    save("scaling", measure, sys.argv[1:])


if __name__ == "__main__":
    main()
