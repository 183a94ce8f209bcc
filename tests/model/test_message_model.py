"""The settlement machine against its rules: every message ends in exactly one final state, after its scopes."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from microkit import Event, Message, StatusCode
from microkit.dispatch import handle_message
from microkit.settlement import Settlement, State, default_policy
from tests.properties import STEADY

from .scenario import Run, Scenario, build, scenarios

pytestmark = [pytest.mark.guarantee("G5"), pytest.mark.guarantee("G8"), pytest.mark.guarantee("G12")]

MODEL = settings(STEADY, max_examples=150)


@dataclass
class FaultyBroker:
    """The broker's side of one delivery, failing where it is told to."""

    run: Run
    store: str = "none"
    ack_fault: str = "none"
    back_fault: str = "none"
    stale_at: str = "never"
    generation: int = 1
    current_generation: int = 1

    async def _do(self, what: str, fault: str) -> None:
        await self.run.stage("none" if fault == "hang" else fault, what)
        if fault == "hang":
            await anyio.sleep_forever()
        self.run.log.append(("broker", what))
        if self.stale_at == what:
            self.current_generation += 1

    async def store_retry(self, delay: float, attempt: int, reason: str) -> None:
        assert attempt >= 2
        assert delay >= 0
        assert "secret" not in reason
        await self._do("store_retry", self.store)

    async def store_dead(self, reason: str) -> None:
        assert reason
        assert "secret" not in reason
        await self._do("store_dead", self.store)

    async def ack(self) -> None:
        await self._do("ack", self.ack_fault)

    async def give_back(self) -> None:
        await self._do("give_back", self.back_fault)


_fault = st.sampled_from(("none", "none", "none", "raise", "cancel", "hang"))


@st.composite
def brokers(draw: st.DrawFn) -> dict[str, str]:
    return {
        "store": draw(_fault),
        "ack_fault": draw(_fault),
        "back_fault": draw(st.sampled_from(("none", "raise", "cancel", "hang"))),
        "stale_at": draw(st.sampled_from(("never", "never", "start", "store_retry", "store_dead"))),
    }


async def play(scenario: Scenario, run: Run, faults: dict[str, str], attempt: int, decision: str) -> Settlement:
    def bind(app):  # type: ignore[no-untyped-def]
        def decorate(handler):  # type: ignore[no-untyped-def]
            async def decide(payload: dict, message: Message) -> None:
                if decision == "ack":
                    await message.ack()
                elif decision == "retry":
                    await message.retry(3)
                elif decision == "reject":
                    await message.reject("no")

            app.add_middleware(_first(decide))
            return app.on(Event("shop", "order"))(handler)

        return decorate

    app = build(scenario, run, bind)
    async with app.started():
        broker = FaultyBroker(run, **faults)
        settlement = Settlement(broker, default_policy(max_attempts=3), grace=0.02)
        message = Message(b'{"n": 1}', source="shop", name="order", attempt=attempt, settlement=settlement)
        message.app, message.plan = app, app.table.events[("shop", "order")][0]
        if faults["stale_at"] == "start":
            broker.current_generation += 1
        with anyio.CancelScope() as run.scope:
            await handle_message(message)
    return settlement


def _first(decide):  # type: ignore[no-untyped-def]
    async def deciding(message: Message, call_next):  # type: ignore[no-untyped-def]
        await decide({}, message)
        return await call_next(message)

    return deciding


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@MODEL
@given(
    scenario=scenarios(streams=False),
    faults=brokers(),
    attempt=st.integers(1, 3),
    decision=st.sampled_from(("none", "none", "ack", "retry", "reject")),
)
def test_a_message_is_settled_exactly_once(
    backend: str, scenario: Scenario, faults: dict[str, str], attempt: int, decision: str
) -> None:
    run = Run()
    settlement = anyio.run(play, scenario, run, faults, attempt, decision, backend=backend)
    note(f"{run.log} {settlement.history}")
    state, done = settlement.state, run.names("broker")
    assert state.final
    assert sum(each.final for each in settlement.history) == 1
    # The original is answered at most once, and the answer agrees with the state.
    assert done.count("ack") + done.count("give_back") <= 1
    assert done.count("store_retry") + done.count("store_dead") <= 1
    if state is State.ACKED:
        assert done == ["ack"]
    if state is State.RETRIED:
        assert done == ["store_retry", "ack"]
    if state is State.DEAD:
        assert done == ["store_dead", "ack"]
    if state is State.RETURNED:
        assert "ack" not in done
    if faults["stale_at"] == "start":
        assert state is State.LOST
        assert not done
    # Commit before ack: nothing is said to the broker before every scope is closed.
    kinds = [kind for kind, _ in run.log]
    last_left = max((i for i, kind in enumerate(kinds) if kind == "leave"), default=-1)
    if "broker" in kinds:
        assert last_left < kinds.index("broker")
    run.check_teardowns()
    # Work that was rolled back is never acked away.
    failing = scenario.handler in ("raise", "public") and "handler" in kinds
    rescued = any(each.answers or each.after != "none" for each in scenario.layers)
    if failing and not rescued:
        assert state is not State.ACKED
    if state is State.ACKED and not rescued:
        assert not any(
            each.teardown in ("raise", "public") and f"dep{i}" in run.names("enter")
            for i, each in enumerate(scenario.dependencies)
            if each.form != "plain"
        )


@pytest.mark.parametrize("status", list(StatusCode))
@pytest.mark.feature("FX-34")
def test_the_status_table_decides_what_a_queue_does(status: StatusCode) -> None:
    from microkit import Reply
    from microkit.settlement import Verdict

    decide = default_policy(max_attempts=2)
    retryable = {
        StatusCode.UNAVAILABLE,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.ABORTED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNKNOWN,
        StatusCode.INTERNAL,
    }
    first = decide(Message(attempt=1), Reply(status=status))
    last = decide(Message(attempt=2), Reply(status=status))
    assert first.verdict is (Verdict.RETRY if status in retryable else Verdict.DEAD)
    assert last.verdict is Verdict.DEAD
    assert status.name in last.reason
