"""A broker that wants to know is told when the run of a delivery is over, however it ended."""

from __future__ import annotations

import pytest

from microkit import Message, Reply, StatusCode
from microkit.settlement import Decision, Settlement, State, Verdict

pytestmark = pytest.mark.anyio


class Told:
    """A delivery that counts how often it was told."""

    generation = 1

    def __init__(self, *, current: int = 1, confirms: bool = True) -> None:
        self.current_generation = current
        self.confirms = confirms
        self.endings = 0

    async def store_retry(self, delay: float, attempt: int, reason: str) -> None:
        if not self.confirms:
            raise ConnectionError

    async def store_dead(self, reason: str) -> None: ...

    async def ack(self) -> None: ...

    async def give_back(self) -> None: ...

    def ended(self) -> None:
        self.endings += 1


@pytest.mark.guarantee("G8")
@pytest.mark.parametrize(
    ("verdict", "delivery", "state"),
    [
        (Verdict.ACK, Told(), State.ACKED),
        (Verdict.RETRY, Told(), State.RETRIED),
        (Verdict.DEAD, Told(), State.DEAD),
        (Verdict.RETRY, Told(confirms=False), State.RETURNED),
        (Verdict.ACK, Told(current=2), State.LOST),
    ],
    ids=lambda value: value.name.lower() if isinstance(value, State) else "",
)
async def test_a_delivery_is_told_once_that_its_run_is_over(verdict: Verdict, delivery: Told, state: State) -> None:
    delivery.endings = 0
    settlement = Settlement(delivery, lambda message, reply: Decision(verdict, 0.0))
    settlement.start()
    assert delivery.endings == 0
    status = StatusCode.OK if verdict is Verdict.ACK else StatusCode.UNAVAILABLE
    await settlement.finish(Message(b""), Reply(status=status))
    assert (settlement.state, delivery.endings) == (state, 1)
