"""Procedures that are served over a broker."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from microkit import ConfigurationError, PublicError, Reply, RpcRequest, StatusCode
from microkit.annotations import unwrap
from microkit.broker import RpcWire, Subscription, TargetInfo
from microkit.dispatch import run

if TYPE_CHECKING:
    from microkit import App
    from microkit.plan import Plan

    from .context import Pools

_logger = logging.getLogger("microkit.workers")


class ProcedureServer:
    """Runs the requests to broker procedures. The workers of their contexts are taken by the plans themselves.

    Args:
        app: the application.
        pools: its pools.
        spawn: runs a coroutine function in a task.
    """

    def __init__(self, app: App, pools: Pools, spawn: Callable[..., None]) -> None:
        self._app = app
        self._pools = pools
        self._spawn = spawn
        self._plans: dict[str, Plan] = {}

    async def start(self, plans: list[Plan]) -> list[Subscription]:
        """Serve the procedures of some plans, service by service.

        Raises:
            ConfigurationError: one streams its results, which no broker carries.
        """
        services = by_service(plans, self._pools.settings.service or self._app.name)
        self._plans.update((plan.binding.trigger.key, plan) for plan in plans)
        wire: RpcWire = await self._app.container.get(RpcWire)
        return [
            await wire.serve(
                service,
                {target: target_info(target, plan) for target, plan in targets.items()},
                self._prefetch(targets.values()),
                self.on_request,
            )
            for service, targets in services.items()
        ]

    def _prefetch(self, plans: Iterable[Plan]) -> int:
        workers = sum(pool.size for pool in {self._pools.of(plan) for plan in plans})
        return max(1, math.ceil(workers * self._pools.settings.prefetch_factor))

    def on_request(self, request: RpcRequest, send: Callable[[Reply], Awaitable[None]]) -> None:
        """Take a request; never waits."""
        self._spawn(self._handle, request, send)

    async def _handle(self, request: RpcRequest, send: Callable[[Reply], Awaitable[None]]) -> None:
        plan = self._plans.get(request.name)
        try:
            if plan is None:
                error = PublicError(f"There is no procedure {request.name!r}.", status=StatusCode.NOT_FOUND)
                return await send(Reply(status=error.status, error=error))
            request.app, request.plan = self._app, plan
            await run(request, send)
        except Exception:  # the reply could not be sent: its caller runs into its time-out
            _logger.exception("the reply to %s could not be sent", request.name)
        return None


def by_service(plans: Iterable[Plan], own: str) -> dict[str, dict[str, Plan]]:
    """The plans of procedures by the names of their services and targets.

    Args:
        plans: of the procedures.
        own: name of the application's service, which may have dots.

    Raises:
        ConfigurationError: a procedure streams its results.
    """
    services: dict[str, dict[str, Plan]] = {}
    for plan in plans:
        name: str = plan.binding.trigger.key
        if plan.may_stream:
            raise ConfigurationError(f"{plan.binding} streams its results, which a broker cannot carry.")
        service = own if name.startswith(f"{own}.") else name.partition(".")[0]
        services.setdefault(service, {})[name.removeprefix(f"{service}.")] = plan
    return services


def target_info(name: str, plan: Plan) -> TargetInfo:
    """What callers may know of a procedure: only parameters that they can give, no dependencies."""
    plain = plan.resolver.plain
    return TargetInfo(
        name,
        tuple(each.name for each in plain if not each.keyword_only),
        tuple(each.name for each in plain if each.keyword_only),
        inspect.getdoc(unwrap(plan.endpoint.handler)) or "",
        bool(plan.options.get("idempotent")),
    )
