"""Matching by brute force, written down from the rules: what a router is compared with on random route tables.

It knows nothing of the kernel's patterns and converters: what each text is as an `int`, a `date` and so on stands here
as a list of facts, and so does the order of the converters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from microkit import Converter
from microkit.routing import ANY, Converters, RouteEntry, parse_pattern

_UUID = "12345678-1234-1234-1234-123456789abc"
# First comes first. `early` and `tail` are converters of an application: ranks 15 and 35 put them at their places.
_ORDER = ("int", "early", "uuid", "date", "tail", "float", "str", "path")
_REST = ("tail", "path")
# Every text that occurs in a random path, and what it is beside a `str`.
_FACTS: dict[str, dict[str, Any]] = {
    "": {},
    "a": {"early": "A"},
    "b": {},
    "a/b": {},
    "7": {"int": 7, "float": 7.0},
    "-1": {"int": -1, "float": -1.0},
    "2.5": {"float": 2.5},
    "+7": {},
    "2024-02-29": {"date": date(2024, 2, 29)},
    "2023-02-29": {},
    _UUID: {"uuid": UUID(_UUID)},
}
_STATIC = ("a", "b", "7", "")


@dataclass(frozen=True)
class Row:
    """One random route.

    Attributes:
        method: `*` for any.
        parts: for each segment its static text, or the name of its converter in braces.
        entry: the same for a router.
    """

    method: str
    parts: tuple[str, ...]
    entry: RouteEntry


def allowed_methods(rows: Sequence[Row], path: Sequence[str]) -> set[str]:
    """The methods of all routes that match."""
    return {row.method for row in rows if _values(row, path) is not None}


def best_route(rows: Sequence[Row], method: str, path: Sequence[str]) -> tuple[Any, tuple[Any, ...]] | None:
    """What `Matcher.match` must return."""
    matching = [row for row in rows if row.method in (method, ANY) and _values(row, path) is not None]
    if not matching:
        return None
    best = min(matching, key=_precedence)
    values = _values(best, path)
    assert values is not None
    return best.entry.target, values


def _precedence(row: Row) -> list[int]:
    return [_ORDER.index(part[1:-1]) if part.startswith("{") else -1 for part in row.parts]


def _values(row: Row, path: Sequence[str]) -> tuple[Any, ...] | None:
    """The values, if the path matches, else None."""
    values: list[Any] = []
    for index, part in enumerate(row.parts):
        name = part[1:-1] if part.startswith("{") else ""
        if index >= len(path):
            return None
        if name in _REST:
            text = "/".join(path[index:])
            return None if name == "tail" and not text.endswith("a") else (*values, text)
        if not name and part != path[index]:
            return None
        if name and path[index] == "":
            return None
        if name == "str":
            values.append(path[index])
        elif name:
            if name not in _FACTS[path[index]]:
                return None
            values.append(_FACTS[path[index]][name])
    return tuple(values) if len(path) == len(row.parts) else None


def paths() -> st.SearchStrategy[list[str]]:
    """Random segments of paths."""
    return st.lists(st.sampled_from(list(_FACTS)), min_size=1, max_size=5)


def tables() -> st.SearchStrategy[list[Row]]:
    """Random route tables without conflicts, full of static and dynamic twins."""
    single = [f"{{{name}}}" for name in _ORDER if name not in _REST]
    inner = st.lists(st.sampled_from([*_STATIC, *single, "{str}"]), max_size=4)
    last = st.sampled_from([*_STATIC, *single, "{tail}", "{path}"])
    parts = st.builds(lambda before, end: (*before, end), inner, last)
    return st.lists(st.tuples(st.sampled_from(["GET", "GET", "POST", ANY]), parts), max_size=14).map(_without_conflicts)


def _without_conflicts(drawn: list[tuple[str, tuple[str, ...]]]) -> list[Row]:
    taken: dict[tuple[str, ...], set[str]] = {}
    rows: list[Row] = []
    for number, (method, parts) in enumerate(drawn):
        methods = taken.setdefault(parts, set())
        if method in methods or ANY in methods or (methods and method == ANY):
            continue
        methods.add(method)
        # Other names in every route: they must not meet.
        named = [
            f"{{p{number}_{index}:{part[1:-1]}}}" if part.startswith("{") else part for index, part in enumerate(parts)
        ]
        pattern = parse_pattern("/" + "/".join(named), _CONVERTERS)
        rows.append(Row(method, parts, RouteEntry(method, pattern, f"{number}: {method} {pattern}")))
    return rows


def _early(text: str) -> str:
    if text != "a":
        raise ValueError(text)
    return "A"


def _tail(text: str) -> str:
    if not text.endswith("a"):
        raise ValueError(text)
    return text


_CONVERTERS = Converters()
_CONVERTERS.register(Converter("early", str, _early, rank=15))
_CONVERTERS.register(Converter("tail", str, _tail, rank=35, rest=True))
