"""What surrounds the call of a target: worker classes, and what hooks of dependencies see of a call."""

from __future__ import annotations

import inspect
from typing import Any

from microkit import App, Call


async def maybe(result: Any) -> Any:
    """A result, awaited if it has to be."""
    return await result if inspect.isawaitable(result) else result


class Worker:
    """One call of a target. Subclass it and give the class to a route (`worker_class=`), or bind with the option.

    Its methods may be sync or async; a sync one runs on the event loop. One is made for each call.

    Attributes:
        call: what runs: a `Message`, a `Tick`, an `RpcRequest`.
    """

    def __init__(self, call: Call) -> None:
        self.call = call

    @property
    def app(self) -> App:
        """The application."""
        return self.call.app

    @property
    def target(self) -> str:
        """The name of the target, as `module.qualname`."""
        return self.call.endpoint.name

    @property
    def payload(self) -> Any:
        """The payload of a message or a procedure; the scheduled time of a timer."""
        payload = getattr(self.call, "payload", None)
        return getattr(self.call, "scheduled_at", None) if payload is None else payload

    def before_call(self) -> Any:
        """Runs before the target and its dependencies. What it raises is the outcome of the call."""

    def after_call(self, result: Any, exc: BaseException | None) -> Any:
        """Runs after the target and the teardown of its dependencies.

        Args:
            result: what the target returned; None if it failed.
            exc: why it failed.
        """
