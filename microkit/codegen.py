"""The core of a plan as a function that is written out: one statement per dependency, its values in local variables.

A loop over steps costs several times what the dependencies themselves do, and it runs for every call. Plans of one
shape share their code, so that many routes are not compiled one by one. `microkit explain --source` prints it, and
tracebacks show its lines.
"""

from __future__ import annotations

import builtins
import linecache
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from .call import MISSING, Reply
from .graph import AWAITED, BEGUN, CALLED, Steps, enter_owned, leave_at_once, leave_scope, yielded_nothing
from .renderers import internal_error

if TYPE_CHECKING:
    pass

_HELPERS: Mapping[str, Any] = {
    "__builtins__": builtins,
    "enter_owned": enter_owned,
    "internal_error": internal_error,
    "leave_at_once": leave_at_once,
    "leave_scope": leave_scope,
    "yielded_nothing": yielded_nothing,
}
_compiled: dict[str, CodeType] = {}


@dataclass(frozen=True)
class Shape:
    """What a core depends on beside its steps.

    Attributes:
        arguments: slots of the handler's arguments.
        awaited: the handler's result is waited for.
        takes_call: rendering takes the call as well as the result.
        scoped: something is left at the end.
        late: something may be left after the background tasks.
        framed: an outer scope has made values before, which are in the call's frame.
    """

    arguments: Sequence[int]
    awaited: bool
    takes_call: bool
    scoped: bool
    late: bool
    framed: bool


def write_core(steps: Steps, shape: Shape) -> tuple[str, dict[str, Any]]:
    """The source of a core, and the values of the names in it that depend on the plan.

    What remains to be given are `run`, `render`, `failed` and `grace`.

    Args:
        steps: compiled.
    """
    names: dict[str, Any] = {}
    known = steps.outer.slots.values() if steps.outer is not None and shape.framed else ()

    def value(slot: int) -> str:
        if slot == 0:
            return "call"
        if steps.template[slot] is not MISSING:
            names[f"c{slot}"] = steps.template[slot]
            return f"c{slot}"
        return f"frame[{slot}]" if slot in known else f"v{slot}"

    body: list[str] = []
    for slot, step, func, args, node in steps.compiled:
        names[f"f{slot}"] = func
        made = f"f{slot}({', '.join(map(value, args))})"
        if step == CALLED:
            body.append(f"v{slot} = {made}")
        elif step == AWAITED:
            body.append(f"v{slot} = await {made}")
        elif step == BEGUN:
            names[f"n{slot}"] = node
            body += [f"g{slot} = {made}", "try:", f"    v{slot} = await g{slot}.__anext__()"]
            body += ["except StopAsyncIteration:", f"    raise yielded_nothing(n{slot}) from None"]
            body.append(f"exits.append(g{slot})")
        else:
            names[f"n{slot}"] = node
            given = "".join(f"{value(each)}, " for each in args)
            body.append(f"v{slot} = await enter_owned(n{slot}, call, ({given}), exits, late)")
    result = f"{'await ' if shape.awaited else ''}run({', '.join(map(value, shape.arguments))})"
    body.append(f"reply = render({'call, ' if shape.takes_call else ''}{result})")
    return _around(body, shape), names


def _around(body: list[str], shape: Shape) -> str:
    lines = ["async def core(call):"]
    if shape.framed:
        lines.append("    frame = call._frame")
    if shape.scoped:
        lines.append("    exits = call._exits")
        if not shape.framed:
            lines.append("    if exits is None: exits = call._exits = []")
        lines.append("    depth = len(exits)")
    else:
        lines.append("    exits = None")
    if shape.late:
        lines += ["    if call._late_exits is None: call._late_exits = []", "    late = call._late_exits"]
    else:
        lines.append("    late = None")
    if not any("exits" in line for line in body) and not shape.scoped:
        lines = [line for line in lines if not line.endswith(" = None")]
    lines += ["    try:", *(f"        {line}" for line in body)]
    if not shape.scoped:
        lines[-1] = lines[-1].replace("reply =", "return", 1)
        lines += ["    except Exception as exc:", "        return await failed(call, exc)"]
        return "\n".join([*lines, ""])
    return "\n".join(
        [
            lines[0],
            "    error = None",
            *lines[1:],
            "    except Exception as exc:",
            "        error = exc",
            "        reply = await failed(call, exc)",
            "    if error is None:",
            "        if type(reply) is not bytes and type(reply.body) is not bytes and reply.streams:",
            "            return reply  # the dispatcher leaves the scope when the stream has ended",
            "        if call._shield is None and leave_at_once(exits, depth):",
            "            return reply",
            "    failure = await leave_scope(exits, error, grace, call._shield, depth)",
            "    if failure is not None:",
            "        call._error = failure",
            "        reply = internal_error(call, failure)",
            "    return reply",
            "",
        ]
    )


def make_core(source: str, names: Mapping[str, Any]) -> Callable[[Any], Awaitable[Reply]]:
    """The function of a source; its code is compiled once for all plans of its shape.

    Args:
        names: what the source does not have of itself.
    """
    code = _compiled.get(source)
    if code is None:
        filename = f"<microkit plan of shape {len(_compiled)}>"
        module = compile(source, filename, "exec")
        code = _compiled[source] = next(each for each in module.co_consts if isinstance(each, CodeType))
        linecache.cache[filename] = len(source), None, source.splitlines(keepends=True), filename
    return FunctionType(code, {**_HELPERS, **names})
