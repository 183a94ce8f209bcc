"""Calling procedures from outside a worker, on an event loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from microkit.broker import RpcWire, TargetInfo
from microkit.errors import PublicError, StatusCode
from microkit_amqp.broker import AmqpBroker
from microkit_amqp.settings import AmqpSettings


class AmqpRpcClient:
    """Calls procedures over RabbitMQ.

        async with AmqpRpcClient("amqp://localhost") as rpc:
            await rpc.greeter.hello("Bob")
            await rpc.call("greeter", "hello", ["Bob"], timeout=5)

    Args:
        url: of the broker.
        wire: `nameko` or `ufw`; empty takes the setting `rpc_wire`.
        timeout: seconds that a call may take, if it says nothing else; None takes the setting `rpc_timeout`.
        settings: of the connection.
    """

    def __init__(
        self, url: str, *, wire: str = "", timeout: float | None = None, settings: AmqpSettings | None = None
    ) -> None:
        settings = settings or AmqpSettings()
        self._broker = AmqpBroker(url, settings)
        self._wire = wire or settings.rpc_wire
        self._timeout = settings.rpc_timeout if timeout is None else timeout

    async def __aenter__(self) -> Self:
        await self._broker.connect()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._broker.close()

    @property
    def wire(self) -> RpcWire:
        """What the calls go over."""
        return self._broker.rpc(self._wire)

    async def call(
        self,
        service: str,
        target: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a procedure and wait for its result.

        Args:
            service, target: what to call.
            args, kwargs: its arguments, as JSON knows them.
            timeout: seconds; None takes the client's.
            headers: sent along.

        Raises:
            RemoteError: the procedure failed, or does not exist (NOT_FOUND).
            PublicError: DEADLINE_EXCEEDED, UNAVAILABLE.
        """
        seconds = self._timeout if timeout is None else timeout
        return await self.wire.call(service, target, args, kwargs, timeout=seconds, headers=headers)

    async def targets(self, service: str, *, timeout: float | None = None) -> list[TargetInfo]:
        """The procedures of a service.

        Raises:
            PublicError: as `call`; UNIMPLEMENTED, the service does not tell.
        """
        return await self.wire.targets(service, timeout=self._timeout if timeout is None else timeout)

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return ServiceProxy(self, name)


class ServiceProxy:
    """A service, or a procedure of it, by attributes: `rpc.greeter.hello("Bob")`, `rpc.greeter.Class.method()`.

    Args:
        client: makes the calls.
        service: its name.
        target: name of the procedure so far.
    """

    def __init__(self, client: AmqpRpcClient, service: str, target: str = "") -> None:
        self._client = client
        self._service = service
        self._target = target

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return ServiceProxy(self._client, self._service, f"{self._target}.{name}" if self._target else name)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, with the client's time-out."""
        if not self._target:
            raise TypeError(f"{self._service!r} is a service; call one of its procedures")
        return await self._client.call(self._service, self._target, args, kwargs)


async def info_of(client: AmqpRpcClient, service: str, target: str) -> TargetInfo:
    """What a service tells of one of its procedures.

    Raises:
        PublicError: NOT_FOUND, it has no such procedure; otherwise as `AmqpRpcClient.targets`.
    """
    for each in await client.targets(service):
        if each.name == target:
            return each
    raise PublicError(f"The service {service!r} has no procedure {target!r}.", status=StatusCode.NOT_FOUND)
