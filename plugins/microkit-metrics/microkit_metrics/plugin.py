"""The hooks of microkit-metrics. Nothing is counted, and prometheus-client is not imported, unless settings say so."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from microkit import App, Kind, PluginInfo, Provider, hookimpl
from microkit.observe import Observer
from microkit.settings import SettingsSpec
from microkit.transport import TransportSpec

from .loop import watched_loop
from .metrics import Metrics
from .page import page_binding
from .server import MetricsServer
from .settings import MetricsSettings

microkit_plugin_info = PluginInfo("metrics", kernel=">=0.4,<0.5", hook_api=1)

_logger = logging.getLogger("microkit.metrics")


def _settings(app: App) -> MetricsSettings:
    return app.all_settings["metrics"]


def _has_port(app: App) -> bool:
    return _settings(app).port is not None


@hookimpl
def microkit_settings() -> SettingsSpec:
    return SettingsSpec("metrics", MetricsSettings)


@hookimpl
def microkit_configure(app: App) -> None:
    path = _settings(app).path
    if path is not None:
        app.items.append(page_binding(path))


@hookimpl
def microkit_observers(app: App) -> Observer | None:
    return Metrics.of(app) if _settings(app).active else None


@hookimpl
def microkit_providers(app: App) -> Provider:
    return Provider(Metrics, value=Metrics.of(app))


@hookimpl
def microkit_transports() -> TransportSpec:
    return TransportSpec("metrics", Kind(0), server=MetricsServer, wanted=_has_port)


@hookimpl
def microkit_lifespan(app: App) -> AbstractAsyncContextManager[None] | None:
    return _running(app) if _settings(app).active else None


@asynccontextmanager
async def _running(app: App) -> AsyncGenerator[None]:
    metrics, settings, runtime = Metrics.of(app), _settings(app), app.runtime
    metrics.process = runtime.process if runtime.processes > 1 else None
    if settings.path is not None and metrics.process is not None:
        _logger.warning(
            "%s shows the figures of whichever of the %d processes answers; to see all of them, set a port, of which "
            "each process takes one of its own",
            settings.path,
            runtime.processes,
        )
    if not settings.loop_interval:
        yield
        return
    async with watched_loop(settings.loop_interval, metrics.loop_lag):
        yield
