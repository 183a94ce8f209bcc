"""What every part of the benchmarks is told, and where it leaves what it found."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.tables import Table


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        only: names of cases; empty: all.
        peers: names of frameworks; empty: all. Raw ASGI is always among them.
        quick: a smoke run: fewer and shorter turns.
        seconds: how long one server is loaded in one turn.
        result: the file to leave the results in.
    """

    only: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    quick: bool = False
    seconds: int = 3
    result: Path | None = None

    def arguments(self) -> list[str]:
        """The same options on a command line."""
        given = ["--seconds", str(self.seconds)]
        for name, values in (("--only", self.only), ("--peers", self.peers)):
            given += [name, ",".join(values)] if values else []
        given += ["--quick"] if self.quick else []
        return [*given, "--result", str(self.result)] if self.result else given


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments that become `Options`."""
    parser.add_argument("--only", default="", metavar="CASE,CASE", help="these cases")
    parser.add_argument("--peers", default="", metavar="NAME,NAME", help="these frameworks, beside raw ASGI")
    parser.add_argument("--quick", action="store_true", help="a smoke run of a few minutes")
    parser.add_argument("--seconds", type=int, default=3, help="load on one server in one turn (3)")
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)


def options_from(given: argparse.Namespace) -> Options:
    """The options of a parsed command line."""
    only, peers = (tuple(part for part in text.split(",") if part) for text in (given.only, given.peers))
    return Options(only, peers, given.quick, 1 if given.quick else given.seconds, given.result)


def save(part: str, measure: Callable[[Options], dict[str, Any]], arguments: Sequence[str]) -> None:
    """Run one part and print its tables; with `--result`, leave its figures there.

    Args:
        part: its name.
        measure: returns `tables`, and `figures` and `versions` for charts.
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog=part)
    add_options(parser)
    options = options_from(parser.parse_args(arguments))
    found = measure(options)
    tables: list[Table] = found["tables"]
    for table in tables:
        print(f"\n{table.markdown()}", flush=True)
    if options.result is not None:
        found["tables"] = [dataclasses.asdict(table) for table in tables]
        options.result.write_text(json.dumps(found, indent=1, ensure_ascii=False))
