"""What the tests of the workspace's rules share: its files and its distributions."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tracked(repository: Path) -> list[Path]:
    """All files that git has or would take; files that an ignore rule names are left out."""
    if not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repository, capture_output=True, check=True).stdout.decode()
    files = (repository / name for name in listed.split("\0") if name)
    return sorted(path for path in files if path.is_file())


@pytest.fixture(scope="session")
def plugin_folders(repository: Path) -> list[Path]:
    """The folder of every plugin of the workspace."""
    return sorted(path.parent for path in (repository / "plugins").glob("*/pyproject.toml"))


@pytest.fixture(scope="session")
def distribution_folders(repository: Path, plugin_folders: list[Path]) -> list[Path]:
    """The folder of every distribution, the kernel's first."""
    return [repository, *plugin_folders]


@pytest.fixture(scope="session")
def read_pyproject() -> Callable[[Path], dict[str, Any]]:
    """Reads the ``pyproject.toml`` of a folder."""

    def read(folder: Path) -> dict[str, Any]:
        return tomllib.loads((folder / "pyproject.toml").read_text())

    return read
