"""A service of ours on a wire, run by the kernel."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from microkit import App, Procedure, Reply, RpcRequest
from microkit.broker import RpcWire, TargetInfo
from microkit.dispatch import handle
from microkit.errors import PublicError, StatusCode
from microkit_amqp import AmqpBroker

TARGETS = {
    each.name: each
    for each in (
        TargetInfo("hello", ("name",), ("greeting",), "Greets."),
        TargetInfo("echo", ("args",), ("kwargs",)),
        TargetInfo("fails"),
        TargetInfo("refuses"),
        TargetInfo("slow", ("seconds",)),
        TargetInfo("slow_again", ("seconds",), idempotent=True),
        TargetInfo("stack"),
        TargetInfo("Deep.name"),
        TargetInfo("odd"),
    )
}


class Caller:
    """Calls `service.target` over a wire, as `rpc("ours.hello", "Bob")`."""

    def __init__(self, wire: RpcWire, timeout: float) -> None:
        self.wire = wire
        self.timeout = timeout

    async def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        service, _, target = name.partition(".")
        return await self.wire.call(service, target, args, kwargs, timeout=self.timeout)

    async def targets(self, service: str) -> list[TargetInfo]:
        return await self.wire.targets(service, timeout=self.timeout)


@asynccontextmanager
async def calling(url: str, wire: str = "nameko", timeout: float = 30) -> AsyncGenerator[Caller]:
    """A caller with a connection of its own."""
    broker = AmqpBroker(url)
    await broker.connect()
    try:
        yield Caller(broker.rpc(wire), timeout)
    finally:
        await broker.close()


class Ours:
    """The service `ours`.

    Attributes:
        began: procedures that ran, in order.
        gate: set it, and the slow ones end.
    """

    def __init__(self) -> None:
        self.app = App(discover=False)
        self.began: list[str] = []
        self.gate = anyio.Event()

        def call(name: str) -> Callable[[Any], Any]:
            return self.app.on(Procedure(name))

        @call("ours.hello")
        async def hello(name: str, greeting: str = "hi") -> str:
            return f"{greeting} {name}"

        @call("ours.echo")
        async def echo(request: RpcRequest) -> list[Any]:
            return [list(request.args), request.kwargs]

        @call("ours.fails")
        async def fails() -> None:
            raise ZeroDivisionError("secret of the house")

        @call("ours.refuses")
        async def refuses() -> None:
            raise PublicError("Not today.", status=StatusCode.FAILED_PRECONDITION)

        @call("ours.slow")
        async def slow(seconds: float) -> str:
            self.began.append("slow")
            with anyio.move_on_after(seconds):
                await self.gate.wait()
            return "done"

        @call("ours.slow_again")
        async def slow_again(seconds: float) -> str:
            self.began.append("slow_again")
            with anyio.move_on_after(seconds):
                await self.gate.wait()
            return "done"

        @call("ours.stack")
        async def stack(request: RpcRequest) -> Any:
            return request.headers["nameko.call_id_stack"]

        @call("ours.Deep.name")
        async def deep() -> str:
            return "deep"

        @call("ours.odd")
        async def odd() -> Any:
            return object()

    @asynccontextmanager
    async def on(self, broker: AmqpBroker, wire: str, slots: int = 10) -> AsyncGenerator[Any]:
        """Serve it."""
        async with self.app.started(), anyio.create_task_group() as tasks:

            def on_request(request: RpcRequest, send: Callable[[Reply], Awaitable[None]]) -> None:
                tasks.start_soon(self._run, request, send)

            subscription = await broker.rpc(wire).serve("ours", TARGETS, slots, on_request)
            yield subscription
            tasks.cancel_scope.cancel()

    async def _run(self, request: RpcRequest, send: Callable[[Reply], Awaitable[None]]) -> None:
        reply = await handle(self.app, request)
        try:
            await send(reply)
        except PublicError:
            pass  # the caller's time-out tells
