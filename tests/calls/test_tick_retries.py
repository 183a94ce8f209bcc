"""A retry policy of a timer, with nothing but the kernel."""

from __future__ import annotations

from typing import Any

import pytest

from microkit import App, Every, Reply, Tick
from microkit.broker import FIRST_SEEN, REASON
from microkit.settlement import Decision, Verdict
from microkit_testkit import FakeClock, TestClient


@pytest.mark.anyio
async def test_a_firing_that_fails_runs_again_as_its_policy_says() -> None:
    seen: list[Any] = []

    def policy(tick: Any, reply: Reply) -> Decision:
        assert isinstance(reply.error, OSError)
        verdict = Verdict.RETRY if tick.attempt < 3 else Verdict.DEAD
        return Decision(verdict, 2.0, f"attempt {tick.attempt}")

    app = App(clock=FakeClock(), discover=False)

    @app.on(Every(10), retry=policy)
    async def poll(tick: Tick) -> None:
        seen.append((app.clock.now() - start, tick.attempt, tick.headers.get(REASON), FIRST_SEEN in tick.headers))
        raise OSError

    start = app.clock.now()
    async with TestClient(app) as client:
        await client.clock.advance(19)
    assert seen == [(10, 1, None, False), (12, 2, "attempt 1", True), (14, 3, "attempt 2", True)]
