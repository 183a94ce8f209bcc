"""What a router is, and the kernel's own: a linear scan over patterns sorted by precedence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .pattern import Param, Pattern

ANY = "*"


@dataclass(frozen=True)
class RouteEntry:
    """One row of a route table.

    Attributes:
        method: upper-case method, or `*` for any.
        pattern: the parsed path (a router of its own may use another object).
        target: what a match returns.
    """

    method: str
    pattern: Pattern
    target: Any


class Matcher(Protocol):
    """A built route table."""

    def match(self, method: str, segments: Sequence[str]) -> tuple[Any, tuple[Any, ...]] | None:
        """The target and converted path values of the best route, or None.

        Args:
            method: upper-case method.
            segments: decoded segments of the path, at least one.
        """
        ...

    def allowed(self, segments: Sequence[str]) -> set[str]:
        """All methods under which some route matches this path."""
        ...


@dataclass(frozen=True)
class RouterSpec:
    """A contributed router.

    Attributes:
        name: what `App(router=...)` and triggers select it by.
        build: makes the matcher of a table.
        automatic: used by every app that selects no router.
    """

    name: str
    build: Callable[[Sequence[RouteEntry]], Matcher]
    automatic: bool = False


class LinearRouter:
    """Tries the patterns one after the other, in order of precedence. Good for small tables.

    Args:
        entries: the route table; its order does not matter.
    """

    def __init__(self, entries: Sequence[RouteEntry]) -> None:
        self._rows = [
            (entry.method, entry.pattern.segments, entry.target)
            for entry in sorted(entries, key=lambda entry: entry.pattern.precedence)
        ]

    def match(self, method: str, segments: Sequence[str]) -> tuple[Any, tuple[Any, ...]] | None:
        for offered, pattern, target in self._rows:
            if offered in (method, ANY):
                values = match_segments(pattern, segments)
                if values is not None:
                    return target, values
        return None

    def allowed(self, segments: Sequence[str]) -> set[str]:
        return {method for method, pattern, _ in self._rows if match_segments(pattern, segments) is not None}


def match_segments(
    pattern: Sequence[str | Param], segments: Sequence[str], *, prefix: bool = False
) -> tuple[Any, ...] | None:
    """The converted values if `pattern` matches all `segments` (with `prefix`: their beginning), else None."""
    rest = bool(pattern) and isinstance(pattern[-1], Param) and pattern[-1].converter.rest
    if len(segments) < len(pattern) or (len(segments) > len(pattern) and not rest and not prefix):
        return None
    values = []
    for index, part in enumerate(pattern):
        text = segments[index]
        if isinstance(part, str):
            if part != text:
                return None
            continue
        if part.converter.rest:
            text = "/".join(segments[index:])
        elif not text:
            return None  # a dynamic segment is never empty
        try:
            values.append(part.converter.parse(text))
        except ValueError:
            return None
    return tuple(values)


LINEAR = RouterSpec("linear", LinearRouter)
