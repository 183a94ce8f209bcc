"""Cases about remote procedures, over the broker's own wire or over its queues."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

from microkit import PublicError, Reply, RpcRequest, StatusCode
from microkit.broker import Broker, RpcWire, TargetInfo
from microkit_workers.brokers import QueueRpc

from .harness import Harness, eventually

_TARGETS = {
    info.name: info
    for info in (
        TargetInfo("add", ("a", "b"), (), "Add two numbers."),
        TargetInfo("echo", (), ("value",)),
        TargetInfo("held"),
        TargetInfo("public"),
        TargetInfo("private"),
        TargetInfo("unwritable"),
        TargetInfo("again", idempotent=True),
    )
}

Answer = Callable[[Reply], Awaitable[None]]


class Service:
    """A service that runs requests in a task group.

    Attributes:
        ran: names of the procedures that began, in their order.
        gate: `held` ends once it is set.
    """

    def __init__(self, tasks: Any) -> None:
        self.tasks = tasks
        self.ran: list[str] = []
        self.requests: list[RpcRequest] = []
        self.running = self.most = 0
        self.gate = anyio.Event()

    def __call__(self, request: RpcRequest, answer: Answer) -> None:
        self.ran.append(request.method)
        self.requests.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        self.tasks.start_soon(self._run, request, answer)

    async def _run(self, request: RpcRequest, answer: Answer) -> None:
        reply = Reply()
        match request.method:
            case "add":
                reply = Reply(sum(request.args))
            case "echo":
                reply = Reply(request.kwargs)
            case "held":
                await self.gate.wait()
                reply = Reply("held")
            case "public":
                error = PublicError("not now", status=StatusCode.FAILED_PRECONDITION, details={"why": ["x", 1]})
                reply = Reply(status=error.status, error=error)
            case "private":
                reply = Reply(status=StatusCode.INTERNAL, error=RuntimeError("a secret"))
            case "unwritable":
                reply = Reply(object())
            case _:
                pass
        self.running -= 1
        await answer(reply)


class ProcedureCases(Harness):
    """Remote procedures."""

    @asynccontextmanager
    async def wires(self, broker: Broker, count: int = 1) -> AsyncGenerator[list[RpcWire], None]:
        """Wires over a broker: its own, or over its queues."""
        wires: list[Any] = [broker.rpc() or QueueRpc(broker) for _ in range(count)]
        try:
            yield wires
        finally:
            for wire in wires:
                if isinstance(wire, QueueRpc):
                    await wire.close()

    @asynccontextmanager
    async def service(self, prefetch: int = 10) -> AsyncGenerator[tuple[str, Service, RpcWire, RpcWire, Broker], None]:
        """A served service, by its name; the wires of server and client, and the client's broker."""
        self.need("rpc")
        name = self.fresh("service").replace(".", "_")
        async with self.brokers() as (one, two), self.wires(one) as (server,), self.wires(two) as (client,):
            async with anyio.create_task_group() as tasks:
                service = Service(tasks)
                subscription = await server.serve(name, _TARGETS, prefetch, service)
                yield name, service, server, client, two
                await subscription.cancel()
                tasks.cancel_scope.cancel()

    @pytest.mark.anyio
    async def test_a_procedure_is_called_with_positional_and_keyword_arguments(self) -> None:
        async with self.service() as (name, service, _, client, _):
            assert await client.call(name, "add", (1, 2), timeout=60) == 3
            assert await client.call(name, "echo", (), {"value": {"ä": [1.5, None]}}, timeout=60) == {
                "value": {"ä": [1.5, None]}
            }
            assert service.requests[0].name == f"{name}.add"

    @pytest.mark.anyio
    async def test_metadata_crosses(self) -> None:
        async with self.service() as (name, service, _, client, _):
            await client.call(name, "add", (1, 2), timeout=60, headers={"trace": "abc"})
            assert service.requests[0].headers["trace"] == "abc"

    @pytest.mark.anyio
    async def test_many_calls_at_once_get_their_own_results(self) -> None:
        async with self.service(prefetch=4) as (name, service, _, client, _):
            results: dict[int, int] = {}

            async def call(number: int) -> None:
                results[number] = await client.call(name, "add", (number, 1000), timeout=60)

            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(call, number)
            assert results == {number: number + 1000 for number in range(50)}
            assert service.most <= 4

    @pytest.mark.anyio
    async def test_no_more_than_prefetch_run_at_a_time(self) -> None:
        async with self.service(prefetch=2) as (name, service, _, client, _):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):

                    async def call() -> None:
                        await client.call(name, "held", timeout=60)

                    tasks.start_soon(call)
                await eventually(lambda: service.running >= 2)
                await anyio.sleep(0.2)
                assert service.running == 2
                service.gate.set()
            assert (service.most, len(service.ran)) == (2, 5)

    @pytest.mark.anyio
    async def test_an_unknown_service_fails_at_once(self) -> None:
        self.need("rpc")
        async with self.broker() as broker, self.wires(broker) as (client,):
            with anyio.fail_after(30):
                for call in (
                    client.call(self.fresh("nobody").replace(".", "_"), "x", timeout=60),
                    client.targets(self.fresh("nobody").replace(".", "_"), timeout=60),
                ):
                    with pytest.raises(PublicError) as caught:
                        await call
                    assert caught.value.status is StatusCode.NOT_FOUND

    @pytest.mark.anyio
    async def test_an_unknown_procedure_fails_at_once_and_nothing_runs(self) -> None:
        async with self.service() as (name, service, _, client, _):
            for target in ("unknown", "stop", "__class__"):
                with anyio.fail_after(30), pytest.raises(PublicError) as caught:
                    await client.call(name, target, timeout=60)
                assert caught.value.status is StatusCode.NOT_FOUND
            assert service.ran == []

    @pytest.mark.anyio
    async def test_a_public_error_crosses_and_no_other(self) -> None:
        async with self.service() as (name, _, _, client, _):
            with pytest.raises(PublicError) as public:
                await client.call(name, "public", timeout=60)
            assert (public.value.status, public.value.detail) == (StatusCode.FAILED_PRECONDITION, "not now")
            assert public.value.details == {"why": ["x", 1]}
            with pytest.raises(PublicError) as private:
                await client.call(name, "private", timeout=60)
            assert private.value.status is StatusCode.INTERNAL
            assert "secret" not in f"{private.value} {private.value.detail} {private.value.details}"

    @pytest.mark.anyio
    async def test_a_result_that_cannot_be_written_is_an_internal_error(self) -> None:
        async with self.service() as (name, _, _, client, _):
            with pytest.raises(PublicError) as caught:
                await client.call(name, "unwritable", timeout=60)
            assert caught.value.status is StatusCode.INTERNAL

    @pytest.mark.anyio
    async def test_a_call_ends_with_its_timeout_and_a_late_reply_disturbs_nobody(self) -> None:
        async with self.service() as (name, service, _, client, _):
            tries = 0
            while not service.ran:  # a machine that stands still lets the call run out on its way there
                tries += 1
                with anyio.fail_after(30), pytest.raises(PublicError) as caught:
                    await client.call(name, "held", timeout=0.2)
                assert caught.value.status is StatusCode.DEADLINE_EXCEEDED
            assert service.running
            service.gate.set()
            await eventually(lambda: not service.running)
            assert await client.call(name, "add", (1, 2), timeout=60) == 3
            await anyio.sleep(0.1)
            assert await client.call(name, "echo", (), {"value": 1}, timeout=60) == {"value": 1}
            assert service.ran[-2:] == ["add", "echo"]
            assert len(service.ran) <= tries + 2

    @pytest.mark.anyio
    async def test_a_cancelled_call_leaves_nothing_behind(self) -> None:
        async with self.service() as (name, service, _, client, _):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(client.call, name, "held", timeout=60))
                await eventually(lambda: service.running == 1)
                tasks.cancel_scope.cancel()
            service.gate.set()
            assert await client.call(name, "add", (1, 1), timeout=60) == 2

    @pytest.mark.anyio
    async def test_the_procedures_of_a_service_are_listed(self) -> None:
        async with self.service() as (name, _, _, client, _):
            found = {info.name: info for info in await client.targets(name, timeout=60)}
            assert set(found) == set(_TARGETS)
            assert (found["add"].args, found["echo"].kwargs) == (("a", "b"), ("value",))
            assert found["add"].doc == "Add two numbers."

    @pytest.mark.anyio
    async def test_servers_of_one_service_share_its_requests(self) -> None:
        async with self.service(prefetch=1) as (name, service, _, client, _), anyio.create_task_group() as tasks:
            other = Service(tasks)
            subscription = await client.serve(name, _TARGETS, 1, other)
            results: list[int] = []

            async def call(number: int) -> None:
                await client.call(name, "held", timeout=60)
                results.append(number)

            for number in range(10):
                tasks.start_soon(call, number)
            await eventually(lambda: service.running == other.running == 1)
            service.gate.set()
            other.gate.set()
            await eventually(lambda: len(results) == 10)
            await subscription.cancel()
            assert sorted(results) == list(range(10))
            assert len(service.ran) + len(other.ran) == 10

    @pytest.mark.anyio
    async def test_calls_that_wait_fail_clearly_when_their_wire_or_broker_is_closed(self) -> None:
        async with self.service() as (name, service, _, wire, broker):
            caught: list[PublicError] = []

            async def call() -> None:
                with pytest.raises(PublicError) as failure:
                    await wire.call(name, "held", timeout=600)
                caught.append(failure.value)

            with anyio.fail_after(30):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(call)
                    await eventually(lambda: service.running == 1)
                    await broker.close()
            assert [error.status for error in caught] == [StatusCode.UNAVAILABLE]
            await broker.connect()
            assert await wire.call(name, "add", (1, 2), timeout=60) == 3
