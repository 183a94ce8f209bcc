"""The router: from the first segment of a path, by a table that was built at start-up, to a handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from microkit import ConfigurationError, RouterSpec
from microkit.routing import RouteEntry
from microkit.routing.matching import match_segments

from .triggers import ROUTER, Handler

Found = tuple[Any, tuple[Any, ...]]
_Targets = dict[str, tuple[Any, Handler]]  # of one name, by method
_INDEX = "index"
_NONE: _Targets = {}


class _Place:
    """The handlers below one prefix.

    Args:
        prefix: segments of its pattern.
    """

    def __init__(self, prefix: tuple[Any, ...]) -> None:
        self.prefix = prefix
        self.names: dict[str, _Targets] = {}

    def find(self, segments: Sequence[str]) -> tuple[_Targets, tuple[Any, ...], Sequence[str], bool]:
        """The targets of a path, the values of the prefix, the segments for the handler, and whether it was named."""
        values: tuple[Any, ...] = ()
        if self.prefix:
            found = match_segments(self.prefix, segments, prefix=True)
            if found is None:
                return _NONE, (), (), False
            values, segments = found, segments[len(self.prefix) :]
        name = segments[0] if segments else ""
        targets = self.names.get(name)
        if targets is not None:
            return targets, values, segments[1:], True
        if not name and len(segments) < 2:
            return self.names.get(_INDEX, _NONE), values, (), True
        # An unknown name is an argument of `index`; a private one is nothing.
        known = _NONE if name.startswith(("_", "ws_")) else self.names.get(_INDEX, _NONE)
        return known, values, segments, False


def _takes(handler: Handler, rest: Sequence[str], named: bool) -> bool:
    """Whether a handler takes so many segments; `index` takes unknown names only if it has parameters for any."""
    if len(rest) <= handler.positions:
        return True
    return handler.settings.ignore_surplus_segments and (named or handler.positions > 0)


class AutoRouter:
    """Matches the name of a handler, and takes what follows it as its arguments.

    Args:
        entries: the routes of handlers, whose triggers tell more of them than their patterns.

    Raises:
        ConfigurationError: there is a route among them that belongs to no handler of a site.
    """

    def __init__(self, entries: Sequence[RouteEntry]) -> None:
        places: dict[tuple[Any, ...], _Place] = {}
        order: dict[tuple[Any, ...], Any] = {}
        for entry in entries:
            handler = getattr(entry.target.binding.trigger, "handler", None)
            if not isinstance(handler, Handler):
                raise ConfigurationError(
                    f"The router {ROUTER!r} serves the handlers of sites only, so {entry.pattern} needs another one: "
                    f"leave App(router=...) out."
                )
            segments = entry.pattern.segments
            if handler.name != _INDEX:
                segments = segments[:-1]
            elif segments == ("",):
                segments = ()
            shape = entry.pattern.shape[: len(segments)]
            place = places.setdefault(shape, _Place(segments))
            place.names.setdefault(handler.name, {})[entry.method] = entry.target, handler
            order[shape] = -len(segments), entry.pattern.precedence[: len(segments)]
        self._places = [places[shape] for shape in sorted(places, key=lambda shape: order[shape])]
        # Most sites are one class without a prefix.
        self._names = self._places[0].names if len(places) == 1 and not self._places[0].prefix else {}

    def match(self, method: str, segments: Sequence[str]) -> Found | None:
        """The target, the values of the prefix and the segments for parameters; as `microkit.routing.Matcher`."""
        found = self._names.get(segments[0], _NONE).get(method)
        if found is not None and len(segments) <= found[1].positions + 1:
            return found[0], tuple(segments[1:])
        for place in self._places:
            targets, values, rest, named = place.find(segments)
            if method in targets:
                target, handler = targets[method]
                if _takes(handler, rest, named):
                    return target, (*values, *rest)
        return None

    def allowed(self, segments: Sequence[str]) -> set[str]:
        """All methods under which some handler answers this path."""
        methods: set[str] = set()
        for place in self._places:
            targets, _, rest, named = place.find(segments)
            methods.update(method for method, (_, handler) in targets.items() if _takes(handler, rest, named))
        return methods


AUTO = RouterSpec(ROUTER, AutoRouter)
