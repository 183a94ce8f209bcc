"""How many steps the trie takes: counted, not timed.

A segment that counts how often it is looked up tells how many nodes were visited, and converters that count their calls
tell how often each dynamic child was entered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microkit import Converter
from microkit.routing import Converters, Matcher, RouteEntry, parse_pattern
from microkit_trie import TRIE

pytestmark = [pytest.mark.guarantee("G3"), pytest.mark.feature("F001-02")]


class Segment(str):
    """Text that counts how often a dict looks for it."""

    looked_up = 0

    def __hash__(self) -> int:
        Segment.looked_up += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


class Counting:
    """A trie that counts its steps.

    Args:
        texts: patterns, with `*` for a parameter. Every dynamic node gets a converter of its own, so that its visits
            can be told from those of the others.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = list(texts)
        self.visits: Counter[str] = Counter()
        converters = Converters()
        nodes: dict[tuple[str, ...], str] = {(): ""}
        entries: list[RouteEntry] = []
        for text in self.texts:
            parts = text[1:].split("/")
            written: list[str] = []
            for depth, part in enumerate(parts):
                place = tuple(parts[: depth + 1])
                if place not in nodes:
                    nodes[place] = name = f"at{len(nodes)}"
                    if part == "*":
                        converters.register(Converter(name, str, self._parser(name)))
                written.append(f"{{p{depth}:{nodes[place]}}}" if part == "*" else part)
            entries.append(RouteEntry("GET", parse_pattern("/" + "/".join(written), converters), text))
        self.nodes = len(nodes)
        self.router: Matcher = TRIE.build(entries)

    def _parser(self, name: str) -> Callable[[str], str]:
        def parse(text: str) -> str:
            self.visits[name] += 1
            return str(text)

        return parse

    def steps(self, path: Iterable[str], method: str = "GET") -> tuple[Any, int]:
        """What matches, and the number of steps. No node may be visited twice."""
        segments = [Segment(text) for text in path]
        self._start()
        self.router.allowed(segments)
        self._no_node_twice()
        self._start()
        found = self.router.match(method, segments)
        self._no_node_twice()
        return found, Segment.looked_up + self.visits.total()

    def _start(self) -> None:
        Segment.looked_up = 0
        self.visits.clear()

    def _no_node_twice(self) -> None:
        assert set(self.visits.values()) <= {1}
        assert Segment.looked_up <= 2 * self.nodes  # `in` and `[]` at each


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_without_twins_the_cost_is_the_depth_whatever_the_number_of_routes(count: int) -> None:
    trie = Counting(f"/api/v1/res{n}/*/act{n}" for n in range(count))
    last = count - 1
    found, steps = trie.steps(["api", "v1", f"res{last}", "7", f"act{last}"])
    assert found == (f"/api/v1/res{last}/*/act{last}", ("7",))
    assert steps == 10
    assert trie.steps(["api", "v1", f"res{last}", "7", "nothing"])[0] is None


def test_the_length_of_a_path_beyond_the_table_costs_nothing() -> None:
    trie = Counting(["/*/a", "/a/*", "/a/a/a"])
    short, long = (trie.steps(["a"] * length)[1] for length in (4, 4000))
    assert short == long


@pytest.mark.parametrize("depth", [1, 2, 5, 10, 200])
def test_a_twin_at_every_depth_is_tried_once(depth: int) -> None:
    """Routes `/a/a/*/*/end2`: the walk turns back at each depth, and never takes up the same way again."""
    trie = Counting("/" + "a/" * n + "*/" * (depth - n) + f"end{n}" for n in range(0, depth, 1 + depth // 20))
    found, _ = trie.steps([*["a"] * depth, "end0"])
    assert found is not None
    found, steps = trie.steps([*["a"] * depth, "nowhere"])
    assert found is None
    assert steps <= 3 * trie.nodes


def test_a_parameter_before_a_fork_is_not_read_again() -> None:
    found, _ = Counting(["/*/a/x", "/*/*/y"]).steps(["c", "a", "y"])
    assert found == ("/*/*/y", ("c", "a"))


@pytest.mark.parametrize("depth", [1, 4, 9])
def test_all_mixtures_of_twins_cost_the_size_of_the_table_at_most(depth: int) -> None:
    trie = Counting("/" + "/".join(mixture) + "/end" for mixture in product("a*", repeat=depth))
    assert trie.steps([*["a"] * depth, "end"])[0] == ("/" + "a/" * depth + "end", ())
    for last, method in (("nowhere", "GET"), ("end", "POST")):
        found, steps = trie.steps([*["a"] * depth, last], method)
        assert found is None
        assert steps <= 3 * trie.nodes


_PARTS = st.lists(st.sampled_from("ab*"), min_size=1, max_size=7)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may stand still
@given(
    st.lists(_PARTS, min_size=1, max_size=25, unique_by=tuple), st.lists(st.sampled_from("abc"), min_size=1, max_size=8)
)
def test_no_table_and_no_path_make_it_visit_a_node_twice(tables: list[list[str]], path: list[str]) -> None:
    Counting("/" + "/".join(parts) for parts in tables).steps(path)


def test_plain_parameters_call_no_converter() -> None:
    class Text(str):
        """A segment whose identity shows that nothing was made of it."""

    pattern = parse_pattern("/users/{id}", Converters())
    segment = Text("7")
    found = TRIE.build([RouteEntry("GET", pattern, "target")]).match("GET", ["users", segment])
    assert found is not None
    assert found[1][0] is segment
