"""Remote procedures over queues: what a peer may send that is no request or reply, and what runs how often."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from microkit import PublicError, Reply, RpcRequest, StatusCode
from microkit.broker import OutgoingMessage, QueueSpec, TargetInfo
from microkit.codecs import json_loads
from microkit_workers import MemoryBroker, QueueRpc
from microkit_workers.conformance import Inbox, eventually

pytestmark = [pytest.mark.feature("FX-08"), pytest.mark.feature("F002-44"), pytest.mark.feature("F002-45")]

Taken = list[tuple[RpcRequest, Callable[[Reply], Awaitable[None]]]]
_TARGETS = {"once": TargetInfo("once"), "again": TargetInfo("again", idempotent=True)}


@asynccontextmanager
async def _served(prefetch: int = 10, **options: Any) -> AsyncGenerator[tuple[MemoryBroker, Taken, QueueRpc], None]:
    server, client = MemoryBroker(), None
    await server.connect()
    client = MemoryBroker(server.hub)
    await client.connect()
    taken: Taken = []
    rpc = QueueRpc(client, **options)
    subscription = await QueueRpc(server, **options).serve("svc", _TARGETS, prefetch, lambda *each: taken.append(each))
    yield server, taken, rpc
    await subscription.cancel()
    await rpc.close()
    await client.close()
    await server.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"target": 1}',
        b'{"target": "once", "args": {}}',
        b'{"target": "once", "kwargs": []}',
        b"[" * 5000,
    ],
)
async def test_what_is_no_request_is_answered_with_an_error_and_runs_nothing(body: bytes) -> None:
    async with _served() as (server, taken, _):
        replies = await Inbox().on(server, QueueSpec("replies"))
        await server.send("rpc.svc", OutgoingMessage(body, correlation_id="c", reply_to="replies"))
        (reply,) = await replies.take_and_ack()
        assert json_loads(reply.body)["error"]["status"] == StatusCode.INVALID_ARGUMENT
        assert reply.correlation_id == "c"
        await server.send("rpc.svc", OutgoingMessage(body))  # nobody to answer
        await eventually(lambda: server.hub.queues["rpc.svc"].unsettled == 0)
        assert taken == []


@pytest.mark.guarantee("G10")
async def test_requests_and_results_are_bounded() -> None:
    async with _served(max_size=100) as (server, taken, rpc):
        with pytest.raises(PublicError, match="at most 100") as caught:
            await rpc.call("svc", "once", ("x" * 100,), timeout=30)
        assert caught.value.status is StatusCode.RESOURCE_EXHAUSTED
        replies = await Inbox().on(server, QueueSpec("replies"))
        await server.send("rpc.svc", OutgoingMessage(b" " * 101, reply_to="replies"))
        (reply,) = await replies.take_and_ack()
        assert json_loads(reply.body)["error"]["status"] == StatusCode.RESOURCE_EXHAUSTED
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_expect, rpc, StatusCode.RESOURCE_EXHAUSTED)
            await eventually(lambda: bool(taken))
            await taken[0][1](Reply("x" * 100))


async def _expect(rpc: QueueRpc, status: StatusCode) -> None:
    with pytest.raises(PublicError) as caught:
        await rpc.call("svc", "once", timeout=30)
    assert caught.value.status is status


async def test_a_stream_does_not_cross_and_is_closed() -> None:
    closed: list[int] = []

    async def stream() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            closed.append(1)

    async with _served() as (_, taken, rpc), anyio.create_task_group() as tasks:
        tasks.start_soon(_expect, rpc, StatusCode.UNIMPLEMENTED)
        await eventually(lambda: bool(taken))
        body = stream()
        assert await anext(body) == 1
        await taken[0][1](Reply(body=body))
        assert closed


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"error": {}}', b'{"error": {"status": 99, "detail": "", "details": {}}}']
)
async def test_what_is_no_reply_is_an_internal_error(body: bytes) -> None:
    async with _served() as (server, taken, rpc), anyio.create_task_group() as tasks:
        tasks.start_soon(_expect, rpc, StatusCode.INTERNAL)
        await eventually(lambda: bool(taken))
        reply_queue = next(name for name in server.hub.queues if name.startswith("rpc.reply."))
        await server.send(reply_queue, OutgoingMessage(body, correlation_id="unknown"))
        await server.send(reply_queue, OutgoingMessage(body, correlation_id="1"))


@pytest.mark.guarantee("G8")
@pytest.mark.parametrize(("target", "times"), [("once", 1), ("again", 2)])
async def test_a_request_runs_at_most_once_unless_it_is_idempotent(target: str, times: int) -> None:
    async with _served() as (server, taken, rpc), anyio.create_task_group() as tasks:
        ended = anyio.Event()

        async def call() -> None:
            if target == "again":
                assert await rpc.call("svc", target, timeout=60) == "done"
            else:
                with pytest.raises(PublicError) as caught:
                    await rpc.call("svc", target, timeout=3)
                assert caught.value.status is StatusCode.DEADLINE_EXCEEDED
            ended.set()

        tasks.start_soon(call)
        await eventually(lambda: len(taken) == 1)
        await server.close()  # the server dies while it runs
        await server.connect()
        subscription = await QueueRpc(server).serve("svc", _TARGETS, 1, lambda *each: taken.append(each))
        if times == 2:
            await eventually(lambda: len(taken) == 2)
            await taken[1][1](Reply("done"))
        await ended.wait()
        assert len(taken) == times
        await subscription.cancel()


async def test_requests_that_wait_for_a_place_are_given_back_to_other_servers() -> None:
    async with _served(prefetch=1) as (server, taken, rpc), anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(_call, rpc)
        await eventually(lambda: len(taken) == 1 and server.hub.queues["rpc.svc"].unsettled == 1)
        other: Taken = []
        subscription = await QueueRpc(server).serve("svc", _TARGETS, 5, lambda *each: other.append(each))
        await eventually(lambda: len(other) == 1)
        for _, reply in [*taken, *other]:
            await reply(Reply("done"))
        await eventually(lambda: len(taken) + len(other) == 3)
        for _, reply in [*taken[1:], *other[1:]]:
            await reply(Reply("done"))
        await subscription.cancel()


async def _call(rpc: QueueRpc) -> None:
    assert await rpc.call("svc", "once", timeout=60) == "done"


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
async def test_a_call_always_has_a_timeout(timeout: float) -> None:
    async with _served() as (_, _, rpc):
        with pytest.raises(ValueError, match="timeout"):
            await rpc.call("svc", "once", timeout=timeout)


async def test_many_late_replies_do_not_stop_later_calls() -> None:
    async with _served(prefetch=400) as (_, taken, rpc):
        async with anyio.create_task_group() as tasks:
            for _ in range(300):
                tasks.start_soon(_give_up, rpc)
        for _, reply in taken:
            await reply(Reply("late"))
        taken.clear()
        called = anyio.Event()

        async def call() -> None:
            await _call(rpc)
            called.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            while not called.is_set():
                while taken:  # some of those that nobody waits for may come only now
                    await taken.pop(0)[1](Reply("done"))
                await anyio.sleep(0.01)


async def _give_up(rpc: QueueRpc) -> None:
    with pytest.raises(PublicError):
        await rpc.call("svc", "once", timeout=0.3)
