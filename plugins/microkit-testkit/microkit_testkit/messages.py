"""What became of published messages, for tests to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from microkit import Message, Reply
from microkit.inprocess import Answer, Outcome, Publisher, RecordingDelivery
from microkit.settlement import Decision, State


@dataclass(frozen=True)
class Settled:
    """How one message ended.

    Attributes:
        state: acked, retried, dead, returned or lost.
        history: every state that it went through.
        decision: what the handler itself decided, if it did.
        answers: what the broker was asked, in order.
        attempt: which attempt this was.
        delay: seconds before a retry; None if there is none.
        reason: why it was retried or is dead; empty otherwise.
    """

    state: State
    history: tuple[State, ...]
    decision: Decision | None
    answers: tuple[Answer, ...]
    attempt: int
    delay: float | None
    reason: str

    @property
    def actions(self) -> list[str]:
        """The names of the answers, in order."""
        return [answer.action for answer in self.answers]


class Delivered:
    """One message at one binding.

    Args:
        outcome: what the kernel's publisher tells.
        publisher: delivers it again.
    """

    def __init__(self, outcome: Outcome, publisher: Publisher) -> None:
        self.outcome = outcome
        self._publisher = publisher

    @property
    def handler(self) -> str:
        """The name of the binding."""
        return self.outcome.message.plan.binding.name

    @property
    def message(self) -> Message:
        """The message, as the handler got it."""
        return self.outcome.message

    @property
    def reply(self) -> Reply:
        """The handler's reply."""
        return self.outcome.reply

    @property
    def error(self) -> BaseException | None:
        """The exception that the handler or a teardown raised."""
        return self.outcome.reply.error

    def settled(self) -> Settled:
        """How it ended."""
        settlement, answers = self.outcome.settlement, self.outcome.delivery.answers
        copies = [answer for answer in answers if answer.action.startswith("store_")]
        return Settled(
            settlement.state,
            tuple(settlement.history),
            settlement.decision,
            tuple(answers),
            self.message.attempt,
            copies[-1].delay if copies else None,
            copies[-1].reason if copies else "",
        )

    async def redeliver(self, delivery: RecordingDelivery | None = None) -> Delivered:
        """Deliver it again to the same binding, as its broker would: a retry as the next attempt, else as the same one.

        Raises:
            AssertionError: it was acked or is dead, so no broker delivers it again.
        """
        old, state = self.message, self.outcome.settlement.state
        assert state in (State.RETRIED, State.RETURNED, State.LOST), (
            f"the message is {state.value}: it never comes again"
        )
        message = Message(
            old.body,
            source=old.source,
            name=old.name,
            queue=old.queue,
            headers=dict(old.headers),
            content_type=old.content_type,
            attempt=old.attempt + (state is State.RETRIED),
            message_id=old.message_id,
        )
        (outcome,) = await self._publisher.deliver(old.plan, [message], delivery)
        return Delivered(outcome, self._publisher)

    def __repr__(self) -> str:
        return f"<Delivered {self.message.plan.address} to {self.handler}: {self.outcome.settlement.state.value}>"


class Published(Sequence[Delivered]):
    """All deliveries of one `publish` or `batch`: by index, or those of a binding by its name."""

    def __init__(self, delivered: Sequence[Delivered]) -> None:
        self._delivered = list(delivered)

    @overload
    def __getitem__(self, index: int) -> Delivered: ...
    @overload
    def __getitem__(self, index: slice) -> Published: ...
    @overload
    def __getitem__(self, index: str) -> Published: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return Published([each for each in self._delivered if each.handler == index])
        found = self._delivered[index]
        return Published(found) if isinstance(index, slice) else found

    def __len__(self) -> int:
        return len(self._delivered)

    def __iter__(self) -> Iterator[Delivered]:
        return iter(self._delivered)

    @property
    def states(self) -> list[State]:
        """The state of each delivery."""
        return [each.outcome.settlement.state for each in self._delivered]

    @property
    def one(self) -> Delivered:
        """The only delivery.

        Raises:
            AssertionError: there are several; choose by index or by the binding's name.
        """
        assert len(self._delivered) == 1, f"there are {len(self._delivered)} deliveries: {self._delivered}"
        return self._delivered[0]

    def settled(self) -> Settled:
        """How the only delivery ended. Raises AssertionError if there are several."""
        return self.one.settled()

    async def redeliver(self, delivery: RecordingDelivery | None = None) -> Published:
        """Deliver the only delivery again; see `Delivered.redeliver`."""
        return Published([await self.one.redeliver(delivery)])

    def __repr__(self) -> str:
        return f"Published({self._delivered})"
