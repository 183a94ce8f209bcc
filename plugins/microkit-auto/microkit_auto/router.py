"""The router: from the first segment of a path, by a table that was built at start-up, to a handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from microkit import RouterSpec
from microkit.routing import RouteEntry
from microkit.routing.matching import match_segments

from .triggers import ROUTER, Handler

Found = tuple[Any, tuple[Any, ...]]
_INDEX = "index"


class _Row:
    """One handler of a site: its targets by method."""

    __slots__ = ("handler", "targets")

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.targets: dict[str, Any] = {}


class _Place:
    """The handlers below one prefix.

    Args:
        prefix: segments of its pattern.
    """

    def __init__(self, prefix: tuple[Any, ...]) -> None:
        self.prefix = prefix
        self.names: dict[str, _Row] = {}

    def add(self, entry: RouteEntry) -> None:
        handler: Handler = entry.target.binding.trigger.handler
        self.names.setdefault(handler.name, _Row(handler)).targets[entry.method] = entry.target

    def find(self, segments: Sequence[str]) -> tuple[_Row, tuple[Any, ...], Sequence[str]] | None:
        """The row of a path, the values of the prefix and the segments for the handler's parameters."""
        values: tuple[Any, ...] = ()
        if self.prefix:
            found = match_segments(self.prefix, segments, prefix=True)
            if found is None:
                return None
            values, segments = found, segments[len(self.prefix) :]
        name = segments[0] if segments else ""
        row = self.names.get(name)
        if row is not None:
            rest = segments[1:]
        elif name or len(segments) > 1:
            row, rest = self.names.get(_INDEX), segments
            # An unknown name is an argument of `index`, if that takes any; a private one is nothing.
            if row is None or not row.handler.positions or name.startswith(("_", "ws_")):
                return None
        else:
            row, rest = self.names.get(_INDEX), ()
            if row is None:
                return None
        if len(rest) > row.handler.positions and not row.handler.settings.ignore_surplus_segments:
            return None
        return row, values, rest


class AutoRouter:
    """Matches the name of a handler, and takes what follows it as its arguments.

    Args:
        entries: the routes of handlers, whose triggers tell more of them than their patterns.
    """

    def __init__(self, entries: Sequence[RouteEntry]) -> None:
        places: dict[tuple[Any, ...], _Place] = {}
        order: dict[tuple[Any, ...], Any] = {}
        for entry in entries:
            segments = entry.pattern.segments
            if entry.target.binding.trigger.handler.name != _INDEX:
                segments = segments[:-1]
            elif segments == ("",):
                segments = ()
            shape = entry.pattern.shape[: len(segments)]
            places.setdefault(shape, _Place(segments)).add(entry)
            order[shape] = -len(segments), entry.pattern.precedence[: len(segments)]
        self._places = [places[shape] for shape in sorted(places, key=lambda shape: order[shape])]

    def match(self, method: str, segments: Sequence[str]) -> Found | None:
        """The target, the values of the prefix and the segments for parameters; as `microkit.routing.Matcher`."""
        for place in self._places:
            found = place.find(segments)
            if found is not None:
                row, values, rest = found
                if method in row.targets:
                    return row.targets[method], (*values, *rest)
        return None

    def allowed(self, segments: Sequence[str]) -> set[str]:
        """All methods under which some handler answers this path."""
        rows = (found[0] for place in self._places if (found := place.find(segments)) is not None)
        return {method for row in rows for method in row.targets}


AUTO = RouterSpec(ROUTER, AutoRouter)
