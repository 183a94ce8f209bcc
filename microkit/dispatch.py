"""Driving calls: what comes after the plan. Delivery, the end of streams, background tasks, settlement, observers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ._deadline import protected
from .background import run_background
from .call import Call, Kind, Reply, RpcRequest, Tick
from .errors import ClientDisconnect, PublicError, StatusCode, alone
from .graph import cut_error, leave_scope
from .http import Request
from .http.response import encode_piece
from .layers import close_stream
from .messages import Batch, Message
from .observe import observed, settled
from .renderers import internal_error

if TYPE_CHECKING:
    from .app import App
    from .plan import Plan

Deliver = Callable[[Reply], Awaitable[None]]

LEFT = "the client left before the end of its reply"

_logger = logging.getLogger("microkit.dispatch")


async def run(call: Call, deliver: Deliver) -> Reply:
    """Run a call to its very end: plan, delivery, background tasks, observers.

    Args:
        call: with `app` and `plan` set.
        deliver: hands the reply to whoever asked; the last thing that the caller sees.

    Returns:
        The reply that was delivered.
    """
    finished = observed(call)
    try:
        reply = await _shielded(call, deliver) if call.plan.shielded else await _in_group(call, deliver)
    except BaseException as exc:
        finished(ended_by(exc))
        raise
    finished(reply)
    return reply


def ended_by(exc: BaseException) -> Reply:
    """What observers are told of a call that was not delivered: it failed, or was cancelled."""
    return Reply(status=StatusCode.INTERNAL if isinstance(exc, Exception) else StatusCode.CANCELLED, error=exc)


async def _shielded(call: Call, deliver: Deliver) -> Reply:
    reply = None
    with call.app.runtime.new_scope() as call._shield:
        reply = await _in_group(call, deliver)
    if reply is None:
        reply = cut_reply(call)
        if not call._delivered:  # what was delivered before stays delivered
            await deliver(reply)
    return reply


def cut_reply(call: Call) -> Reply:
    """The reply of a call whose teardown took longer than it may."""
    return internal_error(call, cut_error(call.app.settings.teardown_timeout))


async def _in_group(call: Call, deliver: Deliver) -> Reply:
    if not call.plan.grouped:
        return await _invoke(call, deliver)
    try:
        async with anyio.create_task_group() as group:
            call.__dict__["task_group"] = group
            return await _invoke(call, deliver)
    except BaseExceptionGroup as failed:
        raise alone(failed) from None
    raise AssertionError("nobody cancels this group, so its block does not end early")


async def _invoke(call: Call, deliver: Deliver) -> Reply:
    if call.plan.shielded:
        call._around = call.app.runtime.innermost_scope()
    try:
        return await conclude(call, await call.plan.invoke(call), deliver)
    except BaseException as exc:
        # Nothing of a call may outlive it, even if it was cancelled between its plan and its delivery.
        await close_scopes(call, exc)
        raise


async def conclude(call: Call, reply: Reply, deliver: Deliver) -> Reply:
    """Deliver what a plan replied, then run the call's background tasks. Returns the reply that was delivered."""
    try:
        if call._exits and not reply.streams:
            # A middleware replaced the stream, so nothing needs the scope any more.
            failure = await close_scopes(call, None, late=False)
            if failure is not None:
                reply = internal_error(call, failure)
        call._delivered = True
        await deliver(reply)
        if call._background is not None:
            await after_delivery(call)
    except BaseException as exc:
        await close_scopes(call, call._error or exc)  # a stream that is cut short must not commit
        raise
    if call._exits or call._late_exits:
        await close_scopes(call, call._error)
    return reply


async def close_scopes(call: Call, exc: BaseException | None, *, late: bool = True) -> BaseException | None:
    """Leave what is still open of a call's scopes. Returns the first failure, if any.

    Args:
        exc: what the teardowns see.
        late: the background scope as well.
    """
    grace = call.plan.grace
    failure = await leave_scope(call._exits, exc, grace, call._shield) if call._exits else None
    if late and call._late_exits:
        late_failure = await leave_scope(call._late_exits, exc, grace, call._shield)
        if late_failure is not None:
            _logger.error("the background scope of call %s failed", call.id, exc_info=late_failure)
    return failure


