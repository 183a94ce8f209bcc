"""Driving calls: what comes after the plan. Delivery, the end of streams, background tasks, settlement, observers."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import anyio

from ._deadline import shielded, within
from .background import run_background
from .call import Batch, Call, Message, Reply, RpcRequest, Tick
from .errors import PublicError, StatusCode
from .graph import leave_scope
from .renderers import internal_error

if TYPE_CHECKING:
    from .app import App

_logger = logging.getLogger("microkit.dispatch")


async def run(call: Call, deliver: Callable[[Reply], Awaitable[None]]) -> Reply:
    """Run a call to its very end: plan, delivery, background tasks, observers.

    Args:
        call: with `app` and `plan` set.
        deliver: hands the reply to whoever asked; the last thing that the caller sees.

    Returns:
        The reply that was delivered.
    """
    observers = call.app.observers
    if observers:
        started = time.perf_counter()
        for observer in observers:
            observer.call_started(call)
    try:
        if call.plan.grouped:
            async with anyio.create_task_group() as group:
                call.__dict__["task_group"] = group
                reply = await conclude(call, await call.plan.invoke(call), deliver)
                group.cancel_scope.cancel()
        else:
            reply = await conclude(call, await call.plan.invoke(call), deliver)
    except BaseException as exc:
        # Nothing of a call may outlive it, even if it was cancelled between its plan and its delivery.
        await close_scopes(call, exc)
        raise
    if observers:
        duration = time.perf_counter() - started
        for observer in observers:
            observer.call_finished(call, reply, duration)
    return reply


async def conclude(call: Call, reply: Reply, deliver: Callable[[Reply], Awaitable[None]]) -> Reply:
    """Deliver what a plan replied, then run the call's background tasks. Returns the reply that was delivered."""
    try:
        if not reply.streams:
            # A middleware replaced the stream, so nothing needs the scope any more.
            failure = await close_scopes(call, None, late=False)
            if failure is not None:
                reply = internal_error(call, failure)
        await deliver(reply)
        await after_delivery(call)
    finally:
        await close_scopes(call, None)
    return reply


async def close_scopes(call: Call, exc: BaseException | None, *, late: bool = True) -> BaseException | None:
    """Leave what is still open of a call's scopes. Returns the first failure, if any.

    Args:
        exc: what the teardowns see.
        late: the background scope as well.
    """
    grace = call.app.settings.teardown_timeout
    failure = await leave_scope(call._exits, exc, grace) if call._exits else None
    if late and call._late_exits:
        late_failure = await leave_scope(call._late_exits, exc, grace)
        if late_failure is not None:
            _logger.error("the background scope of call %s failed", call.id, exc_info=late_failure)
    return failure


async def after_delivery(call: Call) -> None:
    """Run the background tasks of a delivered call; neither the client nor a cancellation stops them, only the drain."""
    if call._background is None or not call._background.tasks or call._failed:
        return
    with anyio.CancelScope(shield=True) as scope:
        call.app.runtime.background.add(scope)
        try:
            await run_background(call, call._background.tasks)
        finally:
            call.app.runtime.background.discard(scope)


async def aclose(stream: Any, grace: float) -> None:
    """Close an async iterator, if it can be closed, shielded for at most `grace` seconds."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        await within(shielded(grace), close())


async def stream_items(call: Call, reply: Reply) -> AsyncIterator[Any]:
    """The items of a streamed reply; ends only after the call's scopes were left, and raises if that failed.

    Raises:
        Exception: whatever the stream or a teardown raised.
    """
    stream: Any = reply.body
    error: BaseException | None = None
    try:
        async for item in stream:
            yield item
    except BaseException as exc:
        error = exc
        raise
    finally:
        await aclose(stream, call.app.settings.teardown_timeout)
        failure = await close_scopes(call, error, late=False)
        if failure is not None and error is None:
            raise failure


async def handle(app: App, call: Call) -> Reply:
    """Run a request that was made by hand and return its reply; a streamed body ends with the call's scopes."""
    from .http import Request

    if isinstance(call, RpcRequest):
        return Reply(await call_procedure(app, call))
    if not isinstance(call, Request):
        raise TypeError(f"handle() takes a Request or an RpcRequest, not a {type(call).__name__}")
    call.app = app
    call.plan, call.values = app.table.http.match(call.method, call.scope, call)
    reply = await call.plan.invoke(call)
    if reply.streams:
        reply.body = _finishing(call, stream_items(call, reply))
        return reply
    failure = await close_scopes(call, None, late=False)
    await after_delivery(call)
    await close_scopes(call, None)
    return reply if failure is None else internal_error(call, failure)


