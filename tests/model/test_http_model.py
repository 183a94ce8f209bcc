"""The plan compiler against its rules: whatever fails or is cancelled, and wherever, an HTTP call ends in order."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, note, settings

from microkit.errors import StreamAborted
from tests.properties import STEADY

from .scenario import Run, Scenario, build, scenarios

pytestmark = [pytest.mark.guarantee("G2"), pytest.mark.guarantee("G5"), pytest.mark.guarantee("G12")]

MODEL = settings(STEADY, max_examples=150)


async def play(scenario: Scenario, run: Run) -> bool:
    """Send one request through ASGI. Returns whether the server's task was cancelled."""
    app = build(scenario, run, lambda app: app.get("/"))
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [],
        "root_path": "",
    }

    async def receive() -> Any:
        if not received:
            received.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await anyio.sleep_forever()
        return None

    async def send(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            run.log.append(("start", str(event["status"])))
        else:
            run.log.append(("chunk" if event.get("more_body") else "end", event["body"].decode()))
        await anyio.lowlevel.checkpoint()

    received: list[bool] = []
    async with app.started():
        with anyio.CancelScope() as run.scope:
            try:
                await app(scope, receive, send)
            except StreamAborted:
                run.log.append(("aborted", ""))
        return run.scope.cancel_called


def check(scenario: Scenario, run: Run, cancelled: bool) -> None:
    kinds = [kind for kind, _ in run.log]
    run.check_teardowns()
    last_left = max((i for i, kind in enumerate(kinds) if kind == "leave"), default=-1)
    # At most one reply; without a cancellation, exactly one, or a stream that was cut off.
    assert kinds.count("start") <= 1
    assert kinds.count("end") <= 1
    if not cancelled:
        assert kinds.count("start") == 1
        assert kinds.count("end") + kinds.count("aborted") == 1
    # What completes a reply comes after every teardown, and nothing is sent after it.
    if "end" in kinds:
        assert last_left < kinds.index("end")
        assert "chunk" not in kinds[kinds.index("end") :]
    if "start" in kinds and "chunk" not in kinds and "aborted" not in kinds and not cancelled and not scenario.streams:
        assert last_left < kinds.index("start")
    # A failing teardown never looks like success.
    if run.names("failed") and not cancelled and "end" in kinds:
        replaced = any(each.after in ("raise", "public") or each.answers for each in scenario.layers)
        assert run.names("start")[0] == "500" or replaced
    # After-phases run in reverse of before-phases, for every layer that got its reply.
    befores, afters = run.names("before"), run.names("after")
    assert befores == sorted(befores)
    assert afters == sorted(afters, reverse=True)
    # Background work follows the reply, and only a handler that did not fail.
    if "background" in kinds:
        assert "end" in kinds
        assert kinds.index("background") > kinds.index("end")
        assert scenario.handler == "none" or scenario.handler == "cancel"
    elif not cancelled and "handler" in kinds and "end" in kinds and scenario.handler == "none":
        failures = [each.teardown for each in scenario.dependencies if each.teardown != "none"]
        assert failures, "background tasks of a successful handler must run"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@MODEL
@given(scenario=scenarios())
def test_a_call_ends_in_order_whatever_fails(backend: str, scenario: Scenario) -> None:
    run = Run()
    cancelled = anyio.run(play, scenario, run, backend=backend)
    note(str(run.log))
    check(scenario, run, cancelled)
