"""The hooks of microkit-serve: HTTP servers as transports."""

from __future__ import annotations

from microkit import Kind, PluginInfo, hookimpl
from microkit.settings import SettingsSpec
from microkit.transport import TransportSpec

from .hypercorn import HypercornServer
from .settings import ServeSettings
from .uvicorn import UvicornServer

microkit_plugin_info = PluginInfo("serve", kernel=">=0.4,<0.5", hook_api=1, automatic=("uvicorn", "hypercorn"))

_HTTP = Kind.HTTP | Kind.SOCKET


@hookimpl
def microkit_settings() -> SettingsSpec:
    return SettingsSpec("serve", ServeSettings)


@hookimpl
def microkit_transports() -> list[TransportSpec]:
    return [
        TransportSpec("uvicorn", _HTTP, "http", server=UvicornServer, backends=("asyncio",), automatic=True),
        TransportSpec("hypercorn", _HTTP, "http", server=HypercornServer, automatic=True),
    ]
