"""One framework in a process of its own, which measures when it is told to: lines of JSON come in, and go out.

`in_process` keeps one such process per framework and lets them take turns, so that neither what they import nor how
the load of the machine changes favours one of them.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import sys
from contextlib import AsyncExitStack
from typing import Any

from tests.benchmarks.cases import CASES, OWN_PATHS
from tests.benchmarks.driving import Runner, check, nothing, started
from tests.benchmarks.environment import version_of


def main() -> None:
    """Serve until the input ends.

    python -m tests.benchmarks.worker PEER LOOP
    """
    peer, loop = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints does not belong to the answers
    try:
        module = importlib.import_module(f"tests.benchmarks.peers.with_{peer}")
    except ImportError as exc:
        _say(out, {"missing": str(exc)})
        return
    _say(out, {"version": version_of(module.DISTRIBUTION) if module.DISTRIBUTION else "", "notes": module.NOTES})
    if loop == "uvloop":
        import uvloop

        uvloop.run(_serve(module, out))
    else:
        asyncio.run(_serve(module, out))


def _say(out: Any, answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


async def _serve(module: Any, out: Any) -> None:
    runners: dict[str, Runner] = {}
    async with AsyncExitStack() as stack:
        for line in iter(sys.stdin.readline, ""):
            asked = json.loads(line)
            case = CASES[asked["case"]]
            if asked["do"] == "load":
                problem = await _load(module, case.name, runners, stack)
                _say(out, {"problem": problem})
            else:
                best = await runners[asked.get("what", case.name)].measure(asked["nanoseconds"])
                _say(out, {"best": best})


async def _load(module: Any, name: str, runners: dict[str, Runner], stack: AsyncExitStack) -> str:
    """Make and check an application. Returns what is wrong, or nothing."""
    if name not in module.CASES:
        return "not written for this framework"
    case, shape = CASES[name], OWN_PATHS.get(module.__name__.partition("with_")[2], {}).get(name)
    try:
        app = module.CASES[name]()
        await stack.enter_async_context(started(app))
        problem = await check(app, case, 1, shape) or await check(app, case, 19_999, shape)
    except Exception as exc:
        problem = f"{type(exc).__name__}: {exc}"
    if not problem:
        runners[name] = Runner(app, case, shape)
        runners.setdefault("nothing", Runner(nothing, CASES["hello"]))
        gc.collect()
        gc.freeze()
    return problem


if __name__ == "__main__":
    main()
