"""Fresh environments for the isolation runner: by uv if it is there, else by venv and pip."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workspace import ROOT, Distribution

# Runs inside the environment: what is installed there, and where the kernel is imported from.
_PROBE = """
import importlib.metadata as metadata, json, microkit
print(json.dumps({
    "kernel": microkit.__file__,
    "installed": {dist.name: dist.version for dist in metadata.distributions()},
    "entry_points": sorted(point.name for point in metadata.entry_points(group="microkit")),
}))
"""


class StepError(Exception):
    """A step of a case failed; the text says which and how."""


def run(command: Sequence[str | Path], cwd: Path) -> str:
    """Run a command and return what it printed.

    Raises:
        StepError: It exited with another code than 0.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=_clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StepError(f"{' '.join(map(str, command))}\nexit code {done.returncode}\n{done.stdout}")
    return done.stdout


def build_wheels(workspace: dict[str, Distribution], target: Path) -> None:
    """Build the wheel of every distribution into ``target``."""
    if uv := _uv():
        run([uv, "build", "--quiet", "--all-packages", "--wheel", "--out-dir", target], ROOT)
        return
    folders = [dist.folder for dist in workspace.values()]
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", target, *folders], ROOT)


class Environment:
    """A fresh virtual environment.

    Args:
        folder: Where it is created.
        wheels: The folder of the wheels just built, which come before any index.
    """

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder = folder
        self.wheels = wheels
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if uv := _uv():
            run([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, folder], folder.parent)
        else:
            run([sys.executable, "-m", "venv", folder], folder.parent)

    def install(self, requirements: Sequence[str]) -> None:
        """Install from the wheels and, for third-party requirements, from the index."""
        run([*self._pip("install"), "--quiet", "--find-links", self.wheels, *requirements], self.folder.parent)

    def check(self) -> None:
        """Fail if an installed distribution misses a requirement or has a wrong version of it."""
        run(self._pip("check"), self.folder.parent)

    def probe(self) -> dict[str, Any]:
        """What is installed: ``kernel`` (its file), ``installed`` (name to version), ``entry_points`` (names)."""
        return json.loads(run([self.python, "-I", "-c", _PROBE], self.folder.parent))

    def verify_origin(self, dist: Distribution) -> None:
        """Fail unless the distribution installed here is, file by file, the wheel just built.

        An unrelated distribution of the kernel's name is on the index, so a version number proves little.
        """
        stem = f"{dist.name.replace('-', '_')}-{dist.version}"
        wheel = next(self.wheels.glob(f"{stem}-*.whl"))
        site = next(self.folder.glob(f"[Ll]ib/**/{stem}.dist-info"), None)
        if site is None:
            raise StepError(f"{dist.name} {dist.version} is not installed")
        with zipfile.ZipFile(wheel) as archive:
            record = archive.read(f"{stem}.dist-info/RECORD").decode()
        for name, digest, _ in csv.reader(io.StringIO(record)):
            installed = site.parent / name
            if digest and _digest(installed) != digest:
                raise StepError(f"{dist.name}: {name} is not the file of the wheel just built")

    def _pip(self, command: str) -> list[str | Path]:
        if uv := _uv():
            return [uv, "pip", command, "--python", self.python]
        return [self.python, "-m", "pip", command]


def _digest(path: Path) -> str:
    if not path.is_file():
        return "missing"
    digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"


def _uv() -> str | None:
    beside = Path(sys.executable).parent / "uv"
    return str(beside) if beside.exists() else shutil.which("uv")


def _clean_environment() -> dict[str, str]:
    """The environment without what would leak the checkout, or its settings, into a fresh environment."""
    leaks = ("PYTHON", "PYTEST", "MICROKIT", "VIRTUAL_ENV", "UV_PROJECT")
    return {key: value for key, value in os.environ.items() if not key.startswith(leaks)}
