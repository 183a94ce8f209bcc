"""Entry points of one group, found without a scan of all metadata.

`importlib.metadata` parses every distribution on the path and is slow to import; a plugin system that asks for one
group at start-up needs the directory listing of each path entry and a handful of small files. The result is the same:
of two distributions with one name the first on the path counts, as it does for imports.

Format: https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_SUFFIXES = (".dist-info", ".egg-info")
_SEPARATORS = re.compile(r"[-_.]+")


@dataclass(frozen=True, slots=True, order=True)
class FoundPlugin:
    """An entry point and the distribution that declares it.

    Attributes:
        name: name of the entry point.
        value: object reference, `package.module` or `package.module:attribute`.
        distribution: normalised name of the distribution (PEP 503).
        version: version of the distribution; empty if its metadata has none.
    """

    name: str
    value: str
    distribution: str
    version: str


# A distribution: its name, the version in the name of its directory, and what reads a file of its metadata.
_Found: TypeAlias = tuple[str, str, Callable[[str], str | None]]


def find_plugins(group: str = "microkit", path: Sequence[str] | None = None) -> list[FoundPlugin]:
    """Find the entry points of a group.

    Args:
        group: name of the group.
        path: directories and archives to search, `sys.path` if None.

    Returns:
        The entry points, ordered by name, value and distribution; never in file-system order.
    """
    found: list[FoundPlugin] = []
    seen: set[str] = set()
    for distribution, version, read in _distributions(path):
        # A distribution without the group shadows a later one with it, so each name is remembered.
        if distribution in seen:
            continue
        seen.add(distribution)
        text = read("entry_points.txt") or ""
        # Most distributions have no such file, or one that does not mention the group.
        if f"[{group}]" in text:
            for name, value in _parse(text, group):
                version = version or _version(read)
                found.append(FoundPlugin(name, value, distribution, version))
    return sorted(found)


def _distributions(path: Sequence[str] | None) -> Iterator[_Found]:
    """All distributions in the order of the path; within one directory by name."""
    for location in dict.fromkeys(sys.path if path is None else path):
        # An unpacked egg has its own layout; an archive can only be listed by its importer.
        if location.lower().endswith(".egg") or os.path.isfile(location):
            yield from _ask_importlib(location)
            continue
        try:
            names = os.listdir(location or ".")
        except OSError:
            continue
        for name in sorted(names):
            # pip renames a distribution to "~..." while it removes it; an interrupted run leaves that behind.
            if name.endswith(_SUFFIXES) and not name.startswith("~"):
                stem, _, suffix = name.rpartition(".")
                distribution, _, version = stem.partition("-")
                # The directory of an egg is named after the build (1.0-py3.11), or has no version at all.
                version = version if suffix == "dist-info" else ""
                yield _normalise(distribution), version, partial(_read_file, os.path.join(location, name))
    if path is None:
        yield from _ask_importers()


def _ask_importlib(location: str) -> Iterator[_Found]:
    from importlib import metadata

    yield from _wrap(metadata.distributions(path=[location]))


def _ask_importers() -> Iterator[_Found]:
    """Distributions of importers that do not use the path, such as those of frozen applications."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_distributions", None)
        module = getattr(finder, "__module__", None) or type(finder).__module__
        # The standard finder, and its backport, search the path that was just searched.
        if find is None or module.partition(".")[0] in ("_frozen_importlib_external", "importlib_metadata"):
            continue
        from importlib import metadata

        yield from _wrap(find(metadata.DistributionFinder.Context()))


def _wrap(distributions: Iterable[Distribution]) -> Iterator[_Found]:
    for distribution in distributions:
        name = distribution.metadata["Name"]
        if name:
            yield _normalise(name), "", distribution.read_text


def _read_file(directory: str, name: str) -> str:
    try:
        with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # absent, unreadable, or the old form in which .egg-info is a file
        return ""


def _parse(text: str, group: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == group:
            name, separator, value = line.partition("=")
            if separator:
                yield name.strip(), value.strip()


def _version(read: Callable[[str], str | None]) -> str:
    """The version in the metadata; empty if there is none."""
    for name in ("METADATA", "PKG-INFO"):
        for line in (read(name) or "").partition("\n\n")[0].splitlines():
            if line.lower().startswith("version:"):
                return line.partition(":")[2].strip()
    return ""


def _normalise(name: str) -> str:
    return _SEPARATORS.sub("-", name).lower()
