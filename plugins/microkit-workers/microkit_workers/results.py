"""Results for the hooks of dependencies: teardowns see the exception of a call, these want its result too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from microkit import annotations
from microkit.graph import CALL

from .dependencies import Dependency

if TYPE_CHECKING:
    from microkit.plan import Plan


def record_results(plan: Plan) -> None:
    """Let a handler note its result in its call, if a dependency of the plan has an after-call hook."""
    if plan.remote is not None or not any(_has_hook(node.func) for node in plan.inner.order):
        return
    plan.nodes = [CALL, *plan.nodes]
    plan.handler = _recording(plan.handler, is_async=annotations.is_async(plan.endpoint.handler))


def _has_hook(func: Any) -> bool:
    owner = getattr(func, "__self__", None)
    return isinstance(owner, Dependency) and type(owner).after_call is not Dependency.after_call


def _recording(handler: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    def record(call: Any, *args: Any) -> Any:
        call.__dict__["result"] = result = handler(*args)
        return result

    async def record_async(call: Any, *args: Any) -> Any:
        call.__dict__["result"] = result = await handler(*args)
        return result

    return record_async if is_async else record
