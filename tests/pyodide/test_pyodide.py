"""The kernel and the trie router run in WebAssembly, vendored as source: no wheel, no metadata, no thread or socket."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from tests.servers import missing

HERE = Path(__file__).parent
VENDORED = ("anyio", "pluggy", "idna", "typing_extensions")
FORBIDDEN = {
    "argparse",
    "email",
    "http.client",
    "http.server",
    "hypercorn",
    "importlib.metadata",
    "multiprocessing",
    "pydantic",
    "pytest",
    "socketserver",
    "sqlite3",
    "ssl",
    "trio",
    "unittest",
    "urllib.request",
    "uvicorn",
}
# Measured, with a little slack: a cold start on such a platform pays for each of them.
BUDGET = 140


@pytest.fixture(scope="module")
def answer(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    node = _node_or_skip()
    vendor = tmp_path_factory.mktemp("vendor")
    for name in VENDORED:
        _vendor(name, vendor)
    mounts = {
        "vendor": vendor,
        "microkit": repository / "microkit",
        "microkit_trie": repository / "plugins" / "microkit-trie" / "microkit_trie",
    }
    command = [node, "run.mjs", "entry.py", *(f"{name}={folder}" for name, folder in mounts.items())]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.feature("F000-48")
@pytest.mark.feature("FC-06")
def test_answers_a_request_from_source_without_metadata(answer: dict[str, Any]) -> None:
    assert answer["status"] == 200
    assert json.loads(answer["body"]) == {"hello": "pyodide"}


def test_imports_nothing_that_the_platform_lacks_or_pays_dearly_for(answer: dict[str, Any]) -> None:
    assert FORBIDDEN & set(answer["modules"]) == set()


def test_imports_stay_within_the_budget(answer: dict[str, Any]) -> None:
    assert len(answer["modules"]) <= BUDGET, answer["modules"]


def _node_or_skip() -> str:
    sys.path.insert(0, str(HERE))
    try:
        from node import find_node
    finally:
        sys.path.remove(str(HERE))
    node = find_node()
    if node is None:
        missing("Node.js", "install it, or run make setup")
    if not (HERE / "node_modules" / "pyodide").is_dir():
        missing("Pyodide in node_modules", "run make setup")
    return node


def _vendor(name: str, target: Path) -> None:
    """Copy an installed pure distribution without its metadata, as a project vendors it."""
    for file in distribution(name).files or ():
        if file.suffix in {".py", ".typed"} and ".." not in file.parts:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target / file)
