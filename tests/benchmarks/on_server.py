"""Requests on one uvicorn worker per framework: requests per second and the server's CPU time per request.

    python -m tests.benchmarks.run on_server --only hello --peers starlette,lihil --seconds 5

All servers of a case run at a time and are loaded in turns, with 64 connections over the loopback interface: by wrk if
it is installed, else and for WebSockets and streams by `load`. The CPU time is that of the server's threads, user and
system; it is the steadier figure, since client and server share the cores.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import CASES, OWN_PATHS, PEERS, Case, chosen
from tests.benchmarks.environment import ROOT, command, environ
from tests.benchmarks.options import Options, save
from tests.benchmarks.tables import Table, duration, ratio

NAMES = ("hello", "parameter", "layers", "model", "routes", "echo", "stream")
FLAGS = ("--no-access-log", "--loop", "uvloop", "--http", "httptools", "--log-level", "critical")
CONNECTIONS = 64
_ROUNDS = 3
_WRK = shutil.which("wrk")


@dataclass
class Server:
    """One running server and what was measured of it."""

    peer: str
    port: int
    process: subprocess.Popen[bytes]
    path: str
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        """User and system time of all its threads."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def forget(self) -> None:
        """What was measured was to warm it up."""
        self.rates.clear()
        self.cpu.clear()

    def resident(self) -> int:
        """Resident memory in KiB."""
        found = re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) if found else 0


def measure(options: Options) -> dict[str, Any]:
    """Run all cases; see `save` for what is returned."""
    peers, names = chosen(options.peers, PEERS, "peer"), chosen(options.only, NAMES, "case")
    if "raw" not in peers:
        peers.insert(0, "raw")
    if _WRK is None:
        print("wrk is not installed (Debian: apt-get install wrk); an own client in Python loads the servers instead")
    figures: dict[str, Any] = {}
    tables: list[Table] = []
    left_out: dict[tuple[str, str], list[str]] = {}
    for name in names:
        with ExitStack() as stack:
            servers = []
            for peer in peers:
                try:
                    servers.append(stack.enter_context(_served(peer, CASES[name])))
                except RuntimeError as exc:
                    left_out.setdefault((peer, str(exc)), []).append(CASES[name].title)
            if not options.quick:
                for server in servers:
                    _load(server, CASES[name], 1)
                    server.forget()
            for _ in range(2 if options.quick else _ROUNDS + 2 * (name == "hello")):
                for server in servers:
                    _load(server, CASES[name], options.seconds)
            figures[name] = {
                server.peer: {
                    "rate": statistics.median(server.rates),
                    "cpu": statistics.median(server.cpu),
                    "resident": server.resident(),
                }
                for server in servers
                if server.rates
            }
            tables.append(_table(CASES[name], servers))
            found = figures[name].items()
            print(f"{name}: " + ", ".join(f"{peer} {duration(each['cpu'])}" for peer, each in found), flush=True)
    client = f"{'wrk' if _WRK else 'the own client'}, {CONNECTIONS} connections"
    if tables:
        tables[-1].notes += [f"uvicorn {' '.join(FLAGS[:5])}; load by {client}; streams and sockets by the own client"]
        for (peer, reason), titles in left_out.items():
            where = "all" if len(titles) == len(names) else "; ".join(titles)
            tables[-1].notes.append(f"{peer} is left out of {where}: {reason}")
    return {"figures": figures, "versions": {}, "tables": tables}


