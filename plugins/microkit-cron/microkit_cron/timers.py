"""The ingress of all schedules, in place of the kernel's: with a store it fires each once for all processes."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

from microkit import StartupError
from microkit.schedule import Runs, Timers
from microkit_kv import Store

from .cluster import ClusterRuns
from .ledger import Ledger

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from microkit import App
    from microkit.plan import Plan
    from microkit.transport import Process

    from .settings import CronSettings

_logger = logging.getLogger("microkit.cron")


class ClusterTimers(Timers):
    """Fires schedules: with the setting `cluster` once for all processes of a store, else as the kernel does."""

    def __init__(self) -> None:
        super().__init__()
        self._store: Store | None = None
        self._process = ""

    async def start(self, app: App, process: Process) -> None:
        settings: CronSettings = app.all_settings["cron"]
        names = [name for name, plan in app.table.ticks.items() if not _each_process(plan)]
        if settings.cluster and names:
            self._store = await _shared_store(app)
            host = socket.gethostname()
            # Processes that were copied from one image may have one host name and one number.
            self._process = f"{host}:{os.getpid()}:{os.urandom(8).hex()}"
        elif names and process.index == 0:
            _logger.info(
                "every machine that serves this application fires %s by itself; the setting cluster of the plugin cron "
                "lets one do it for all",
                ", ".join(names),
            )
        await super().start(app, process)

    def fires(self, plan: Plan, process: Process) -> bool:
        return self._store is not None or super().fires(plan, process)

    def runs(self, app: App, name: str, plan: Plan, group: TaskGroup) -> Runs:
        if self._store is None or _each_process(plan):
            return super().runs(app, name, plan, group)
        settings: CronSettings = app.all_settings["cron"]
        text = str(plan.binding.trigger)
        ledger = Ledger(self._store, settings.namespace or app.name, name, text, settings.lease, self._process)
        return ClusterRuns(app, name, plan, group, ledger=ledger, settings=settings, owner=self._process)


def _each_process(plan: Plan) -> bool:
    return getattr(plan.binding.trigger, "each_process", False)


async def _shared_store(app: App) -> Store:
    if not app.container.has(Store):
        raise StartupError(
            "The setting cluster of the plugin cron needs a store that all processes share, and the application has "
            "none. Enable the plugin kv and set its url, such as MICROKIT_KV__URL=redis://host, or provide a Store."
        )
    store: Store = await app.container.get(Store)
    if not store.atomic:
        raise StartupError(
            f"The setting cluster of the plugin cron needs a store that compares and sets in one step, which "
            f"{type(store).__name__} does not. Use sqlite:// or redis://."
        )
    return store
