"""The trie: one node per segment of the route table, walked from the root to the end of the path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from microkit import Converter, RouterSpec
from microkit.routing import ANY, RouteEntry

Found = tuple[Any, tuple[Any, ...]]


class TrieRouter:
    """Matches in time linear in the depth of the path, however many routes there are.

    At every segment the static child comes first, then the dynamic ones in the order of their converters. Where the
    first choice leads to no route of that method, the others are tried. Every node is the child of one other node, so a
    path visits it at most once: the worst table costs its own size, never more.

    Args:
        entries: the route table; its order does not matter.
    """

    def __init__(self, entries: Sequence[RouteEntry]) -> None:
        self._root = _Node(0)
        for entry in entries:
            self._root.add(entry)
        self._root.freeze()

    def match(self, method: str, segments: Sequence[str]) -> Found | None:
        """The target and converted path values of the best route, or None; as `microkit.routing.Matcher`.

        Args:
            method: upper-case method.
            segments: decoded segments of the path, at least one.
        """
        # The walk as long as there is one way to go only; the rest, if any, is a search from the first fork.
        node = self._root
        values: tuple[Any, ...] = ()
        for segment in segments:
            static = node.static
            if segment in static:
                if node.branches:  # what this hit shadows may be the only way to a route
                    return node.search(method, segments, values)
                node = static[segment]
                continue
            only = node.only
            if only is None:
                return node.search(method, segments, values) if node.branches else None
            if not segment:
                return None
            if node.parse is not None:
                try:
                    segment = node.parse(segment)
                except ValueError:
                    return None
            values += (segment,)
            node = only
        ends = node.ends
        return (ends[method], values) if method in ends else node.end(method, values)

    def allowed(self, segments: Sequence[str]) -> set[str]:
        """All methods under which some route matches this path."""
        methods: set[str] = set()
        self._root.search("", segments, (), methods)
        return methods


TRIE = RouterSpec("trie", TrieRouter, automatic=True)


class _Branch(NamedTuple):
    """A dynamic child.

    Attributes:
        converter: what the segment must be.
        node: where it leads.
    """

    converter: Converter
    node: _Node

    @property
    def order(self) -> tuple[int, str]:
        return self.converter.rank, self.converter.name


class _Node:
    """What may follow after some segments of a path.

    Attributes:
        depth: how many segments lead here.
        static: children by their text.
        branches: dynamic children in the order in which they are tried.
        ends: targets of the routes that end here, by method.
        only: the child of the only branch, if that takes one segment.
        parse: makes its value; None if the text is the value.
    """

    __slots__ = ("branches", "depth", "ends", "only", "parse", "static")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.static: dict[str, _Node] = {}
        self.branches: tuple[_Branch, ...] = ()
        self.ends: dict[str, Any] = {}
        self.only: _Node | None = None
        self.parse: Any = None

    def add(self, entry: RouteEntry) -> None:
        """Add a route below this node."""
        node = self
        for part in entry.pattern.segments:
            if isinstance(part, str):
                node = node.static.setdefault(part, _Node(node.depth + 1))
            else:
                node = node.branch(part.converter)
        node.ends[entry.method] = entry.target

    def branch(self, converter: Converter) -> _Node:
        """The dynamic child of a converter, made if there is none."""
        for branch in self.branches:
            if branch.converter.name == converter.name:
                return branch.node
        made = _Branch(converter, _Node(self.depth + 1))
        self.branches = tuple(sorted((*self.branches, made), key=lambda branch: branch.order))
        return made.node

    def freeze(self) -> None:
        """Note the shortcut for the usual node, here and below."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if len(node.branches) == 1 and not node.branches[0].converter.rest:
                converter, node.only = node.branches[0]
                node.parse = None if converter.parse is str else converter.parse
            waiting += [*node.static.values(), *(branch.node for branch in node.branches)]

    def search(
        self, method: str, segments: Sequence[str], values: tuple[Any, ...], methods: set[str] | None = None
    ) -> Found | None:
        """The best route below this node.

        Args:
            values: those of the segments before it.
            methods: if given, nothing is found; the methods of all routes that match are added to it.
        """
        if self.depth == len(segments):
            return self.end(method, values, methods)
        segment = segments[self.depth]
        child = self.static.get(segment)
        if child is not None:
            found = child.search(method, segments, values, methods)
            if found is not None:
                return found
        for converter, node in self.branches:
            value: Any = "/".join(segments[self.depth :]) if converter.rest else segment
            if not value and not converter.rest:
                continue
            try:
                value = converter.parse(value)
            except ValueError:
                continue
            taken = (*values, value)
            if converter.rest:
                found = node.end(method, taken, methods)
            else:
                found = node.search(method, segments, taken, methods)
            if found is not None:
                return found
        return None

    def end(self, method: str, values: tuple[Any, ...], methods: set[str] | None = None) -> Found | None:
        """The route that ends here, if it answers the method."""
        ends = self.ends
        if methods is not None:
            methods.update(ends)
        elif method in ends:
            return ends[method], values
        elif ANY in ends:
            return ends[ANY], values
        return None
