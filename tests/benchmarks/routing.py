"""The cost of a match by the number of routes, for the kernel's linear router and for the trie.

Run it with `python tests/benchmarks/routing.py [repetitions]`. All tables hold routes `/api/v1/resN/{id}/actN`; every
match asks for the last of them with another id, so that no cache helps. Printed are the best CPU time of one match, its
ratio to the same router with one route, the same for a path that no route has, and the time to build the table.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from microkit import RouterSpec
from microkit.routing import Converters, Matcher, RouteEntry, parse_pattern
from microkit.routing.matching import LINEAR
from microkit_trie import TRIE

_COUNTS = (1, 1_000, 10_000)
_PATTERNS = {"str": "/api/v1/res{n}/{{id}}/act{n}", "int": "/api/v1/res{n}/{{id:int}}/act{n}"}
_STEPS = 20_000_000  # of the linear router: bounds how many matches it is asked for


def main() -> None:
    """Print one row per router, kind of parameter and number of routes."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print("| router | parameter | routes | ns per match | to one route | ns per miss | build (ms) |")
    print("|---|---|---|---|---|---|---|")
    for spec in (LINEAR, TRIE):
        for name, text in _PATTERNS.items():
            one = 0.0
            for count in _COUNTS:
                hit, miss, build = _measure(spec, text, count, repetitions)
                one = one or hit
                cells = (spec.name, name, count, f"{hit:.0f}", f"{hit / one:.2f}x", f"{miss:.0f}", f"{build * 1e3:.1f}")
                print(f"| {' | '.join(map(str, cells))} |")


def _measure(spec: RouterSpec, text: str, count: int, repetitions: int) -> tuple[float, float, float]:
    """Nanoseconds of a match and of a miss, and seconds of the build."""
    converters = Converters()
    entries = [RouteEntry("GET", parse_pattern(text.format(n=n), converters), n) for n in range(count)]
    started = time.perf_counter()
    matcher = spec.build(entries)
    build = time.perf_counter() - started
    matches = max(5, min(20_000, _STEPS // (count * 200)))
    last = count - 1
    hits = [["api", "v1", f"res{last}", str(number), f"act{last}"] for number in range(matches)]
    misses = [["api", "v1", f"res{last}", str(number), "nothing"] for number in range(matches)]
    assert matcher.match("GET", hits[0]) is not None
    assert matcher.match("GET", misses[0]) is None
    return _best(matcher, hits, repetitions), _best(matcher, misses, repetitions), build


def _best(matcher: Matcher, paths: Sequence[list[str]], repetitions: int) -> float:
    """The best time of a match, the loop around it left out."""
    loop = min(_run(lambda method, path: None, paths) for _ in range(repetitions))
    return (min(_run(matcher.match, paths) for _ in range(repetitions)) - loop) / len(paths)


def _run(match: Callable[[str, list[str]], object], paths: Sequence[list[str]]) -> int:
    started = time.thread_time_ns()
    for path in paths:
        match("GET", path)
    return time.thread_time_ns() - started


if __name__ == "__main__":
    main()
