"""The hooks of microkit-kv: the store as a service, its kinds, and sessions in it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from microkit import ConfigurationError, PluginInfo, Provider, hookimpl
from microkit.hooks import values_of
from microkit.session import SessionBackendSpec
from microkit.settings import SettingsSpec

from . import hooks
from .schemes import SCHEMES, StoreSpec, spec_of, store_from_url
from .sessions import StoreSessions
from .settings import KvSettings
from .store import Store

if TYPE_CHECKING:
    from microkit import App
    from microkit.plugins import PluginManager

microkit_plugin_info = PluginInfo("kv", kernel=">=0.4,<0.5", hook_api=1)


@hookimpl
def microkit_addhooks(pluginmanager: PluginManager) -> None:
    pluginmanager.add_hookspecs(hooks)


@hookimpl
def microkit_settings() -> SettingsSpec:
    return SettingsSpec("kv", KvSettings)


@hookimpl
def microkit_kv_stores() -> Iterable[StoreSpec]:
    return SCHEMES.values()


@hookimpl
def microkit_providers(app: App) -> Provider:
    settings: KvSettings = app.all_settings["kv"]
    known = {spec.scheme: spec for spec in values_of(app.plugins.contributions("microkit_kv_stores"), StoreSpec)}
    spec = spec_of(settings.url, known)

    def make() -> Store:
        if spec.in_process and app.runtime.processes > 1:
            raise ConfigurationError(
                f"The store {spec.scheme}:// is in the memory of one process, so the {app.runtime.processes} workers "
                f"would not see each other's entries. Use a store that processes share, such as sqlite:// or redis://."
            )
        return spec.factory(settings.url, settings)

    return Provider(Store, make, scope="app")  # the container enters and leaves it


@hookimpl
def microkit_session_backends() -> list[SessionBackendSpec]:
    # Of the kernel's own: memory.
    return [SessionBackendSpec(scheme, _sessions) for scheme in SCHEMES if scheme != "memory"]


def _sessions(url: str) -> StoreSessions:
    return StoreSessions(store_from_url(url), owned=True)


@hookimpl
def microkit_lifespan(app: App) -> AbstractAsyncContextManager[object] | None:
    backend = app.session_backend
    return backend if isinstance(backend, StoreSessions) and backend.owned else None
