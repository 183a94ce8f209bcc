"""What the isolation runner knows about the workspace: its distributions, read from their ``pyproject.toml``."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KERNEL = "microkit"
TESTKIT = "microkit-testkit"


@dataclass(frozen=True)
class Distribution:
    """One distribution of the workspace.

    Args:
        name: Its name, such as ``microkit-trie``.
        version: Its version.
        folder: Where its ``pyproject.toml`` is.
        needs: Names of the first-party distributions that it requires, extras left out.
        entry_points: Names of its entry points of the group ``microkit``.
        test_tools: The requirements of its dependency group ``test``.
    """

    name: str
    version: str
    folder: Path
    needs: tuple[str, ...]
    entry_points: frozenset[str]
    test_tools: tuple[str, ...]

    @property
    def tests(self) -> Path:
        """The folder of tests that must pass without the rest of the workspace."""
        return ROOT / "tests" / "kernel_alone" if self.name == KERNEL else self.folder / "tests"


def read_workspace() -> dict[str, Distribution]:
    """All distributions by name, the kernel first."""
    folders = [ROOT, *(path.parent for path in sorted((ROOT / "plugins").glob("*/pyproject.toml")))]
    return {found.name: found for found in map(_read, folders)}


def closure(names: tuple[str, ...], workspace: dict[str, Distribution]) -> set[str]:
    """The named distributions and all first-party ones that they require."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += workspace[name].needs
    return seen


def write_pytest_config(folder: Path) -> None:
    """Give tests outside the workspace the workspace's pytest settings: strict, warnings are errors, shared helpers."""
    settings: dict[str, Any] = dict(_load(ROOT)["tool"]["pytest"])
    settings.pop("testpaths")
    settings["pythonpath"] = ["."]
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    (folder / "pytest.toml").write_text("\n".join(["[pytest]", *lines, ""]))


def requirement_name(requirement: str) -> str:
    """The normalised name of a requirement: ``Microkit_KV[redis]>=0.4`` gives ``microkit-kv``."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""


def _load(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def _read(folder: Path) -> Distribution:
    data = _load(folder)
    project = data["project"]
    return Distribution(
        name=project["name"],
        version=project["version"],
        folder=folder,
        needs=tuple(_first_party(project.get("dependencies", []))),
        entry_points=frozenset(project.get("entry-points", {}).get("microkit", {})),
        test_tools=tuple(data["dependency-groups"]["test"]),
    )


def _first_party(requirements: list[str]) -> Iterator[str]:
    for requirement in requirements:
        name = requirement_name(requirement)
        if name == KERNEL or name.startswith(f"{KERNEL}-"):
            yield name
