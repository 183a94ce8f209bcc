"""Dependencies with hooks around each call, and the configuration as one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from microkit import Call, Depends

from .settings import WorkersSettings
from .worker import Worker, maybe


class Dependency:
    """A dependency with three hooks. Inject it by `@inject(name=MyDependency())` or as a class attribute of a class
    target; it works beside `Depends` and in every executor. The hooks may be sync or async.

    One object serves all calls, also at the same time: keep what belongs to a call in what `get_dependency` returns.
    """

    def setup_dependency(self, worker: Worker) -> Any:
        """Runs before each call.

        Args:
            worker: the call, its target, its application.
        """

    def get_dependency(self, worker: Worker) -> Any:
        """What the target gets."""
        return self

    def after_call(self, worker: Worker, result: Any, exc: BaseException | None) -> Any:
        """Runs after the target, before the outcome is committed: what it raises makes the call fail.

        Args:
            result: what the target returned; None if it failed.
            exc: why it failed; None if it did not.
        """

    def __microkit_depends__(self) -> Depends:
        return Depends(self._provide)

    async def _provide(self, call: Call) -> AsyncGenerator[Any]:
        worker = Worker(call)
        await maybe(self.setup_dependency(worker))
        value = await maybe(self.get_dependency(worker))
        try:
            yield value
        except BaseException as exc:
            await maybe(self.after_call(worker, None, exc))
            raise
        await maybe(self.after_call(worker, call.__dict__.get("result"), None))


class Configuration(dict[str, Any]):
    """The configuration of a service by the seed's keys, and whatever else a `Runner` was given."""


def configuration_of(settings: WorkersSettings, service: str) -> Configuration:
    """The configuration that settings amount to."""
    return Configuration(
        AMQP_URI=settings.broker,
        SERVICE_NAME=service,
        MAX_WORKERS=settings.max_workers,
        WORKER_MODE=settings.worker_mode,
        MAX_TASKS_PER_CHILD=settings.max_tasks_per_child,
    )


class Config:
    """Injects the configuration: `@inject(config=Config())` gives a mapping."""

    def __microkit_depends__(self) -> Depends:
        return Depends(Configuration)