async def after_delivery(call: Call) -> None:
    """Run the background tasks of a delivered call; not the client and no cancellation stops them, only the drain."""
    if call._background is None or not call._background.tasks or call._error is not None:
        return
    with anyio.CancelScope(shield=True) as scope:
        call.app.runtime.background.add(scope)
        try:
            await run_background(call, call._background.tasks)
        finally:
            call.app.runtime.background.discard(scope)


async def drain(
    call: Call, stream: Any, send: Callable[[Any], Awaitable[None]], event_of: Callable[[Any], Any]
) -> Exception | None:
    """Send the items of a stream, and close it. The call's scopes stay open: they are not this function's.

    Args:
        send: sends an event; an OSError of it means that the client is gone.
        event_of: an item as an event; None if nothing is to be sent of it.

    Returns:
        What failed, if anything; the end marker must then be withheld.
    """
    grace = call.app.settings.teardown_timeout
    error: Exception | None = None
    with anyio.CancelScope() as shield:
        try:
            async for item in stream:
                if (event := event_of(item)) is not None:
                    try:
                        await send(event)
                    except OSError as exc:
                        raise ClientDisconnect(LEFT) from exc
        except Exception as exc:
            error = exc
        finally:
            try:
                if hasattr(stream, "aclose"):
                    await protected(shield, grace, close_stream(stream))
            except Exception as exc:
                error = error or exc
    if shield.cancelled_caught:
        error = TimeoutError(f"closing the stream took longer than {grace:g} seconds")
    return error


async def discard(call: Call, stream: Any) -> Exception | None:
    """Close a stream that was never begun. Returns what failed, if anything."""
    if not hasattr(stream, "aclose"):
        return None
    try:
        with anyio.CancelScope() as shield:
            await protected(shield, call.app.settings.teardown_timeout, close_stream(stream))
    except Exception as exc:
        return exc
    return None


async def finish_stream(call: Call, error: Exception | None) -> Exception | None:
    """Leave the scopes of a call whose stream has ended. Returns what failed, if anything."""
    failure = await close_scopes(call, error, late=False)
    if failure is not None and not isinstance(failure, Exception):
        raise failure
    if failure is not None and error is not None:
        _logger.error("the scope of call %s failed after its stream", call.id, exc_info=failure)
    call._error = call._error or error or failure
    return error or failure


# -- calls whose reply goes to the caller itself -----------------------------------------------------------------------


async def handle(app: App, call: Call) -> Reply:
    """Run a request that was made by hand and return its reply; the body of a streamed one ends the call."""
    if isinstance(call, RpcRequest):
        call.app, call.plan = app, _procedure(app, call.name)
    elif isinstance(call, Request):
        call.app = app
        call.plan, call.values = app.table.http.match(call.method, call.scope, call)
    else:
        raise TypeError(f"handle() takes a Request or an RpcRequest, not a {type(call).__name__}")
    if not call.plan.may_stream and not call.plan.shielded:
        return await run(call, partial(_read_body, call))
    # Its stream may outlive this function, and its scopes may hold task groups: they live in a task of their own.
    handover, replies = anyio.create_memory_object_stream[Any](0)
    scope = anyio.CancelScope()
    ended = anyio.Event()
    app.runtime.tasks.start_soon(_run_detached, call, handover, scope, ended)
    try:
        first = await replies.receive()
    except anyio.EndOfStream:
        replies.close()
        raise PublicError("The application is shutting down.", status=StatusCode.UNAVAILABLE) from None
    except BaseException:
        replies.close()
        await _end(scope, ended)
        raise
    if isinstance(first, BaseException):
        replies.close()
        raise first
    if first.streams:
        first.body = _received(replies, scope, ended)
    else:
        replies.close()
    return first


