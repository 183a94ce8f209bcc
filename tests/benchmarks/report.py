"""The results as files: `results.md`, `chart.svg`, `growth.svg`, and the part of the README between its markers.

What was measured is kept in `results.json`, part by part, each with its date; the other files are made of that alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import CASES, PEERS
from tests.benchmarks.svg import Bars, Line, bar_chart, line_chart
from tests.benchmarks.tables import Table, duration, ratio

_FOLDER = Path(__file__).resolve().parent
RESULTS = _FOLDER / "results.json"
README = _FOLDER.parents[1] / "README.md"
_OURS = ("microkit_trie", "microkit_auto")
_BY_HAND, _MESSAGING = "aio_pika", ("consume", "publish", "rpc")
_START, _END = "<!-- performance:start -->", "<!-- performance:end -->"

# The order of the parts in the results; a figure of the kernel's growth is no comparison.
PARTS = ("in_process", "on_server", "messaging", "routing_alone", "injection_alone", "startup", "scaling", "discovery")
_HEADLINE = ("hello", "parameter", "layers", "model", "routes")
_PANELS = ("hello", "parameter", "layers", "routes", "json", "model", "echo", "stream")

_CHARTS = {
    "in_process": {"chart.svg": "CPU time per request of all frameworks"},
    "scaling": {"growth.svg": "cost against size"},
}

# What the design allows: in the figures of one loop, a multiple of another case or of raw ASGI.
BUDGETS = {"hello": 3.0, "parameter": 3.0, "layers": 3.5}
ROUTES_BUDGET, SERVER_BUDGET, CONSUME_BUDGET = 1.3, 1.15, 1.15


def load(path: Path = RESULTS) -> dict[str, Any]:
    """What was measured before; empty if nothing was."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(results: Mapping[str, Any], folder: Path = _FOLDER, readme: Path = README) -> list[Path]:
    """Write all files. Returns those that were written.

    Args:
        results: by part: `taken`, `machine`, `versions`, `figures`, `tables`.
        folder: for the results and charts.
        readme: the file with the markers, which may lack them.
    """
    written = {folder / "results.json": json.dumps(results, indent=1, ensure_ascii=False) + "\n"}
    written[folder / "results.md"] = markdown(results)
    if chart := comparison(results):
        written[folder / "chart.svg"] = chart
    if chart := growth(results):
        written[folder / "growth.svg"] = chart
    text = readme.read_text()
    if _START in text and (summary := headline(results)):
        before, rest = text.split(_START)
        written[readme] = f"{before}{_START}\n{summary}\n{_END}{rest.split(_END)[1]}"
    for path, content in written.items():
        path.write_text(content)
    return list(written)


def markdown(results: Mapping[str, Any]) -> str:
    """All tables."""
    lines = [
        "# Benchmarks\n",
        "Written by `make bench ARGS=--write`; how each part measures is said at the top of its module in this folder.",
        "Compare ratios, not times, between machines. † is not like for like; the notes below the tables say why.\n",
    ]
    if budgets := budget_table(results):
        lines.append(budgets.markdown(2))
    for part in (part for part in PARTS if part in results):
        found = results[part]
        lines.append(f"## {part}\n\n{found['taken']}, {found['machine']}.\n")
        lines += [f"![{alt}]({file})\n" for file, alt in _CHARTS.get(part, {}).items()]
        lines += [Table(**table).markdown() for table in found["tables"]]
    versions = _versions(results)
    if versions:
        lines.append("## Versions\n\n" + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".\n")
    lines.append(
        "Sessions and a 10 MiB upload are not measured yet: they come with the plugins that bring them to microkit.\n"
    )
    return "\n".join(lines)


