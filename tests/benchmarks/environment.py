"""The environment of the benchmarks: the peers, microkit and all its plugins in one interpreter, `.venv-bench`.

It is made on first use and again when a `pyproject.toml` of the workspace changes. A peer that cannot be installed is
left out, and the results say so.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venv-bench"
PYTHON = FOLDER / "bin" / "python"
_STAMP = FOLDER / ".installed"

# Beside the versions of the frameworks those of these are named in the results.
SHARED = (
    "anyio",
    "dishka",
    "httptools",
    "orjson",
    "pluggy",
    "pydantic",
    "python-matchit",
    "uvicorn",
    "uvloop",
    "websockets",
)


def make() -> Path:
    """The interpreter of the environment, which is made if it is missing or out of date."""
    projects = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in projects)).hexdigest()
    if _STAMP.exists() and _STAMP.read_text() == state:
        return PYTHON
    print("Making .venv-bench with the peers ...", file=sys.stderr, flush=True)
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
    # One command for all editables, as in the Makefile: neither the kernel nor a plugin is on an index.
    ours = ["-e", f"{ROOT}[fast]", *(part for path in projects[1:] for part in ("-e", str(path.parent)))]
    peers = tomllib.loads(projects[0].read_text())["dependency-groups"]["bench"]
    if _install([*ours, *peers]):
        _install(ours, check=True)
        missing = [each for each in peers if _install([each])]
        print(f"Cannot be installed here, so left out: {', '.join(missing)}", file=sys.stderr)
    _STAMP.write_text(state)
    return PYTHON


def _install(what: list[str], *, check: bool = False) -> int:
    uv = Path(sys.executable).parent / "uv"
    command = [uv, "pip", "install", "--quiet", "--python", PYTHON] if uv.exists() else [PYTHON, "-m", "pip", "install"]
    return subprocess.run([*command, *what], check=check, cwd=ROOT).returncode


def run(module: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a module of this folder in the environment."""
    return subprocess.run(command(module, *arguments), cwd=ROOT, env=environ(), text=True, **options)


def command(module: str, *arguments: str) -> list[str]:
    """The command line of a module of this folder."""
    return [str(PYTHON), "-m", f"tests.benchmarks.{module}", *arguments]


def environ() -> dict[str, str]:
    """The variables that a measured process sees: the same hashes in all, and no settings of microkit."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MICROKIT_")}
    return kept | {"PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}


def version_of(distribution: str) -> str | None:
    """The version that is installed beside the running program, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> str:
    """What it was measured on, without the name of the machine."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        processor = found[1] if found else platform.machine()
    except OSError:
        processor = platform.machine()
    return f"{os.cpu_count()} cores of {processor.strip()}, {platform.system()}, CPython {platform.python_version()}"