async def _read_body(call: Call, reply: Reply) -> None:
    if reply.streams:
        pieces: Any = reply.body
        reply.body = b"".join([encode_piece(piece) async for piece in pieces])
        failure = await finish_stream(call, None)
        if failure is not None:
            raise failure


async def _run_detached(call: Call, handover: Any, scope: anyio.CancelScope, ended: anyio.Event) -> None:
    event_of = encode_piece if call.kind is Kind.HTTP else _itself

    async def deliver(reply: Reply) -> None:
        stream: Any = reply.body if reply.streams else None
        await handover.send(reply)
        if stream is not None:
            failure = await finish_stream(call, await drain(call, stream, handover.send, event_of))
            if failure is not None:
                raise failure

    async with handover:
        with scope:
            try:
                await run(call, deliver)
            except anyio.BrokenResourceError:
                pass  # nobody reads any more
            except (Exception, KeyboardInterrupt, SystemExit) as exc:
                try:
                    await handover.send(exc)
                except anyio.BrokenResourceError:
                    _logger.error("call %s failed after its caller had left", call.id, exc_info=exc)
            finally:
                ended.set()


def _itself(item: Any) -> Any:
    return item


async def _received(replies: Any, scope: anyio.CancelScope, ended: anyio.Event) -> AsyncIterator[Any]:
    try:
        async with replies:
            async for item in replies:
                if isinstance(item, BaseException):
                    raise item
                yield item
    finally:
        await _end(scope, ended)


async def _end(scope: anyio.CancelScope, ended: anyio.Event) -> None:
    """Cancel a detached call; whoever leaves it early finds its scopes closed, which have their grace."""
    scope.cancel()
    with anyio.CancelScope(shield=True):
        await ended.wait()


async def call_procedure(app: App, request: RpcRequest) -> Any:
    """Run a procedure and return its result, or an async iterator of its results.

    Raises:
        PublicError: NOT_FOUND if there is no such procedure; otherwise what the procedure raised, INTERNAL without text
            if that was not public.
    """
    reply = await handle(app, request)
    return reply.body if reply.streams else result_of(reply)


def _procedure(app: App, name: str) -> Plan:
    plan = app.table.procedures.get(name)
    if plan is None:
        raise PublicError(f"There is no procedure {name!r}.", status=StatusCode.NOT_FOUND)
    return plan


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
    try:
        return await run(message, partial(settlement.finish, message))
    except BaseException:
        await settlement.give_back()  # cancelled or drained: the work was rolled back
        raise
    finally:
        if message.app.observers:
            settled(message)


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
    finally:
        for message in batch:
            settled(message)


class MessageScope:
    """A scope of its own for one message of a batch: left, and the message settled, when its block ends.

    Args:
        message: one message of a running batch.
    """

    def __init__(self, message: Message) -> None:
        self.message = message

    async def __aenter__(self) -> None:
        message = self.message
        if message.plan.kind is not Kind.BATCH:
            # Its scope is that of the call, and it must be settled after that, not in the middle of it.
            raise RuntimeError("only a message of a batch has a scope of its own: write its block without `async with`")
        message._shield = anyio.CancelScope()
        message._shield.__enter__()
        message.plan.open(message)

    async def __aexit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        message = self.message
        scope, failure = message._shield, None
        try:
            failure = await close_scopes(message, exc)
        except BaseException as error:
            if not scope.__exit__(type(error), error, error.__traceback__):
                raise
            failure = cut_error(message.app.settings.teardown_timeout)
        else:
            scope.__exit__(None, None, None)
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


async def handle_tick(
    app: App, name: str, scheduled_at: datetime, fired_at: datetime, missed: int = 0, **attempt: Any
) -> Reply:
    """Run one firing of a schedule, once.

    Args:
        attempt: `attempt` and `headers` of `Tick`, of a run after the first.

    Raises:
        KeyError: there is no schedule of that name.
    """
    tick = Tick(name, scheduled_at, fired_at, missed, **attempt)
    tick.app, tick.plan = app, app.table.ticks[name]
    return await run(tick, no_delivery)


async def no_delivery(reply: Reply) -> None:
    """Nobody waits for the reply of a tick."""
