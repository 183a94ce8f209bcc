"""All benchmarks, one part after the other, each in a process of its own; `make bench` runs this.

    make bench                                                  everything
    make bench ARGS="--quick"                                   a smoke run of a few minutes
    make bench ARGS="in_process --only hello --peers starlette,lihil"
    make bench ARGS="--write"                                   everything, into results.md, the charts and the README
    make bench ARGS="report"                                    these files again, from results.json

Figures are CPU times and ratios of programs that take turns; compare ratios, not times, between machines. Nothing here
is a test, and no test is timed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import environment, report
from tests.benchmarks.options import add_options, options_from


def main() -> int:
    """Run the chosen parts, all without a choice; returns 1 if one of them failed, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join((*report.PARTS, "report")))
    parser.add_argument("--write", action="store_true", help="write the results and charts, and the README's part")
    add_options(parser)
    given = parser.parse_args()
    if unknown := [part for part in given.parts if part not in (*report.PARTS, "report")]:
        parser.error(f"there is no part {', '.join(unknown)}")
    options = options_from(given)
    if options.only and not given.parts:
        parser.error("--only needs the parts that know these cases, such as in_process")
    if given.write and (options.only or options.peers or options.quick):
        parser.error("--write takes whole parts at full length only")
    parts = [part for part in given.parts or report.PARTS if part != "report"]
    failed: list[str] = []
    if parts:
        environment.make()
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            print(f"\n## {part}\n", flush=True)
            result = Path(folder) / f"{part}.json"
            if environment.run(part, *dataclasses.replace(options, result=result).arguments()).returncode:
                failed.append(part)
            elif given.write:
                about = _about(json.loads(result.read_text()))
                report.write(report.load() | {part: about})  # at once, so that a part that fails later costs nothing
    if "report" in given.parts:
        report.write(report.load())
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _about(found: dict[str, Any]) -> dict[str, Any]:
    """With the date, the machine and the versions of what all frameworks share."""
    shared = json.loads(environment.run("versions", capture_output=True, check=True).stdout)
    return found | {
        "taken": datetime.now(UTC).date().isoformat(),
        "machine": environment.machine(),
        "versions": found["versions"] | shared,
    }


if __name__ == "__main__":
    sys.exit(main())
