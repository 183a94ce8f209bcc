"""Calling procedures of other services over the broker."""

from __future__ import annotations

from typing import Any

from microkit import Call, Depends, NotFound
from microkit.broker import RpcWire, TargetInfo

from .context import pools_of
from .crossing import Future, Loop


class TargetProxy:
    """A procedure of another service. Attributes lead to nested names, such as `svc.Class.method`.

    In a sync handler a call waits for its result; in a coroutine it is awaited. Its failures are `PublicError`s:
    NOT_FOUND without such a service or procedure, DEADLINE_EXCEEDED without an answer in time.
    """

    def __init__(self, service: ServiceProxy, name: str) -> None:
        self._service = service
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it and wait for the result."""
        return self._service._loop.either(lambda: self._service._call(self._name, args, kwargs))

    def call_async(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call it and return at once; wait by `.result(timeout)` in a thread, by `await` in a coroutine."""
        return Future(self._service._loop, lambda: self._service._call(self._name, args, kwargs))

    @property
    def info(self) -> Any:
        """Its `TargetInfo`: name, arguments, docstring; to be awaited in a coroutine."""
        return self._service._loop.either(lambda: self._service._info(self._name))

    def __getattr__(self, name: str) -> TargetProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return TargetProxy(self._service, f"{self._name}.{name}")

    def __repr__(self) -> str:
        return f"<TargetProxy {self._service._name}.{self._name}>"


class ServiceProxy:
    """Another service: its attributes are its procedures.

    Args:
        name: of the service.
        wire: carries the calls.
        timeout: seconds that a call waits.
        loop: the event loop of the call.
    """

    def __init__(self, name: str, wire: RpcWire, timeout: float, loop: Loop) -> None:
        self._name = name
        self._wire = wire
        self._timeout = timeout
        self._loop = loop

    @property
    def targets(self) -> Any:
        """The names of its procedures; to be awaited in a coroutine."""
        return self._loop.either(self._names)

    async def _names(self) -> list[str]:
        return [each.name for each in await self._wire.targets(self._name, timeout=self._timeout)]

    async def _info(self, target: str) -> TargetInfo:
        for each in await self._wire.targets(self._name, timeout=self._timeout):
            if each.name == target:
                return each
        raise NotFound(f"The service {self._name!r} has no procedure {target!r}.")

    async def _call(self, target: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await self._wire.call(self._name, target, args, kwargs, timeout=self._timeout)

    def __getattr__(self, name: str) -> TargetProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return TargetProxy(self, name)

    def __repr__(self) -> str:
        return f"<ServiceProxy {self._name}>"


class RPCProxyProvider:
    """Injects a `ServiceProxy`: `@inject(users=RPCProxyProvider("users"))`, or as an attribute of a class target.

    Args:
        service: name of the other service.
        timeout: seconds that a call waits; None: the setting `rpc_timeout`.
    """

    def __init__(self, service: str, timeout: float | None = None) -> None:
        self.service = service
        self.timeout = timeout

    def __microkit_depends__(self) -> Depends:
        return Depends(self._provide)

    def _provide(self, call: Call, wire: RpcWire) -> ServiceProxy:
        timeout = self.timeout or pools_of(call.app).settings.rpc_timeout
        return ServiceProxy(self.service, wire, timeout, Loop(call.app.runtime.tasks))
