"""Calls within calls and messages within batches, when one of them is cancelled or cut off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import pytest

from microkit import (
    App,
    Batch,
    Container,
    Depends,
    Event,
    Procedure,
    PublicError,
)
from microkit.settlement import State
from microkit_testkit import TestClient
from tests.guarantees.support import noted

pytestmark = pytest.mark.anyio


# -- calls within calls ------------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G5")
async def test_what_a_cancelled_caller_called_is_over_when_it_is_told(app: App, log: list[str]) -> None:
    begun = anyio.Event()

    async def slow_teardown() -> AsyncIterator[None]:
        try:
            yield
        finally:
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            log.append("inner left")

    @app.on(Procedure("inner.call"))
    async def inner(scope: Annotated[None, Depends(slow_teardown)]) -> None:
        begun.set()
        await anyio.sleep_forever()

    @app.on(Procedure("outer.call"))
    async def outer() -> None:
        try:
            await app.call("inner.call")
        finally:
            log.append("outer ended")

    async with app.started():
        async with anyio.create_task_group() as group:
            group.start_soon(app.call, "outer.call")
            await begun.wait()
            group.cancel_scope.cancel()
    assert log == ["inner left", "outer ended"]


async def test_a_call_that_shutdown_cuts_off_is_told_as_such(app: App, log: list[str]) -> None:
    begun = anyio.Event()

    @app.on(Procedure("a.b"))
    async def procedure(scope: Annotated[str, Depends(noted(log))]) -> None:
        begun.set()
        await anyio.sleep_forever()

    async def caller() -> None:
        with pytest.raises(PublicError) as told:
            await app.call("a.b")
        log.append(told.value.status.name)

    await app.runtime.start_detached()
    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        await begun.wait()
        with anyio.fail_after(60):
            await app.runtime.stop(0.0)
    assert log == ["scope saw cancellation", "UNAVAILABLE"]


async def test_recursion(app: App, log: list[str]) -> None:
    @app.on(Procedure("math.factorial"))
    async def factorial(number: int, scope: Annotated[str, Depends(noted(log))]) -> int:
        return 1 if number < 2 else number * await app.call("math.factorial", number - 1)

    async with app.started():
        assert await app.call("math.factorial", 50) == 30414093201713378043612608166064768844377641568960512000000000000
    assert log == ["scope committed"] * 50


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G8")
async def test_the_message_that_a_cancellation_hits_comes_again_and_finished_ones_do_not(
    app: App, log: list[str]
) -> None:
    begun = anyio.Event()
    seen: list[Any] = []

    @app.on(Event("shop", "sold", batch=True))
    async def handler(batch: Batch) -> None:
        async for message in batch.messages():
            async with message:
                seen.append(message)
                if len(seen) == 2:
                    begun.set()
                    await anyio.sleep_forever()

    async with TestClient(app) as client, anyio.create_task_group() as group:
        group.start_soon(client.batch, "shop", "sold", [1, 2, 3])
        await begun.wait()
        batch = seen[0].settlement, seen[1].settlement
        group.cancel_scope.cancel()
    assert [each.state for each in batch] == [State.ACKED, State.RETURNED]


@pytest.mark.guarantee("G8")
async def test_a_teardown_of_one_message_that_hangs_fails_that_message_alone(log: list[str]) -> None:
    app = App(discover=False, settings={"app": {"teardown_timeout": 0.05, "log_level": "CRITICAL"}})

    class Session:
        async def aclose(self) -> None:
            if not log:
                log.append("hangs")
                await anyio.sleep_forever()
            log.append("closed")

    app.registry.register(Session, Session, scope="call")
    seen: list[Any] = []

    @app.on(Event("shop", "sold", batch=True))
    async def handler(batch: Batch, container: Container) -> None:
        async for message in batch.messages():
            seen.append(message)
            try:
                async with message:
                    await message.live_scope.get(await _node(message, Session))
            except Exception as exc:
                log.append(type(exc).__name__)

    async def _node(message: Any, key: Any) -> Any:
        return app.resolver.service(key)

    async with TestClient(app) as client:
        with anyio.fail_after(60):
            await client.batch("shop", "sold", [1, 2])
    assert log == ["hangs", "TimeoutError", "closed"]
    assert [each.settlement.state for each in seen] == [State.RETRIED, State.ACKED]
