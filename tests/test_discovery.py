"""Entry points found by a scan of the path, compared with importlib.metadata on generated trees."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from microkit.discovery import FoundPlugin, find_plugins


def _dist_info(
    folder: Path, directory: str, *lines: str, version: str = "1.0", name: str | None = None, metadata: str = "METADATA"
) -> Path:
    info = folder / directory
    info.mkdir(parents=True)
    project = name or directory.rpartition(".")[0].partition("-")[0]
    (info / metadata).write_text(f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n\nVersion: no\n")
    if lines:
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return info


def _by_importlib(path: list[str]) -> list[tuple[str, str, str, str]]:
    """What importlib.metadata finds, with its rule that the first distribution of a name shadows the others."""
    found: list[tuple[str, str, str, str]] = []
    seen: set[str] = set()
    for distribution in metadata.distributions(path=path):
        name = distribution.metadata["Name"].lower().replace("_", "-").replace(".", "-")
        if name not in seen:
            seen.add(name)
            points = (point for point in distribution.entry_points if point.group == "microkit")
            found.extend((point.name, point.value, name, distribution.version) for point in points)
    return sorted(found)


def _found(path: list[str]) -> list[tuple[str, str, str, str]]:
    return [(entry.name, entry.value, entry.distribution, entry.version) for entry in find_plugins(path=path)]


@pytest.fixture
def tree(tmp_path: Path) -> list[str]:
    """A path with every form in which distributions occur."""
    first, second, egg = tmp_path / "first", tmp_path / "second", tmp_path / "old-2.0-py3.11.egg"
    _dist_info(first, "microkit_trie-0.4.1.dist-info", "[microkit]", "trie = microkit_trie", version="0.4.1")
    _dist_info(
        first,
        "Big.Project-3.dist-info",
        "[console_scripts]", "big = big:main", "", "[microkit]", "# a comment", "two=big.two:plugin", "one = big.one",
        "[other]", "trie = not.this",
        version="3",
    )  # fmt: skip
    _dist_info(first, "nothing-1.0.dist-info")
    _dist_info(first, "shadowed-1.0.dist-info", "[console_scripts]", "s = s:main")
    _dist_info(first, "similar-1.0.dist-info", "[microkit.more]", "similar = similar")
    _dist_info(first, "develop.egg-info", "[microkit]", "dev = develop:p", version="9.1", metadata="PKG-INFO")
    _dist_info(first, "built-5.0-py3.11.egg-info", "[microkit]", "built = built", version="5.0", metadata="PKG-INFO")
    (first / "flat-1.0.egg-info").write_text("Metadata-Version: 2.1\nName: flat\nVersion: 1.0\n")
    crlf = _dist_info(first, "crlf-1.0.dist-info")
    (crlf / "entry_points.txt").write_bytes(b"[microkit]\r\ncrlf = crlf:plugin\r\n")
    _dist_info(second, "microkit_trie-0.3.0.dist-info", "[microkit]", "trie = old_trie", version="0.3.0")
    _dist_info(second, "shadowed-2.0.dist-info", "[microkit]", "s = s:plugin", version="2.0")
    _dist_info(second, "extras-1.0.dist-info", "[microkit]", "extras = extras:plugin [fast]")
    (egg / "EGG-INFO").mkdir(parents=True)
    (egg / "EGG-INFO" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: old\nVersion: 2.0\n")
    (egg / "EGG-INFO" / "entry_points.txt").write_text("[microkit]\nold = old\n")
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("zipped-1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: zipped\nVersion: 1.5\n")
        bundle.writestr("zipped-1.5.dist-info/entry_points.txt", "[microkit]\nzipped = zipped:plugin\n")
    text = tmp_path / "no-archive.txt"
    text.write_text("no archive")
    return [str(first), str(second), str(first), str(egg), str(archive), str(text), str(tmp_path / "missing")]


@pytest.mark.feature("FC-04")
def test_the_result_is_that_of_importlib_metadata(tree: list[str]) -> None:
    found = _found(tree)
    assert found == _by_importlib(tree)
    assert [name for name, _, _, _ in found] == [
        "built",
        "crlf",
        "dev",
        "extras",
        "old",
        "one",
        "trie",
        "two",
        "zipped",
    ]


def test_the_first_distribution_on_the_path_shadows_later_ones(tree: list[str]) -> None:
    first, second, *_ = tree
    assert ("trie", "microkit_trie", "microkit-trie", "0.4.1") in _found([first, second])
    assert ("trie", "old_trie", "microkit-trie", "0.3.0") in _found([second, first])
    # Also by one that offers no plugin at all.
    assert "s" not in {entry.name for entry in find_plugins(path=[first, second])}
    assert "s" in {entry.name for entry in find_plugins(path=[second, first])}


@pytest.mark.feature("FC-05")
def test_the_order_is_by_name_whatever_the_file_system_says(tmp_path: Path) -> None:
    for name in ("zeta", "alpha", "mid"):
        _dist_info(tmp_path, f"x{name}-1.0.dist-info", "[microkit]", f"{name} = {name}")
    assert [entry.name for entry in find_plugins(path=[str(tmp_path)])] == ["alpha", "mid", "zeta"]


def test_leftovers_of_an_interrupted_uninstallation_are_ignored(tmp_path: Path) -> None:
    _dist_info(tmp_path, "~icrokit_trie-0.3.0.dist-info", "[microkit]", "trie = microkit_trie")
    assert find_plugins(path=[str(tmp_path)]) == []


def test_a_found_plugin_says_where_it_comes_from(tmp_path: Path) -> None:
    _dist_info(tmp_path, "My_Plugin-2.1.dist-info", "[microkit]", "mine = my_plugin:plugin", version="2.1")
    assert find_plugins(path=[str(tmp_path)]) == [FoundPlugin("mine", "my_plugin:plugin", "my-plugin", "2.1")]


def test_unreadable_metadata_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "odd-1.0.dist-info" / "entry_points.txt").mkdir(parents=True)
    bad = _dist_info(tmp_path, "bytes-1.0.dist-info")
    (bad / "entry_points.txt").write_bytes(b"\xff\xfe[microkit]\nbytes = b\n[x]")
    _dist_info(tmp_path, "good-1.0.dist-info", "[microkit]", "broken line", "good = good")
    assert "good" in {entry.name for entry in find_plugins(path=[str(tmp_path)])}


def test_distributions_of_an_importer_without_path_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = _dist_info(tmp_path, "frozen-1.0.dist-info", "[microkit]", "frozen = frozen")

    class Importer(metadata.DistributionFinder):
        def find_distributions(self, context: object = None) -> list[metadata.Distribution]:
            return [metadata.PathDistribution(info)]

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Importer()])
    assert "frozen" in {entry.name for entry in find_plugins()}
    assert find_plugins(path=[]) == []


def test_directories_are_searched_without_importlib_metadata(tmp_path: Path) -> None:
    _dist_info(tmp_path, "mine-1.0.dist-info", "[microkit]", "mine = mine")
    program = (
        "import sys; from microkit.discovery import find_plugins;"
        f"assert find_plugins(path=[{str(tmp_path)!r}])[0].name == 'mine';"
        "assert 'importlib.metadata' not in sys.modules"
    )
    root = str(Path(__file__).resolve().parent.parent)
    subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.append({root!r}); {program}"], check=True)
