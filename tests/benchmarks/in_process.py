"""Requests in process: the CPU time that each framework takes, in turns, without a server.

    python -m tests.benchmarks.run in_process --only hello,routes --peers starlette,lihil

One process per framework; they take turns, and the best of many short batches counts, less what the loop around the
calls takes. Only CPU time of the thread that serves is counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.benchmarks.cases import CASES, PEERS, chosen
from tests.benchmarks.environment import command, environ
from tests.benchmarks.options import Options, save
from tests.benchmarks.tables import Table, duration, ratio

LOOPS = ("uvloop", "asyncio")
_ROUNDS, _TURN_NS = 9, 100_000_000


class Worker:
    """The process of one framework."""

    def __init__(self, peer: str, loop: str) -> None:
        self.peer = peer
        self._process = subprocess.Popen(
            command("worker", peer, loop),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ(),
            text=True,
        )
        self.about = self._answer()

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"missing": "it ended", "problem": "it ended", "best": float("nan")}

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def measure(options: Options) -> dict[str, Any]:
    """Run all loops and cases; see `save` for what is returned."""
    peers, names = chosen(options.peers, PEERS, "peer"), chosen(options.only, list(CASES), "case")
    if "raw" not in peers:
        peers.insert(0, "raw")  # what the ratios are to
    figures: dict[str, Any] = {}
    notes: dict[str, None] = {}
    versions: dict[str, str] = {}
    for loop in LOOPS[:1] if options.quick else LOOPS:
        workers = [Worker(peer, loop) for peer in peers]
        try:
            for worker in workers:
                if "missing" in worker.about:
                    notes[f"{worker.peer} is not there: {worker.about['missing']}"] = None
                else:
                    versions[worker.peer] = worker.about["version"]
            workers = [worker for worker in workers if "missing" not in worker.about or _closed(worker)]
            figures[loop] = {name: _case(name, workers, options, notes) for name in names}
        finally:
            for worker in workers:
                worker.close()
    return {"figures": figures, "versions": versions, "tables": _tables(figures, list(notes))}


def _closed(worker: Worker) -> bool:
    worker.close()
    return False


def _case(name: str, workers: list[Worker], options: Options, notes: dict[str, None]) -> dict[str, float]:
    """The best CPU nanoseconds of each framework; a framework that answers something else is left out."""
    ready: list[Worker] = []
    for worker in workers:
        if problem := worker.ask(do="load", case=name)["problem"]:
            notes[f"{worker.peer} is refused for {CASES[name].title!r}: {problem[:300]}"] = None
            continue
        ready.append(worker)
        if name in worker.about["notes"]:
            notes[f"{worker.peer}, {CASES[name].title}: {worker.about['notes'][name]}"] = None
    best = {worker.peer: float("inf") for worker in ready}
    loop = float("inf")
    for _ in range(3 if options.quick else _ROUNDS):
        for worker in ready:
            turn = _TURN_NS // 3 if options.quick else _TURN_NS
            best[worker.peer] = min(best[worker.peer], worker.ask(do="measure", case=name, nanoseconds=turn)["best"])
        if CASES[name].kind == "http":
            loop = min(loop, ready[0].ask(do="measure", case=name, what="nothing", nanoseconds=20_000_000)["best"])
    around = loop if CASES[name].kind == "http" else 0.0
    found = {peer: taken - around for peer, taken in best.items()}
    raw = found.get("raw")
    print(f"{name}: " + ", ".join(f"{peer} {duration(ns)}{_to(ns, raw)}" for peer, ns in found.items()), flush=True)
    return found


def _to(value: float, raw: float | None) -> str:
    return f" ({ratio(value / raw)})" if raw else ""


def _tables(figures: dict[str, Any], notes: list[str]) -> list[Table]:
    tables = []
    for loop, cases in figures.items():
        peers = [peer for peer in PEERS if any(peer in found for found in cases.values())]
        rows = []
        for peer in peers:
            cells = []
            for name, found in cases.items():
                mark = "†" if any(note.startswith(f"{peer}, {CASES[name].title}:") for note in notes) else ""
                raw = found.get("raw")
                cells.append(f"{duration(found[peer])}{_to(found[peer], raw)}{mark}" if peer in found else "-")
            rows.append([peer, *cells])
        title = f"In process, CPU per request, message or stream, {loop} (ratio to raw ASGI)"
        tables.append(Table(title, ["framework", *(CASES[name].title for name in cases)], rows))
    if tables:
        tables[-1].notes = [f"† {note}" if "," in note.partition(":")[0] else note for note in notes]
    return tables


if __name__ == "__main__":
    save("in_process", measure, sys.argv[1:])
