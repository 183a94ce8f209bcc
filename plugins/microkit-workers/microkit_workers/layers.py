"""What this plugin puts around handlers: workers for timers and procedures, filters, translators, worker classes, and
the callback after the last failure. Each is added to the plans that ask for it only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from microkit import Batch, Call, ConfigurationError, Kind, Message, PublicError, Reply, StatusCode
from microkit.layers import Layer
from microkit.middleware import MiddlewareSpec
from microkit.settlement import Decision, Verdict, default_policy

from .callback import Callback
from .context import pools_of
from .results import record_results
from .worker import Worker, maybe

if TYPE_CHECKING:
    from microkit.plan import Plan

    from .pool import Pool

Next = Callable[[Any], Awaitable[Reply]]
MESSAGES = Kind.MESSAGE | Kind.BATCH


def furnish(plan: Plan) -> None:
    """Give a plan what its options and its context ask for.

    Raises:
        ConfigurationError: an option has no meaning for its kind of call.
    """
    pools = pools_of(plan.app)
    if not plan.ingress:
        return
    options = plan.options
    pool = pools.of(plan)
    if pools.uses_workers(plan):
        plan.context = pool.label
    if pools.in_context(plan):
        _use_workers(plan, pool)
    if options.get("worker_class") is not None:
        plan.layers.append(_layer(_worker(plan, options["worker_class"])))
    if options.get("translators"):
        plan.layers.insert(0, _layer(_translating(options["translators"])))
    if options.get("payload_filter") is not None:
        plan.layers.insert(0, _layer(_filtering(options["payload_filter"], pool)))
    if options.get("on_failure") is not None:
        plan.layers.insert(0, _layer(_calling_back(plan)))
    if pools.in_context(plan) and plan.kind in Kind.RPC | Kind.TICK:
        plan.layers.insert(0, _layer(_with_worker(pool)))
    record_results(plan)


def _layer(func: Callable[[Any, Next], Awaitable[Reply]]) -> Layer:
    return Layer(MiddlewareSpec(func), None, func)


def _use_workers(plan: Plan, pool: Pool) -> None:
    """Let a sync handler run in the threads of its own context."""
    if plan.executor is not None and plan.executor.name != "inline" and plan.remote is None:
        plan.executor = replace(plan.executor, wrap=pool.in_thread, wrap_timed=pool.in_thread_until)


def _with_worker(pool: Pool) -> Any:
    async def workers(call: Call, call_next: Next) -> Reply:
        if pool.is_held or "worker" in call.__dict__:
            return await call_next(call)
        if not await pool.line_up().reached():
            raise PublicError("The service is shutting down.", status=StatusCode.UNAVAILABLE)
        try:
            with pool.held():
                reply = await call_next(call)
            count(pool, reply)
            return reply
        finally:
            pool.release()

    return workers


def count(pool: Pool, reply: Reply) -> None:
    """Note that a call of a pool has ended."""
    pool.handled += 1
    if not reply.ok:
        pool.failed += 1


# -- messages ----------------------------------------------------------------------------------------------------------


def _messages(call: Any) -> list[Message]:
    return list(call) if isinstance(call, Batch) else [call]


def _give_up(message: Message, reason: str) -> None:
    if message.settlement is not None:
        message.settlement.decide_dead(reason)


def _filtering(accepts: Callable[[Any], Any], pool: Pool) -> Any:
    async def payload_filter(call: Any, call_next: Next) -> Reply:
        kept: list[Message] = []
        failure: Exception | None = None
        for message in _messages(call):
            try:
                if await maybe(accepts(message.payload)):
                    kept.append(message)
                    continue
                pool.filtered += 1
                if message.settlement is not None:
                    message.settlement.decide_ack()
            except Exception as exc:
                failure = exc
                _give_up(message, f"the filter raised {type(exc).__name__}")
        if not kept:
            if failure is not None:
                raise failure
            return Reply()
        if not isinstance(call, Batch):
            return await call_next(call)
        # All of them are settled with the batch, so those that are left out come back into it.
        everything, call._messages = call._messages, tuple(kept)
        try:
            return await call_next(call)
        finally:
            call._messages = everything

    return payload_filter


def _translating(translators: Any) -> Any:
    chain = tuple(translators)

    async def translate(call: Any, call_next: Next) -> Reply:
        for message in _messages(call):
            for each in chain:
                try:
                    message._payload = await maybe(each.translate(message))
                except Exception as exc:
                    _give_up(message, f"the translator {type(each).__name__} raised {type(exc).__name__}")
                    raise
        return await call_next(call)

    return translate


def _worker(plan: Plan, worker_class: Any) -> Any:
    if not (isinstance(worker_class, type) and issubclass(worker_class, Worker)):
        raise ConfigurationError(f"{plan.binding} has the worker class {worker_class!r}, which is no Worker.")

    async def work(call: Call, call_next: Next) -> Reply:
        worker = worker_class(call)
        await maybe(worker.before_call())
        reply = await call_next(call)
        await maybe(worker.after_call(reply.payload, reply.error))
        return reply

    return work


# -- failures ----------------------------------------------------------------------------------------------------------


def _calling_back(plan: Plan) -> Any:
    """Call the callback when the failure is final. It comes before the message is settled, so it may come twice after a
    crash, but is not forgotten."""
    callback = Callback(plan, plan.options["on_failure"])
    policy = plan.options.get("retry") or (default_policy() if plan.kind in MESSAGES else None)

    async def on_failure(call: Any, call_next: Next) -> Reply:
        reply = await call_next(call)
        failed = [each for each in _messages(call) if _is_final(each, reply, policy)]
        for each in failed:
            await callback.run(each, reply)
        return reply

    return on_failure


def _is_final(call: Any, reply: Reply, policy: Any) -> bool:
    settlement = getattr(call, "settlement", None)
    if settlement is not None:
        decision: Decision = settlement.verdict(call, reply)
        return decision.verdict is Verdict.DEAD
    return not reply.ok and (policy is None or policy(call, reply).verdict is Verdict.DEAD)
