"""The asyncio loop that libraries get which know no other backend: natively, and in a thread under trio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import pytest

from microkit._bridge import AsyncioLoop, ThreadedAsyncioLoop, open_asyncio

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G12")]


@pytest.fixture
async def loop(anyio_backend: Any) -> AsyncGenerator[AsyncioLoop]:
    bridge = open_asyncio(grace=5.0)
    try:
        yield bridge
    finally:
        await bridge.close()


async def test_only_trio_gets_a_thread(loop: AsyncioLoop, anyio_backend_name: str) -> None:
    assert isinstance(loop, ThreadedAsyncioLoop) is (anyio_backend_name == "trio")
    same = await loop.run(_thread) is threading.current_thread()
    assert same is (anyio_backend_name == "asyncio")


async def _thread() -> threading.Thread:
    asyncio.get_running_loop()
    await asyncio.sleep(0)
    return threading.current_thread()


async def test_a_result_and_an_exception_come_across(loop: AsyncioLoop) -> None:
    async def divide(a: int, b: int) -> float:
        await asyncio.sleep(0)
        return a / b

    assert await loop.run(divide, 6, 3) == 2
    with pytest.raises(ZeroDivisionError):
        await loop.run(divide, 6, 0)


async def test_a_cancellation_goes_across_and_its_cleanup_is_waited_for(loop: AsyncioLoop) -> None:
    seen: list[str] = []
    scope = anyio.CancelScope()
    begun = loop.homeward(scope.cancel)

    async def slow() -> None:
        begun()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if isinstance(loop, ThreadedAsyncioLoop):  # natively anyio would cancel this, too
                await asyncio.sleep(0.01)
            seen.append("cleaned up")
            raise

    with scope:
        await loop.run(slow)
    assert scope.cancelled_caught
    assert seen == ["cleaned up"]


async def test_what_is_cancelled_before_it_began_never_runs_on(loop: AsyncioLoop) -> None:
    seen: list[str] = []

    async def operation() -> None:
        await asyncio.sleep(0.01)
        seen.append("ran")

    with anyio.CancelScope() as scope:
        scope.cancel()
        await loop.run(operation)
    assert scope.cancelled_caught
    await anyio.sleep(0.05)
    assert seen == []


async def test_an_operation_that_ignores_its_cancellation_holds_nobody_for_ever() -> None:
    bridge = open_asyncio(grace=0.05)
    if not isinstance(bridge, ThreadedAsyncioLoop):
        pytest.skip("natively asyncio itself cancels")

    ended: list[str] = []
    held = [True]

    async def stubborn() -> None:
        end = asyncio.get_running_loop().time() + 60
        while held and asyncio.get_running_loop().time() < end:
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                pass
        ended.append("stubborn")

    with anyio.move_on_after(0.02):
        await bridge.run(stubborn)
    assert ended == []
    held.clear()
    await bridge.close()


async def test_calls_keep_their_order_in_both_directions(loop: AsyncioLoop) -> None:
    there: list[int] = []
    here: list[int] = []
    home = threading.current_thread()
    done = anyio.Event()

    def arrive(number: int) -> None:
        assert threading.current_thread() is home
        here.append(number)
        if number == 999:
            done.set()

    tell: Callable[..., None] = loop.homeward(arrive)

    def leave(number: int) -> None:
        there.append(number)
        tell(number)

    for number in range(1000):
        loop.call(leave, number)
    with anyio.fail_after(60):
        await done.wait()
    assert there == here == list(range(1000))


async def test_a_call_that_fails_does_not_stop_the_others(
    loop: AsyncioLoop, caplog: pytest.LogCaptureFixture, anyio_backend_name: str
) -> None:
    if anyio_backend_name == "asyncio":
        pytest.skip("natively it is an ordinary call, whose caller sees the failure")
    caplog.set_level("ERROR", logger="microkit")  # an application of another test may have set it
    seen: list[str] = []
    loop.call(lambda: 1 / 0)
    loop.call(seen.append, "next")
    await loop.run(asyncio.sleep, 0)
    assert seen == ["next"]
    assert "ZeroDivisionError" in caplog.text


async def test_closing_cancels_what_runs_and_is_told_to_who_waits() -> None:
    bridge = open_asyncio()
    if not isinstance(bridge, ThreadedAsyncioLoop):
        pytest.skip("natively the loop is the caller's own")
    ended: list[str] = []
    begun = anyio.Event()
    tell = bridge.homeward(begun.set)

    async def wait() -> None:
        tell()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    async def caller() -> None:
        with pytest.raises(RuntimeError, match="its asyncio loop ends"):
            await bridge.run(wait)
        ended.append("told")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller)
        await begun.wait()
        await bridge.close()
    assert ended == ["cancelled", "told"]
    with pytest.raises(RuntimeError, match="closed"):
        await bridge.run(wait)
    await bridge.close()
