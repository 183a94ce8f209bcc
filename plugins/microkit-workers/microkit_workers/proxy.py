"""Calling procedures of other services over the broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from microkit import Call, Depends, NotFound, RpcRequest
from microkit.broker import RpcWire, TargetInfo

from .context import pools_of
from .crossing import Future, Loop

_OF_MESSAGES = "x-microkit-"  # headers that tell of one delivery, not of the call


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
    """Another service: its attributes are its procedures, and `service["name"]` is one whose name is no attribute.

    Args:
        name: of the service.
        wire: carries the calls.
        timeout: seconds that a call waits.
        loop: the event loop of the call.
        headers: sent along with each call.
    """

    def __init__(
        self, name: str, wire: RpcWire, timeout: float, loop: Loop, headers: Mapping[str, Any] | None = None
    ) -> None:
        self._name = name
        self._wire = wire
        self._timeout = timeout
        self._loop = loop
        self._headers = headers

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
        return await self._wire.call(self._name, target, args, kwargs, timeout=self._timeout, headers=self._headers)

    def __getitem__(self, name: str) -> TargetProxy:
        return TargetProxy(self, name)

    def __getattr__(self, name: str) -> TargetProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __repr__(self) -> str:
        return f"<ServiceProxy {self._name}>"


class SystemProxy:
    """All services: its attributes are `ServiceProxy`s, and `system["my-service"]` is one whose name is no attribute.

    Nothing is asked of the broker until a procedure is called; one of a service that does not exist is NOT_FOUND then.

    Args:
        wire, timeout, loop, headers: as of `ServiceProxy`.
    """

    def __init__(self, wire: RpcWire, timeout: float, loop: Loop, headers: Mapping[str, Any] | None = None) -> None:
        self._wire = wire
        self._timeout = timeout
        self._loop = loop
        self._headers = headers

    def __getitem__(self, name: str) -> ServiceProxy:
        return ServiceProxy(name, self._wire, self._timeout, self._loop, self._headers)

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __repr__(self) -> str:
        return "<SystemProxy>"


class RPCSystemProxyProvider:
    """Injects a `SystemProxy`: `@inject(system=RPCSystemProxyProvider())`, or as an attribute of a class target. In a
    procedure that was called over the broker its headers, such as nameko's stack of call ids, go along.

    Args:
        timeout: seconds that a call waits; None: the setting `rpc_timeout`.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout

    def __microkit_depends__(self) -> Depends:
        return Depends(self._provide)

    def _provide(self, call: Call, wire: RpcWire) -> SystemProxy:
        timeout = self.timeout or pools_of(call.app).settings.rpc_timeout
        return SystemProxy(wire, timeout, Loop(call.app.runtime.tasks), _headers_of(call))


class RPCProxyProvider:
    """Injects the `ServiceProxy` of one service, in all as `RPCSystemProxyProvider`.

    Args:
        service: name of the other service.
        timeout: seconds that a call waits; None: the setting `rpc_timeout`.
    """

    def __init__(self, service: str, timeout: float | None = None) -> None:
        self.service = service
        self._system = RPCSystemProxyProvider(timeout)

    def __microkit_depends__(self) -> Depends:
        return Depends(self._provide)

    def _provide(self, call: Call, wire: RpcWire) -> ServiceProxy:
        return self._system._provide(call, wire)[self.service]


def _headers_of(call: Call) -> dict[str, Any]:
    if not isinstance(call, RpcRequest) or call.plan.ingress != "consumers":
        return {}
    return {name: value for name, value in call.headers.items() if not name.startswith(_OF_MESSAGES)}
