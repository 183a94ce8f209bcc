"""Calling procedures from synchronous code: scripts, shells, worker threads."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from microkit.broker import TargetInfo

from .client import AmqpRpcClient, info_of


class SyncRpcClient:
    """Calls procedures over RabbitMQ and waits for them, from any thread; the connection lives in a thread of its own.

        with SyncRpcClient("amqp://localhost") as rpc:
            rpc.greeter.hello("Bob")
            future = rpc.greeter.hello.call_async("Bob")
            future.result(timeout=5)

    Args:
        url, options: as of `AmqpRpcClient`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._client = AmqpRpcClient(url, **options)
        self._portal: BlockingPortal
        self._ending: Any = None

    def __enter__(self) -> Self:
        self._ending = start_blocking_portal("asyncio")
        self._portal = self._ending.__enter__()
        try:
            self._portal.call(self._client.__aenter__)
        except BaseException as exc:
            self._ending.__exit__(type(exc), exc, exc.__traceback__)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._portal.call(self._client.__aexit__, None, None, None)
        finally:
            self._ending.__exit__(exc_type, exc, traceback)

    def call(
        self,
        service: str,
        target: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Any:
        """Call a procedure and wait for its result. As `AmqpRpcClient.call`."""
        return self.call_async(service, target, args, kwargs, timeout=timeout).result()

    def call_async(
        self,
        service: str,
        target: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Future[Any]:
        """Call a procedure; `.result(timeout)` of what this returns waits for it, and `.cancel()` gives it up."""

        async def call() -> Any:
            return await self._client.call(service, target, args, kwargs, timeout=timeout)

        return self._portal.start_task_soon(call)

    def targets(self, service: str) -> list[TargetInfo]:
        """The procedures of a service. As `AmqpRpcClient.targets`."""
        return self._portal.call(self._client.targets, service)

    def info(self, service: str, target: str) -> TargetInfo:
        """What a service tells of one of its procedures."""
        return self._portal.call(info_of, self._client, service, target)

    def __getattr__(self, name: str) -> SyncServiceProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return SyncServiceProxy(self, name)


class SyncServiceProxy:
    """A service by attributes, whose procedures are called as `greeter.hello("Bob")`.

    Args:
        client: makes the calls.
        service: its name.
    """

    def __init__(self, client: SyncRpcClient, service: str) -> None:
        self._client = client
        self._service = service

    @property
    def targets(self) -> list[TargetInfo]:
        """The procedures of the service."""
        return self._client.targets(self._service)

    def __getattr__(self, name: str) -> SyncTarget:
        if name.startswith("_"):
            raise AttributeError(name)
        return SyncTarget(self._client, self._service, name)


class SyncTarget:
    """A procedure, or the first part of its name.

    Args:
        client: makes the calls.
        service: its service.
        name: its name so far.
    """

    def __init__(self, client: SyncRpcClient, service: str, name: str) -> None:
        self._client = client
        self._service = service
        self._name = name

    def __getattr__(self, name: str) -> SyncTarget:
        if name.startswith("_"):
            raise AttributeError(name)
        return SyncTarget(self._client, self._service, f"{self._name}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it and wait for its result."""
        return self._client.call(self._service, self._name, args, kwargs)

    def call_async(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call it; `.result(timeout)` of what this returns waits for it."""
        return self._client.call_async(self._service, self._name, args, kwargs)

    @property
    def info(self) -> TargetInfo:
        """Its name, arguments and docstring."""
        return self._client.info(self._service, self._name)


@contextmanager
def rpc_proxy(url: str, service: str, **options: Any) -> Generator[SyncServiceProxy]:
    """One service for synchronous code.

        with rpc_proxy("amqp://localhost", "greeter") as greeter:
            greeter.hello("Bob")

    Args:
        url, options: as of `AmqpRpcClient`.
        service: its name.
    """
    with SyncRpcClient(url, **options) as client:
        yield SyncServiceProxy(client, service)