# -- RPC in process ----------------------------------------------------------------------------------------------------


async def call_procedure(app: App, request: RpcRequest) -> Any:
    """Run a procedure and return its result, or an async iterator of its results.

    Raises:
        PublicError: NOT_FOUND if there is no such procedure; otherwise what the procedure raised, INTERNAL without text
            if that was not public.
    """
    plan = app.table.procedures.get(request.name)
    if plan is None:
        raise PublicError(f"There is no procedure {request.name!r}.", status=StatusCode.NOT_FOUND)
    request.app, request.plan = app, plan
    outcome: list[Any] = []

    async def deliver(reply: Reply) -> None:
        if not reply.streams:
            outcome.append(reply)

    if not _may_stream(plan):
        return result_of(await run(request, deliver))
    reply = await plan.invoke(request)
    if reply.streams:
        return _finishing(request, stream_items(request, reply))
    await close_scopes(request, None)
    await after_delivery(request)
    return result_of(reply)


def _may_stream(plan: Any) -> bool:
    from . import annotations

    handler = plan.endpoint.handler
    return annotations.is_async_generator(handler) or annotations.is_generator(handler)


async def _finishing(request: Call, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for item in items:
            yield item
    finally:
        await aclose(items, request.app.settings.teardown_timeout)
        await close_scopes(request, None)
    await after_delivery(request)


def result_of(reply: Reply) -> Any:
    """The payload of a reply.

    Raises:
        PublicError: the reply is an error; the original exception is its cause.
    """
    if reply.error is None and reply.status is StatusCode.OK:
        return reply.payload
    if isinstance(reply.error, PublicError):
        raise reply.error
    text = "An internal error occurred." if reply.status is StatusCode.INTERNAL else ""
    raise PublicError(text, status=reply.status) from reply.error


# -- messages and ticks ------------------------------------------------------------------------------------------------


async def handle_message(message: Message) -> Reply:
    """Run one message and settle it. `message` has `app`, `plan` and `settlement` set."""
    settlement = message.settlement
    assert settlement is not None
    settlement.start()

    async def deliver(reply: Reply) -> None:
        await settlement.finish(message, reply)

    try:
        return await run(message, deliver)
    except BaseException:
        await settlement.give_back()  # cancelled or drained: the work was rolled back
        raise


async def handle_batch(batch: Batch) -> Reply:
    """Run one batch and settle each message by its own decision and the batch's outcome."""
    for message in batch:
        message.app, message.plan = batch.app, batch.plan
        if message.settlement is not None:
            message.settlement.start()

    async def deliver(reply: Reply) -> None:
        for message in batch:
            if message.settlement is not None and not message.settlement.state.final:
                await message.settlement.finish(message, reply)

    try:
        return await run(batch, deliver)
    except BaseException:
        for message in batch:
            if message.settlement is not None:
                await message.settlement.give_back()
        raise


class MessageScope:
    """A scope of its own for one message of a batch: left, and the message settled, when its block ends.

    Args:
        message: one message of a running batch.
    """

    def __init__(self, message: Message) -> None:
        self.message = message

    async def __aenter__(self) -> None:
        message = self.message
        message._exits, message._late_exits = [], []
        message._frame = message.plan.inner.template[:]
        message._frame[0] = message

    async def __aexit__(self, kind: Any, exc: BaseException | None, traceback: Any) -> None:
        message = self.message
        failure = await close_scopes(message, exc)
        settlement = message.settlement
        if settlement is None:
            return
        if exc is not None and not isinstance(exc, Exception):
            await settlement.give_back()
            return
        error = exc or failure
        status = error.status if isinstance(error, PublicError) else StatusCode.INTERNAL if error else StatusCode.OK
        await settlement.finish(message, Reply(status=status, error=error))
        if failure is not None and exc is None:
            raise failure


async def handle_tick(app: App, name: str, scheduled_at: datetime, fired_at: datetime, missed: int = 0) -> Reply:
    """Run one firing of a schedule.

    Raises:
        KeyError: there is no schedule of that name.
    """
    tick = Tick(name, scheduled_at, fired_at, missed)
    tick.app, tick.plan = app, app.table.ticks[name]
    return await run(tick, _no_delivery)


async def _no_delivery(reply: Reply) -> None:
    pass
