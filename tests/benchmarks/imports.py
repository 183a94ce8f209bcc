"""CPU time of `import microkit`, and of starlette's where it is installed; run as a program, not collected as a test.

    python tests/benchmarks/imports.py [interpreter that has starlette]

Each import runs in an interpreter of its own; the programs take turns, and the least of several rounds counts, less
what an interpreter that imports nothing takes.
"""

from __future__ import annotations

import resource
import subprocess
import sys

_ROUNDS = 10


def main() -> None:
    """Measure and print milliseconds."""
    other = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    programs = {"microkit": (sys.executable, "microkit"), "starlette": (other, "starlette.applications")}
    if subprocess.run([other, "-c", "import starlette"], capture_output=True, check=False).returncode:
        del programs["starlette"]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(_ROUNDS):
        for name, (python, module) in programs.items():
            taken[name].append((_cpu(python, f"import {module}"), _cpu(python, "pass")))
    for name, rounds in taken.items():
        whole, empty = (min(column) for column in zip(*rounds, strict=True))
        print(f"{name}: {(whole - empty) * 1000:.1f} ms")


def _cpu(python: str, program: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, "-c", program], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
