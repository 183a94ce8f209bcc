"""CPU time and memory of fresh processes: importing each framework, and an application with one route made ready.

All is above what a bare interpreter takes; the programs take turns and the least of several rounds counts. `ready`
drives the ASGI lifespan on asyncio up to the end of start-up, so it includes asyncio itself: see the row of raw ASGI.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tests.benchmarks.cases import PEERS, chosen
from tests.benchmarks.environment import ROOT, environ
from tests.benchmarks.options import Options, save
from tests.benchmarks.tables import Table

# What is imported, and what makes an application with a route `/hello`, named `app`.
_IMPORTS = {
    "raw": "pass",
    "microkit_trie": "import microkit",
    "microkit_auto": "import microkit_auto",
    "lihil": "import lihil",
    "muffin": "import muffin",
    "falcon": "import falcon.asgi",
    "blacksheep": "import blacksheep",
    "starlette": "import starlette.applications, starlette.routing, starlette.responses",
    "micropie": "import micropie",
    "litestar": "import litestar",
    "fastapi": "import fastapi",
}
_APPLICATIONS = {
    "raw": """
async def app(scope, receive, send):
    pass
""",
    "microkit_trie": """
import microkit, microkit_trie.plugin
app = microkit.App(plugins=[microkit_trie.plugin], discover=False)
@app.get('/hello')
async def hello():
    return {'hello': 'world'}
""",
    "microkit_auto": """
import microkit_auto
class Root(microkit_auto.App):
    async def hello(self):
        return {'hello': 'world'}
app = Root(discover=False)
""",
    "lihil": """
from lihil import Lihil, Route
async def hello() -> dict[str, str]:
    return {'hello': 'world'}
route = Route('/hello')
route.get(hello)
app = Lihil(route)
""",
    "muffin": """
import muffin
app = muffin.Application()
@app.route('/hello')
async def hello(request):
    return {'hello': 'world'}
""",
    "falcon": """
import falcon.asgi
class Hello:
    async def on_get(self, req, resp):
        resp.media = {'hello': 'world'}
app = falcon.asgi.App()
app.add_route('/hello', Hello())
""",
    "blacksheep": """
from blacksheep import Application
app = Application()
@app.router.get('/hello')
async def hello():
    return {'hello': 'world'}
""",
    "starlette": """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
async def hello(request):
    return JSONResponse({'hello': 'world'})
app = Starlette(routes=[Route('/hello', hello)])
""",
    "micropie": """
import micropie
class Root(micropie.App):
    async def hello(self):
        return {'hello': 'world'}
app = Root()
""",
    "litestar": """
from litestar import Litestar, get
@get('/hello')
async def hello() -> dict[str, str]:
    return {'hello': 'world'}
app = Litestar([hello], openapi_config=None)
""",
    "fastapi": """
from fastapi import FastAPI
app = FastAPI()
@app.get('/hello')
async def hello() -> dict[str, str]:
    return {'hello': 'world'}
""",
}
_WHAT = ("import", "ready")
_READY = """
import asyncio
async def main():
    up, down = {"type": "lifespan.startup"}, asyncio.get_running_loop().create_future()
    ready = asyncio.Event()
    async def receive():
        nonlocal up
        given, up = up, None
        return given or await down
    async def send(event):
        assert event["type"] == "lifespan.startup.complete", event
        ready.set()
    task = asyncio.ensure_future(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send))
    waiting = asyncio.ensure_future(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    assert ready.is_set() or RAW, "the start-up failed"
    finish()
asyncio.run(main())
"""
# Ends at once, so that shutdown is not counted; peak memory is the process's own, not what it had of its parent.
_FINISH = """
def finish():
    import os, re, resource
    with open("/proc/self/status") as status:
        peak = re.search(r"VmHWM:\\s*(\\d+)", status.read())[1]
    used = resource.getrusage(resource.RUSAGE_SELF)
    os.write(1, f"{used.ru_utime + used.ru_stime} {peak}".encode())
    os._exit(0)
"""


def measure(options: Options) -> dict[str, Any]:
    """Run all frameworks; see `save` for what is returned."""
    peers, notes = [], []
    for peer in chosen(options.peers, PEERS, "peer"):
        try:
            for what in _WHAT:
                spent(_program(peer, what))
        except RuntimeError as exc:
            notes.append(f"{peer} is not there: {exc}")
        else:
            peers.append(peer)
    programs = {("", ""): "finish()"} | {(peer, what): _program(peer, what) for peer in peers for what in _WHAT}
    best = least(programs, 3 if options.quick else 15)
    bare, bare_memory = best.pop(("", ""))
    rows, figures = [], {}
    for peer in peers:
        (imported, memory), (ready, ready_memory) = best[peer, "import"], best[peer, "ready"]
        figures[peer] = {"import": imported - bare, "ready": ready - bare, "memory": ready_memory}
        cells = (f"{(imported - bare) * 1e3:.0f} ms", f"{(ready - bare) * 1e3:.0f} ms")
        rows.append([peer, *cells, f"{memory / 1024:.1f} MiB", f"{ready_memory / 1024:.1f} MiB"])
    title = f"Start-up, CPU above a bare interpreter ({bare * 1e3:.0f} ms, {bare_memory / 1024:.1f} MiB)"
    columns = ["framework", "import", "one route ready", "memory after import", "memory when ready"]
    return {"figures": figures, "versions": {}, "tables": [Table(title, columns, rows, notes)]}


def _program(peer: str, what: str) -> str:
    if what == "import":
        return f"{_IMPORTS[peer]}\nfinish()"
    return f"RAW = {peer == 'raw'}\n{_APPLICATIONS[peer]}\n{_READY}"


def spent(program: str) -> tuple[float, int]:
    """CPU seconds and peak memory in KiB of a program that ends by `finish()`.

    Raises:
        RuntimeError: it fails.
    """
    command = [sys.executable, "-c", _FINISH + program]
    done = subprocess.run(command, cwd=ROOT, env=environ(), capture_output=True, text=True, check=False, timeout=120)
    try:
        used, peak = done.stdout.split()[-2:]
        return float(used), int(peak)
    except ValueError:
        raise RuntimeError(done.stderr.strip().rpartition(os.linesep)[2] or "no answer") from None


def least(programs: dict[Any, str], rounds: int) -> dict[Any, tuple[float, int]]:
    """The least CPU seconds and peak KiB of each program; they take turns."""
    best: dict[Any, tuple[float, int]] = {}
    for _ in range(rounds):
        for name, program in programs.items():
            used, peak = spent(program)
            before = best.get(name, (used, peak))
            best[name] = min(before[0], used), min(before[1], peak)
    return best


if __name__ == "__main__":
    save("startup", measure, sys.argv[1:])
