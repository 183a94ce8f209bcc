"""Rules that every distribution keeps: what its folder holds, what it requires, what its wheel and sdist carry."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT, *sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))]
TOP_LEVEL = {"microkit", "plugins", "tests", "examples", "pyproject.toml", "README.md", "LICENSE", "Makefile"}
HIDDEN = {".ci", ".gitignore"}

Reader = Callable[[Path], dict[str, Any]]


@pytest.mark.feature("FC-14")
def test_the_top_level_holds_the_project_files_only(tracked: list[Path], repository: Path) -> None:
    found = {path.relative_to(repository).parts[0] for path in tracked}
    assert found <= TOP_LEVEL | HIDDEN


@pytest.mark.feature("FC-01")
def test_the_kernel_requires_pluggy_and_anyio_only(repository: Path, read_pyproject: Reader) -> None:
    assert read_pyproject(repository)["project"]["dependencies"] == ["pluggy>=1.6,<2", "anyio>=4.11,<5"]


@pytest.mark.feature("FC-13")
def test_all_distributions_share_one_version_above_the_unrelated_package(
    distribution_folders: list[Path], read_pyproject: Reader
) -> None:
    versions = {read_pyproject(folder)["project"]["version"] for folder in distribution_folders}
    assert len(versions) == 1
    assert tuple(int(part) for part in versions.pop().split(".")) >= (0, 4, 0)


@pytest.mark.feature("FC-13")
def test_the_extras_name_distributions_of_the_workspace(
    repository: Path, plugin_folders: list[Path], read_pyproject: Reader
) -> None:
    project = read_pyproject(repository)["project"]
    extras = project["optional-dependencies"]
    named = {re.match(r"[\w-]+", entry)[0] for entries in extras.values() for entry in entries}  # type: ignore[index]
    ours = {name for name in named if name.startswith("microkit-")}
    assert {"web", "fast", "all"} <= extras.keys()
    assert ours <= {folder.name for folder in plugin_folders}


@pytest.mark.parametrize("folder", FOLDERS[1:], ids=lambda folder: folder.name)
def test_a_plugin_is_complete(folder: Path, read_pyproject: Reader) -> None:
    module = folder.name.replace("-", "_")
    data = read_pyproject(folder)
    project = data["project"]
    assert project["name"] == folder.name
    assert project["dependencies"][0] == "microkit>=0.4,<0.5"
    points = project["entry-points"]["microkit"]
    assert points == {folder.name.removeprefix("microkit-"): f"{module}.plugin"}
    assert data["dependency-groups"]["test"]
    expected = ["README.md", "CHANGELOG.md", f"{module}/__init__.py", f"{module}/plugin.py", f"{module}/py.typed"]
    assert [name for name in expected if not (folder / name).is_file()] == []
    assert list((folder / "tests").rglob("test_*.py")), "no tests"


@pytest.mark.parametrize("folder", FOLDERS[1:], ids=lambda folder: folder.name)
def test_a_changelog_tells_about_the_version(folder: Path, read_pyproject: Reader) -> None:
    version = read_pyproject(folder)["project"]["version"]
    assert f"\n## [{version}]" in (folder / "CHANGELOG.md").read_text()


def test_only_the_testkit_is_loaded_by_pytest(plugin_folders: list[Path], read_pyproject: Reader) -> None:
    found = {
        folder.name: read_pyproject(folder)["project"].get("entry-points", {}).get("pytest11")
        for folder in plugin_folders
    }
    assert {name for name, points in found.items() if points} == {"microkit-testkit"}


def test_the_import_rules_know_every_plugin(
    repository: Path, plugin_folders: list[Path], read_pyproject: Reader
) -> None:
    rules = read_pyproject(repository)["tool"]["importlinter"]
    modules = {folder.name.replace("-", "_") for folder in plugin_folders}
    assert set(rules["root_packages"]) == {"microkit", *modules}
    assert set(rules["contracts"][0]["forbidden_modules"]) == modules


@pytest.mark.feature("FC-14")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "kernel" if folder == ROOT else folder.name)
def test_sdist_and_wheel_hold_their_own_package_only(folder: Path, tmp_path: Path) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    module = project["name"].replace("-", "_")
    stem = f"{module}-{project['version']}"
    _build(folder, tmp_path)
    with zipfile.ZipFile(tmp_path / f"{stem}-py3-none-any.whl") as wheel:
        names = wheel.namelist()
    assert {name.partition("/")[0] for name in names} == {module, f"{stem}.dist-info"}
    assert f"{module}/py.typed" in names
    with tarfile.open(tmp_path / f"{stem}.tar.gz") as sdist:
        names = [member.name.removeprefix(f"{stem}/") for member in sdist.getmembers() if member.isfile()]
    assert f"{module}/py.typed" in names
    outside = {name for name in names if not name.startswith(f"{module}/")}
    assert outside <= {"PKG-INFO", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore"}


def _build(folder: Path, target: Path) -> None:
    uv = Path(sys.executable).parent / "uv"
    command = (
        [uv, "build", "--quiet", "--sdist", "--wheel", "--no-sources", "--out-dir", target, folder]
        if uv.exists()
        else [sys.executable, "-m", "build", "--outdir", target, folder]
    )
    done = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
