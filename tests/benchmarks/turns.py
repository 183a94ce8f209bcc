"""Times functions in turns, in one process: the best CPU time of each, less what the loop around it takes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

_BATCH_NS = 4_000_000


def best_of(ways: Mapping[str, Callable[[Any], object]], arguments: Sequence[Any], rounds: int) -> dict[str, float]:
    """CPU nanoseconds of one call of each function.

    Args:
        ways: the functions by name.
        arguments: what they are called with, one after the other.
        rounds: how often each has its turn.
    """
    everything = {"": lambda argument: None, **ways}
    sizes: dict[str, int] = {}
    best = dict.fromkeys(everything, float("inf"))
    for _ in range(rounds + 1):
        for name, function in everything.items():
            size = sizes.setdefault(name, 1)
            chosen = [arguments[index % len(arguments)] for index in range(size)]
            start = time.thread_time_ns()
            for argument in chosen:
                function(argument)
            taken = max(time.thread_time_ns() - start, 1)
            if taken < _BATCH_NS // 2:
                sizes[name] = min(max(size * 2, size * _BATCH_NS // taken), 200_000)
                if size < 1_000 and taken < _BATCH_NS // 4:
                    continue  # too short to count
            best[name] = min(best[name], taken / size)
    around = best.pop("")
    return {name: taken - around for name, taken in best.items()}


async def best_of_async(ways: Mapping[str, Callable[[], Awaitable[object]]], rounds: int) -> dict[str, float]:
    """The same for coroutine functions without arguments."""

    async def nothing() -> None:
        return

    everything = {"": nothing, **ways}
    best = dict.fromkeys(everything, float("inf"))
    sizes = {name: await _size(function) for name, function in everything.items()}
    for _ in range(rounds):
        for name, function in everything.items():
            best[name] = min(best[name], await _run(function, sizes[name]) / sizes[name])
    around = best.pop("")
    return {name: taken - around for name, taken in best.items()}


async def _size(function: Callable[[], Awaitable[object]]) -> int:
    size, taken = 1, 0
    while taken < _BATCH_NS // 2:
        size *= 2
        taken = await _run(function, size)
    return max(1, size * _BATCH_NS // taken)


async def _run(function: Callable[[], Awaitable[object]], size: int) -> int:
    start = time.thread_time_ns()
    for _ in range(size):
        await function()
    return time.thread_time_ns() - start
