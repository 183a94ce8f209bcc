"""The hooks of microkit-workers."""

from __future__ import annotations

from microkit import PluginInfo, hookimpl
from microkit.transport import TransportSpec

from .brokers import transports

microkit_plugin_info = PluginInfo("workers", kernel=">=0.4,<0.5", hook_api=1)


@hookimpl
def microkit_transports() -> list[TransportSpec]:
    return transports()
