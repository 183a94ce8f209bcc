"""All benchmarks of this folder, one after the other, each in a process of its own; `make bench` runs this.

    python tests/benchmarks/run.py [name ...]     such as: requests_in_process routing

Figures are CPU times and ratios of programs that take turns; compare ratios, not times, between machines. Nothing here
is a test, and no test is timed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


def main() -> int:
    """Run the chosen benchmarks, all without a choice; returns 1 if one of them failed."""
    known = {path.stem: path for path in sorted(_FOLDER.glob("*.py")) if path.stem != "run"}
    chosen = sys.argv[1:] or list(known)
    if unknown := [name for name in chosen if name not in known]:
        print(f"There is no benchmark {', '.join(unknown)}. There are: {', '.join(known)}.", file=sys.stderr)
        return 2
    failed: list[str] = []
    for name in chosen:
        print(f"\n## {name}\n", flush=True)
        if subprocess.run([sys.executable, str(known[name])], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
