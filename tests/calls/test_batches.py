"""Batches: several messages in one call, each settled on its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import anyio
import pytest

from microkit import App, Batch, Depends, Event
from microkit.settlement import State
from microkit_testkit import TestClient

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G8")]
MANY = Event("shop", "sold", batch=True)


@pytest.fixture
def app() -> App:
    return App(discover=False)


@pytest.mark.feature("F000-39")
async def test_a_batch_is_one_call_and_unsettled_messages_are_acked(app: App) -> None:
    calls: list[list[int]] = []

    @app.on(MANY)
    async def ship(payloads: list[int]) -> None:
        calls.append(payloads)

    async with TestClient(app) as client:
        done = await client.batch("shop", "sold", [1, 2, 3])
    assert calls == [[1, 2, 3]]
    assert done.states == [State.ACKED] * 3
    assert [each.settled().actions for each in done] == [["ack"]] * 3


@pytest.mark.feature("F000-38")
async def test_each_message_has_its_own_decision(app: App) -> None:
    @app.on(MANY)
    async def ship(batch: Batch) -> None:
        async for message in batch.messages():
            match await message.get():
                case "later":
                    await message.retry(delay=5)
                    await message.ack()
                case "bad":
                    await message.reject("bad")
                case "good":
                    await message.ack()
                    await message.retry()

    async with TestClient(app) as client:
        done = await client.batch("shop", "sold", ["good", "later", "bad", "silent"])
    assert done.states == [State.ACKED, State.RETRIED, State.DEAD, State.ACKED]
    assert done[1].settled().delay == 5


@pytest.mark.feature("F000-39")
@pytest.mark.parametrize("fails", ["handler", "teardown"])
async def test_acks_are_void_if_the_batch_fails(app: App, fails: str) -> None:
    async def transaction() -> AsyncIterator[None]:
        yield
        if fails == "teardown":
            raise OSError

    @app.on(MANY)
    async def ship(batch: Batch, _: Annotated[None, Depends(transaction)]) -> None:
        first, second, _third = batch
        await first.ack()
        await second.reject("bad")
        if fails == "handler":
            raise OSError

    async with TestClient(app) as client:
        done = await client.batch("shop", "sold", [1, 2, 3])
    assert done.states == [State.RETRIED, State.DEAD, State.RETRIED]


@pytest.mark.feature("F000-39")
async def test_a_message_with_a_scope_of_its_own_is_settled_when_its_block_ends(app: App) -> None:
    states: list[State] = []

    @app.on(MANY)
    async def ship(batch: Batch) -> None:
        first, second, third, _ = batch
        async with first:
            pass
        states.append(first.settlement.state)  # type: ignore[union-attr]
        try:
            async with second:
                raise ConnectionError
        except ConnectionError:
            states.append(second.settlement.state)  # type: ignore[union-attr]
        async with third:
            await third.reject("bad")
        states.append(third.settlement.state)  # type: ignore[union-attr]
        raise OSError("the rest fails")

    async with TestClient(app) as client:
        done = await client.batch("shop", "sold", [1, 2, 3, 4])
    assert states == [State.ACKED, State.RETRIED, State.DEAD]
    assert done.states == [State.ACKED, State.RETRIED, State.DEAD, State.RETRIED]


@pytest.mark.feature("F000-39")
async def test_all_at_once_and_how_many_were_consumed(app: App) -> None:
    consumed: list[int] = []

    @app.on(MANY)
    async def ship(batch: Batch) -> None:
        async for message in batch.messages():
            if message.payload == "stop":
                break
        consumed.append(batch.consumed_count)
        first, *_ = batch
        await first.reject("bad")
        if len(batch) == 2:
            await batch.ack_all()
        else:
            await batch.retry_all(delay=9)

    async with TestClient(app) as client:
        assert (await client.batch("shop", "sold", ["a", "stop"])).states == [State.DEAD, State.ACKED]
        done = await client.batch("shop", "sold", ["a", "stop", "c"])
        assert done.states == [State.DEAD, State.RETRIED, State.RETRIED]
        assert done[2].settled().delay == 9
    assert consumed == [2, 2]


async def test_a_cancelled_batch_gives_back_what_is_not_settled(app: App) -> None:
    states: list[State] = []
    batches: list[Batch] = []

    @app.on(MANY)
    async def ship(batch: Batch) -> None:
        batches.append(batch)
        first, second, _ = batch
        async with first:
            pass
        await second.ack()
        await anyio.sleep_forever()

    async with TestClient(app) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.batch, "shop", "sold", [1, 2, 3])
        await client.settle()
        tasks.cancel_scope.cancel()
    states = [message.settlement.state for message in batches[0]]  # type: ignore[union-attr]
    assert states == [State.ACKED, State.RETURNED, State.RETURNED]


async def test_bindings_with_and_without_batches_share_an_event(app: App) -> None:
    log: list[object] = []

    @app.on(MANY)
    async def together(payloads: list[int]) -> None:
        log.append(payloads)

    @app.on(Event("shop", "sold"))
    async def single(payload: int) -> None:
        log.append(payload)

    async with TestClient(app) as client:
        done = await client.batch("shop", "sold", [1, 2])
    assert log == [[1, 2], 1, 2]
    assert len(done["together"]) == len(done["single"]) == 2