def _versions(results: Mapping[str, Any]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for part in results.values():
        merged.update({name: version for name, version in part["versions"].items() if version})
    return dict(sorted(merged.items()))


def budget_table(results: Mapping[str, Any]) -> Table | None:
    """The design's budgets beside what was measured; None without requests in process."""
    cases = results.get("in_process", {}).get("figures", {}).get("uvloop", {})
    rows = []
    ours = _OURS[0]
    for name, allowed in BUDGETS.items():
        found = cases.get(name, {})
        if {"raw", ours} <= found.keys():
            rows.append(_budget_row(f"{CASES[name].title}, in process, to raw", allowed, found[ours] / found["raw"]))
    if ours in cases.get("routes", {}) and ours in cases.get("one_route", {}):
        got = cases["routes"][ours] / cases["one_route"][ours]
        rows.append(_budget_row("1,000 routes, to one route", ROUTES_BUDGET, got))
    server = results.get("on_server", {}).get("figures", {}).get("hello", {})
    if {"raw", ours} <= server.keys():
        got = server[ours]["cpu"] / server["raw"]["cpu"]
        rows.append(_budget_row("hello on uvicorn, server CPU, to raw", SERVER_BUDGET, got))
    start = results.get("startup", {}).get("figures", {})
    if {ours, "starlette"} <= start.keys():
        rows.append(_budget_row("import, to starlette's", 1.0, start[ours]["import"] / start["starlette"]["import"]))
    consumed = results.get("messaging", {}).get("figures", {}).get("consume", {})
    for what, mine, theirs, allowed in (
        ("acks together", "microkit", "aio_pika_together", CONSUME_BUDGET),
        ("ack each", "microkit_each", "aio_pika", CONSUME_BUDGET),
        ("acks together against ack each", "microkit", "aio_pika", 1.0),
    ):
        if {mine, theirs} <= consumed.keys():
            got = consumed[mine]["cpu"] / consumed[theirs]["cpu"]
            rows.append(_budget_row(f"AMQP consume, to hand-written aio-pika, {what}", allowed, got))
    return Table("Budgets", ["path", "allowed", "measured", ""], rows) if rows else None


def _budget_row(what: str, allowed: float, found: float) -> list[str]:
    return [what, ratio(allowed), ratio(found), "kept" if found <= allowed else "over"]


def headline(results: Mapping[str, Any]) -> str:
    """The README's table and chart; empty without requests in process."""
    part = results.get("in_process", {})
    cases = (
        {name: part["figures"]["uvloop"][name] for name in _HEADLINE if name in part["figures"]["uvloop"]}
        if part
        else {}
    )
    if not cases:
        return ""
    server = results.get("on_server", {}).get("figures", {}).get("hello", {})
    unlike = _unlike(part)
    columns = ["", *(CASES[name].title for name in cases), *(["hello on uvicorn, server CPU"] if server else [])]
    rows = []
    for peer in (peer for peer in PEERS if any(peer in found for found in cases.values())):
        cells = []
        for name, found in cases.items():
            mark = "†" if (peer, name) in unlike else ""
            cells.append(f"{ratio(found[peer] / found['raw'])}{mark}" if peer in found else "-")
        if server:
            cells.append(ratio(server[peer]["cpu"] / server["raw"]["cpu"]) if peer in server else "-")
        rows.append([f"**{_label(peer)}**" if peer in _OURS else _label(peer), *cells])
    first = [duration(found["raw"]) for found in cases.values()]
    first += [duration(server["raw"]["cpu"])] if server else []
    table = Table("", columns, [["raw ASGI", *first], *rows[1:]]).markdown().split("\n", 2)[2]
    said = (
        "CPU time per request as a multiple of that of a raw ASGI callable that does the same work with the same JSON "
        f"encoder; in process but for the last column. {part['taken']}, {part['machine']}."
    )
    return (
        f"\n![CPU per request, microkit against other frameworks](tests/benchmarks/chart.svg)\n\n{said}\n\n{table}\n"
        "† not like for like: the framework lacks a part of the case, so the handler does it by hand, or routes\n"
        "otherwise. All figures, with versions and flags, are in [results.md](tests/benchmarks/results.md); "
        "`make bench` repeats them.\n" + _messaging_headline(results)
    )


def _messaging_headline(results: Mapping[str, Any]) -> str:
    """The README's table of messages; empty if they were not measured."""
    part = results.get("messaging", {})
    figures = part.get("figures", {})
    if not all(_BY_HAND in figures.get(name, {}) for name in _MESSAGING):
        return ""
    rows = []
    for peer in figures["consume"]:
        cells = []
        for name in ("consume", "publish"):
            found, base = figures[name].get(peer), figures[name][_BY_HAND]
            cells.append("-" if found is None else ratio(found["cpu"] / base["cpu"]))
            if peer == _BY_HAND:
                cells[-1] = duration(base["cpu"])
        called = figures["rpc"].get(peer)
        label = peer.replace("_together", ", acks together").replace("_each", ", ack each").replace("_", "-")
        rate = "-" if called is None else f"{called['rate']:,.0f}"
        rows.append([f"**{label}**" if peer.startswith("microkit") else label, *cells, rate])
    columns = ["", "consume, CPU per message", "publish, CPU per message", "calls/s, 64 at a time"]
    table = Table("", columns, rows).markdown().split("\n", 2)[2]
    said = (
        "Messages and remote procedures over RabbitMQ, CPU as a multiple of that of hand-written aio-pika with an ack "
        f"for each message. {part['taken']}, {part['machine']}."
    )
    return f"\n{said}\n\n{table}"


def _unlike(part: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Framework and case of what is not like for like, as the notes of a part say."""
    marked = {note[2:].partition(":")[0] for table in part["tables"] for note in table["notes"] if note[:1] == "†"}
    return {(peer, name) for peer in PEERS for name, case in CASES.items() if f"{peer}, {case.title}" in marked}


def comparison(results: Mapping[str, Any]) -> str:
    """The chart of all frameworks; empty without requests in process."""
    part = results.get("in_process")
    if not part:
        return ""
    cases, unlike = part["figures"]["uvloop"], _unlike(part)
    panels = []
    for name in (name for name in _PANELS if "raw" in cases.get(name, {})):
        found = dict(sorted(cases[name].items(), key=lambda item: item[1]))
        raw = found["raw"]
        marks = {peer: " †" if (peer, name) in unlike else "" for peer in found}
        texts = {
            _label(peer): f"{duration(taken)} · {ratio(taken / raw)}{marks[peer]}" for peer, taken in found.items()
        }
        values = {_label(peer): taken for peer, taken in found.items()}
        panels.append(Bars(CASES[name].title, values, texts, "raw ASGI", [_label(peer) for peer in _OURS]))
    subtitle = (
        f"In process on uvloop, and as a multiple of raw ASGI; shorter is better, longer than 30x is cut. "
        f"† not like for like. {part['taken']}"
    )
    return bar_chart("CPU time per request, message or stream", subtitle, panels)


def growth(results: Mapping[str, Any]) -> str:
    """The chart of what grows with an application; empty if that was not measured."""
    part = results.get("scaling")
    if not part:
        return ""
    titles = {
        "routes": "CPU of a request, by routes",
        "dependencies": "CPU of a request, by dependencies",
        "middleware": "CPU of a request, by middleware",
        "plugins": "CPU to ready, by plugins",
        "sockets": "memory, by open WebSockets",
    }
    panels = []
    for name, found in part["figures"].items():
        if found["costs"]:
            points = list(zip(found["sizes"], found["costs"], strict=True))
            last = found["costs"][-1]
            text = f"{last / 1024:.0f} MiB" if name == "sockets" else duration(last)
            panels.append(Line(titles[name], points, text))
    return line_chart("microkit: cost against size", f"From zero; flat or a straight line. {part['taken']}", panels)


def _label(peer: str) -> str:
    return {"raw": "raw ASGI", "microkit_trie": "microkit", "microkit_auto": "microkit auto"}.get(peer, peer)
