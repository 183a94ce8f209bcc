"""How a message is answered: one state machine for every broker.

    received -> running -> durable -> acked | retried | dead
                   |          \\-> returned (no confirmation) | lost (stale generation)
                   \\-> returned (cancelled, drained)

A message becomes `durable` once its outcome cannot be lost any more: its scopes are closed and, for a retry or a dead
letter, the copy is confirmed by the broker. Only then is the original answered. HTTP is the same table compiled away.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio

from .call import Reply, Tick
from .errors import MicrokitError, PublicError, StatusCode

if TYPE_CHECKING:
    from .messages import Message
    from .plan import Plan

_logger = logging.getLogger("microkit.settlement")


class State(enum.Enum):
    """Where a message is on its way."""

    RECEIVED = "received"
    RUNNING = "running"
    DURABLE = "durable"
    ACKED = "acked"
    RETRIED = "retried"
    DEAD = "dead"
    RETURNED = "returned"
    LOST = "lost"

    followers: tuple[State, ...]

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return not self.followers


_NEXT: dict[State, tuple[State, ...]] = {
    State.RECEIVED: (State.RUNNING, State.RETURNED, State.LOST),
    State.RUNNING: (State.DURABLE, State.RETURNED, State.LOST),
    State.DURABLE: (State.ACKED, State.RETRIED, State.DEAD, State.RETURNED, State.LOST),
}
for _state in State:  # a look into the table hashes a state, which costs more than the rest of a step
    _state.followers = _NEXT.get(_state, ())


class SettlementError(MicrokitError):
    """A transition that the state machine does not have, such as settling twice."""


class Delivery(Protocol):
    """One delivered message as its broker sees it. Brokers implement this; the kernel decides when to call what.

    Every method may raise: the message then counts as not answered and is given back.

    A delivery may have a method `ended()` as well: the run is over, however it ended. Of a stale delivery it is the
    only sign of that; its broker holds a repetition of the message back until then.

    A delivery may have an attribute `acks_at_once`: if it is true, `ack()` only notes the answer and never suspends, so
    that nothing has to bound it.
    """

    @property
    def generation(self) -> int:
        """Number of the connection that delivered it."""
        ...

    @property
    def current_generation(self) -> int:
        """Number of the connection that is open now; a higher one makes this delivery stale."""
        ...

    async def store_retry(self, delay: float, attempt: int, reason: str) -> None:
        """Store a copy that comes again after `delay` seconds as `attempt`; return when the broker confirmed it."""
        ...

    async def store_dead(self, reason: str) -> None:
        """Store a copy among the dead letters; return when the broker confirmed it."""
        ...

    async def ack(self) -> None:
        """Answer the original: it is done."""
        ...

    async def give_back(self) -> None:
        """Answer the original: it is to be delivered again."""
        ...


class Verdict(enum.Enum):
    """What is to become of a message."""

    ACK = "ack"
    RETRY = "retry"
    DEAD = "dead"


@dataclass(frozen=True)
class Decision:
    """A verdict with its circumstances.

    Args:
        verdict: what happens.
        delay: seconds before a retry.
        reason: why, stored with a dead letter; never text that a caller must not see.
    """

    verdict: Verdict
    delay: float | None = None
    reason: str = ""


_ACK = Decision(Verdict.ACK)

RetryPolicy = Callable[["Message | Tick", Reply], Decision]
"""Decides what becomes of a message whose handling failed, or of a firing of a schedule (retried or given up)."""


def failure_reason(message: Message | Tick, reply: Reply) -> str:
    """Why handling failed, in words that may be stored: the type of the exception, and the text of a public one."""
    reason = f"{reply.status.name} after attempt {message.attempt}"
    if reply.error is None:
        return reason
    text = f": {reply.error}"[:500] if isinstance(reply.error, PublicError) and str(reply.error) else ""
    return f"{type(reply.error).__name__}: {reason}{text}"


def default_policy(max_attempts: int = 5, delay: float = 1.0) -> RetryPolicy:
    """Retry what the status table calls retryable, with doubling delays, and dead-letter the rest.

    Args:
        max_attempts: deliveries in all; the last failing one goes to the dead letters.
        delay: seconds before the second attempt.
    """

    def decide(message: Message | Tick, reply: Reply) -> Decision:
        reason = failure_reason(message, reply)
        if reply.status.retryable and message.attempt < max_attempts:
            return Decision(Verdict.RETRY, delay * 2 ** (message.attempt - 1), reason)
        return Decision(Verdict.DEAD, reason=reason)

    return decide


_DEFAULT_POLICY = default_policy()


class Settlement:
    """The life of one delivery.

    Args:
        delivery: the broker's side.
        policy: decides about failures.
        grace: seconds that answering may take after a cancellation.

    Attributes:
        state, history: where the message is, and was.
        decision: what the handler decided, if it did.
    """

    __slots__ = ("decision", "delivery", "grace", "history", "policy", "state")

    def __init__(self, delivery: Delivery, policy: RetryPolicy | None = None, grace: float = 10.0) -> None:
        self.delivery = delivery
        self.policy = policy or _DEFAULT_POLICY
        self.grace = grace
        self.state = State.RECEIVED
        self.history: list[State] = [State.RECEIVED]
        self.decision: Decision | None = None

    @classmethod
    def of(cls, plan: Plan, delivery: Delivery) -> Settlement:
        """The settlement of a message for a binding: its option `retry` is the policy, the app bounds the grace."""
        return cls(delivery, plan.options.get("retry"), plan.app.settings.teardown_timeout)

    def _go(self, state: State) -> None:
        if state not in self.state.followers:
            raise SettlementError(f"a message that is {self.state.value} cannot become {state.value}")
        self.state = state
        self.history.append(state)
        if not state.followers and (ended := getattr(self.delivery, "ended", None)) is not None:
            ended()

    # -- decisions of the handler; the first one wins ------------------------------------------------------------------

    def _decide(self, decision: Decision) -> None:
        if self.state.final:
            raise SettlementError(f"this message is already {self.state.value}")
        if self.decision is None:
            self.decision = decision

    def decide_ack(self) -> None:
        """Record: done."""
        self._decide(_ACK)

    def decide_retry(self, delay: float | None = None) -> None:
        """Record: again, after `delay` seconds or as the policy says."""
        self._decide(Decision(Verdict.RETRY, delay, "retry asked for by the handler"))

    def decide_dead(self, reason: str) -> None:
        """Record: to the dead letters."""
        self._decide(Decision(Verdict.DEAD, reason=reason))

    # -- the run -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The handler begins."""
        self._go(State.RUNNING)

    async def finish(self, message: Message, reply: Reply) -> None:
        """The handler's scopes are closed: make the outcome durable and answer the broker.

        A cancellation from outside does not interrupt this; it is bounded by `grace` seconds instead.
        """
        if self._stale():
            return self._go(State.LOST)
        decision = self.verdict(message, reply)
        if decision is _ACK and getattr(self.delivery, "acks_at_once", False):
            return await self._answer(message, decision)
        with anyio.move_on_after(self.grace, shield=True) as scope:
            await self._answer(message, decision)
        if scope.cancelled_caught and not self.state.final:
            _logger.error("the broker did not answer within %g s; message %s is returned", self.grace, message.id)
            if self.state is State.DURABLE:  # its ack may be on the way, so that it gets no other answer
                self._go(State.RETURNED)
            await self.give_back()
        return None

    async def _answer(self, message: Message, decision: Decision) -> None:
        if decision is not _ACK:
            try:
                if decision.verdict is Verdict.RETRY:
                    await self.delivery.store_retry(decision.delay or 0.0, message.attempt + 1, decision.reason)
                elif decision.verdict is Verdict.DEAD:
                    await self.delivery.store_dead(decision.reason)
            except Exception:
                _logger.exception("no confirmation for the %s copy of message %s", decision.verdict.value, message.id)
                return await self.give_back()
        self._go(State.DURABLE)
        if self._stale():
            return self._go(State.LOST)
        try:
            await self.delivery.ack()
        except Exception:
            _logger.exception("message %s could not be acked; the broker will deliver it again", message.id)
            return self._go(State.LOST)
        return self._go(State.ACKED if decision is _ACK else _ANSWERED[decision.verdict])

    def verdict(self, message: Message, reply: Reply) -> Decision:
        """What is to become of the message after this reply: what the handler decided, as far as that holds, else
        what the policy says."""
        decided = self.decision
        failed = reply.error is not None or reply.status is not StatusCode.OK
        if decided is None or (failed and decided.verdict is Verdict.ACK):
            # An ack before a failure is void: the work that it vouched for was rolled back.
            return self.policy(message, reply) if failed else _ACK
        if decided.verdict is not Verdict.RETRY:
            return decided
        # The policy's cap on attempts holds for retries that a handler asks for, too.
        policy = self.policy(message, reply if failed else Reply(status=StatusCode.UNAVAILABLE))
        if policy.verdict is not Verdict.RETRY:
            return policy
        return Decision(Verdict.RETRY, policy.delay if decided.delay is None else decided.delay, decided.reason)

    async def give_back(self) -> None:
        """Answer that the message is to come again: cancelled, drained, or not confirmed."""
        if self.state.final:
            return None
        if self._stale():
            return self._go(State.LOST)
        try:
            with anyio.move_on_after(self.grace, shield=True):
                await self.delivery.give_back()
        except Exception:
            _logger.exception("a message could not be given back; its broker will deliver it again")
        return self._go(State.RETURNED)

    def _stale(self) -> bool:
        return self.delivery.generation != self.delivery.current_generation


_ANSWERED = {Verdict.ACK: State.ACKED, Verdict.RETRY: State.RETRIED, Verdict.DEAD: State.DEAD}