def _table(case: Case, servers: list[Server]) -> Table:
    rows = []
    raw = next((server for server in servers if server.peer == "raw" and server.rates), None)
    for server in servers:
        if not server.rates:
            continue
        rate, cpu = statistics.median(server.rates), statistics.median(server.cpu)
        to_raw = ["-", "-"]
        if raw is not None:
            to_raw = [ratio(rate / statistics.median(raw.rates)), ratio(cpu / statistics.median(raw.cpu))]
        spread = f"{duration(min(server.cpu))}-{duration(max(server.cpu))}"
        rates = f"{min(server.rates):,.0f}-{max(server.rates):,.0f}"
        memory = f"{server.resident() / 1024:.0f} MiB"
        rows.append([server.peer, f"{rate:,.0f}", to_raw[0], rates, duration(cpu), to_raw[1], spread, memory])
    what = case.per
    columns = ["framework", f"{what}s/s", "to raw", "min-max", f"CPU per {what}", "to raw", "min-max", "memory after"]
    return Table(f"On one uvicorn worker: {case.title}", columns, rows)


@contextmanager
def _served(peer: str, case: Case) -> Iterator[Server]:
    """A server of its own around the block.

    Raises:
        RuntimeError: it does not start, or does not answer what it must.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["-m", "uvicorn", "tests.benchmarks.serving:app", "--host", "127.0.0.1", "--port", str(port), *FLAGS]
    process = subprocess.Popen(
        [command("")[0], *arguments],
        cwd=ROOT,
        env=environ() | {"BENCH_PEER": peer, "BENCH_CASE": case.name},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        path = OWN_PATHS.get(peer, {}).get(case.name, case.path)
        _wait(process, case, port, path)
        yield Server(peer, port, process, path)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], case: Case, port: int, path: str) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError("its server does not start")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            headers = {"content-type": "application/json"} if case.body else {}
            connection.request(case.method, path.replace("{id}", "7"), case.body or None, headers)
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
        except OSError:
            time.sleep(0.1)
            continue
        if case.kind == "http" and (answer.status, body) != (200, case.answer_to(7)):
            raise RuntimeError(f"its server answers {answer.status} {body[:200]!r}")
        return
    raise RuntimeError("its server is not ready in 30 s")


def _load(server: Server, case: Case, seconds: int) -> None:
    before = server.cpu_seconds()
    wrk = _WRK if case.name not in ("echo", "stream") else None
    answered, failed, taken = _by_wrk(wrk, server, case, seconds) if wrk else _by_own_client(server, case, seconds)
    used = server.cpu_seconds() - before
    if failed or not answered:
        print(f"{server.peer}, {case.name}: {failed:.0f} requests failed, so this turn does not count", flush=True)
        return
    server.rates.append(answered / taken)
    server.cpu.append(used / answered * 1e9)


def _by_own_client(server: Server, case: Case, seconds: int) -> tuple[float, float, float]:
    arguments = [case.name, str(server.port), server.path, "--seconds", str(seconds)]
    done = subprocess.run(
        command("load", *arguments), cwd=ROOT, env=environ(), capture_output=True, text=True, check=True, timeout=120
    )
    found = json.loads(done.stdout)
    return found["answered"], found["failed"], found["seconds"]


def _by_wrk(wrk: str, server: Server, case: Case, seconds: int) -> tuple[float, float, float]:
    lines = [f'wrk.method = "{case.method}"']
    if case.body:
        lines += [f"wrk.body = [==[{case.body.decode()}]==]", 'wrk.headers["content-type"] = "application/json"']
    if "{id}" in server.path:
        before, after = server.path.split("{id}")
        lines.append(
            "local n = 0\nrequest = function() n = (n + 1) % 20000; "
            f'return wrk.format(nil, "{before}" .. n .. "{after}") end'
        )
    url = f"http://127.0.0.1:{server.port}{server.path.replace('{id}', '0')}"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(lines))
        script.flush()
        done = subprocess.run(
            [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script.name, url],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    text = done.stdout
    total = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    failed = int(bad[1]) if bad else 0
    failed += sum(map(int, errors.groups())) if errors else 0
    answered = float(total[1]) if total else 0.0
    return answered, failed, answered / float(rate[1]) if rate and float(rate[1]) else 1.0


if __name__ == "__main__":
    save("on_server", measure, sys.argv[1:])
