"""Discovery of plugins: microkit against importlib.metadata, each in fresh processes.

It creates fake distributions in a temporary directory, of which eight are plugins. The import of what a way needs is
part of its time; the kernel, which is loaded by then in any case, is not. Wall time, since most of it is reading files.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.options import Options, save
from tests.benchmarks.tables import Table, ratio

_ROOT = Path(__file__).resolve().parents[2]
_PLUGINS = 8
_WAYS = {
    "microkit.discovery": "from microkit.discovery import find_plugins; found = find_plugins('microkit', path)",
    "importlib.metadata": (
        "from importlib.metadata import distributions; found = [e for d in distributions(path=path) "
        "for e in d.entry_points if e.group == 'microkit']"
    ),
}


def measure(options: Options) -> dict[str, Any]:
    """Run both ways; see `save` for what is returned."""
    figures: dict[str, Any] = {}
    rows = []
    for count in (100, 500):
        with tempfile.TemporaryDirectory() as folder:
            _fill(Path(folder), count)
            best = dict.fromkeys(_WAYS, float("inf"))
            # Taken in turns, so that a change of the load meets both.
            for _ in range(3 if options.quick else 15):
                for name, code in _WAYS.items():
                    best[name] = min(best[name], _measure(code, folder))
        ours, theirs = best.values()
        figures[str(count)] = best
        rows.append([str(count), f"{ours:.1f} ms", f"{theirs:.1f} ms", ratio(theirs / ours)])
    columns = ["distributions", *_WAYS, "ratio"]
    table = Table("Discovery of 8 plugins among installed distributions, wall time", columns, rows)
    return {"figures": figures, "versions": {}, "tables": [table]}


def _fill(folder: Path, count: int) -> None:
    """Every second distribution has console scripts, the first ones are plugins, all have long metadata."""
    for number in range(count):
        info = folder / f"fake_{number}-1.{number}.dist-info"
        info.mkdir()
        metadata = (
            f"Metadata-Version: 2.1\nName: fake-{number}\nVersion: 1.{number}\n\n" + "A long description.\n" * 200
        )
        (info / "METADATA").write_text(metadata)
        if number < _PLUGINS:
            (info / "entry_points.txt").write_text(f"[microkit]\nfake{number} = fake_{number}\n")
        elif number % 2:
            (info / "entry_points.txt").write_text(f"[console_scripts]\nfake{number} = fake_{number}:main\n")


def _measure(code: str, folder: str) -> float:
    """Milliseconds of a piece of code in a fresh interpreter, without the start of the interpreter."""
    program = (
        f"import sys, time; sys.path.append({str(_ROOT)!r}); path = [{folder!r}]; import microkit; "
        f"start = time.perf_counter(); {code}; end = time.perf_counter(); "
        f"assert len(found) == {_PLUGINS}; print((end - start) * 1000)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    save("discovery", measure, sys.argv[1:])
