"""The onion: middlewares as functions around the core of a plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .call import MISSING, Kind, Reply
from .graph import Node, Steps, cut_error, leave_scope
from .middleware import MiddlewareSpec
from .renderers import Renderers, error_reply, internal_error

Invoke = Callable[[Any], Awaitable[Reply]]


@dataclass(eq=False)
class Layer:
    """One middleware of a plan.

    Attributes:
        spec: the middleware.
        target: the node of the instance, for a class; None for a function.
        call: what runs it: takes the instance of a class, the call, `call_next`, and the values of `nodes`.
        nodes: what its further parameters are filled with.
    """

    spec: MiddlewareSpec
    target: Node | None
    call: Callable[..., Any]
    nodes: list[Node] = field(default_factory=list)


def wrapped(layer: Layer, call_next: Invoke, outer: Steps, renderers: Renderers) -> Invoke:
    """One more layer of the onion: `layer` around `call_next`.

    Args:
        outer: what the plan's middlewares inject, compiled.
        renderers: for what a middleware returns instead of a reply, and for what it raises.
    """
    func = layer.call
    if layer.target is not None:
        instance = outer.template[outer.slots[layer.target]]
        if instance is MISSING:
            raise RuntimeError(f"the middleware {layer.spec.name} was not built")
        func = partial(func, instance)
    slots = [outer.slots[node] for node in layer.nodes]
    name = layer.spec.name

    async def run(call: Any) -> Reply:
        try:
            reply = await func(call, call_next)
            return reply if isinstance(reply, Reply) else _as_reply(call, reply, renderers, name)
        except Exception as exc:
            return error_reply(call, exc, renderers)

    async def run_injected(call: Any) -> Reply:
        try:
            frame = call._frame
            reply = await func(call, call_next, *[frame[i] for i in slots])
            return reply if isinstance(reply, Reply) else _as_reply(call, reply, renderers, name)
        except Exception as exc:
            return error_reply(call, exc, renderers)

    if outer.idle and slots:  # all is known by now, and there is no frame
        values = [outer.template[i] for i in slots]

        async def run_known(call: Any) -> Reply:
            try:
                reply = await func(call, call_next, *values)
                return reply if isinstance(reply, Reply) else _as_reply(call, reply, renderers, name)
            except Exception as exc:
                return error_reply(call, exc, renderers)

        return run_known
    return run_injected if slots else run


def _as_reply(call: Any, result: Any, renderers: Renderers, name: str) -> Reply:
    if result is None:
        raise TypeError(f"the middleware {name} returned nothing; it must return a reply, usually that of call_next")
    return renderers.http(result) if call.kind is Kind.HTTP else Reply(result)


def repeatable(core: Invoke) -> Invoke:
    """A core below middleware, which may call it again, cut it short, or leave its stream unread: the scope of the call
    is left in either case, and the stream, which may stand on it, is closed before."""

    async def run(call: Any) -> Reply:
        if call.plan.shielded and call.app.runtime.innermost_scope() is not call._around:
            return await _shielded(run, call)
        if call._open:
            call._open = False
            await _leave(call, None)
        call._error = None
        tasks = 0 if call._background is None else len(call._background)
        try:
            reply = await core(call)
        except BaseException as exc:
            # Whatever cancelled this may be the middleware's own, so the call goes on.
            call._error = exc
            await _leave(call, exc)
            raise
        finally:
            if call._error is not None and call._background is not None:
                del call._background.tasks[tasks:]
        if type(reply.body) is not bytes:
            if hasattr(reply.body, "aclose"):
                if call._exits is None:
                    call._exits = []
                call._exits.append(partial(_close_stream, reply.body))
            call._open = bool(call._exits) and len(call._exits) > call._outer[0]
        return reply

    return run


async def _shielded(run: Invoke, call: Any) -> Reply:
    """Keep what the core leaves away from cancellation by scopes that a middleware has around it, too."""
    runtime, before = call.app.runtime, (call._shield, call._around)
    try:
        with runtime.new_scope() as call._shield:
            call._around = runtime.innermost_scope()
            return await run(call)
    finally:
        call._shield, call._around = before
    return internal_error(call, cut_error(call.plan.grace))


async def _leave(call: Any, exc: BaseException | None) -> None:
    depth, made = call._outer
    if call._exits:
        await leave_scope(call._exits, exc, call.plan.grace, call._shield, depth)
    if call.live_scope is not None:
        call.live_scope.cut(made)


async def _close_stream(stream: Any, exc: BaseException | None) -> None:
    await close_stream(stream)


async def close_stream(stream: Any) -> None:
    """Close an async generator, or whatever else has an `aclose`."""
    try:
        await stream.aclose()
    except BaseExceptionGroup as group:
        rest = group.split(GeneratorExit)[1]  # a task group around a `yield` wraps what closes the generator
        if rest is not None:
            raise rest from None
