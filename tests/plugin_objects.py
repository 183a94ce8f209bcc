"""Plugins made on the spot, and what a manager says of them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from microkit.hookspecs import hookimpl
from microkit.plugins import PluginInfo, PluginManager, PluginRecord


def states_of(manager: PluginManager) -> dict[str, str]:
    """The state of each plugin, by name."""
    return {record.name: record.state for record in manager.records}


def record_of(manager: PluginManager, name: str) -> PluginRecord:
    """What the manager knows of one plugin."""
    return next(record for record in manager.records if record.name == name)


def plugin_with(**attributes: Any) -> ModuleType:
    """A plugin object with these hooks."""
    module = ModuleType("made_here")
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def plugin_giving(*values: object, **info: Any) -> ModuleType:
    """A plugin that contributes these values as routers."""

    @hookimpl
    def microkit_routers() -> object:
        return list(values)

    return plugin_with(microkit_routers=microkit_routers, microkit_plugin_info=PluginInfo(**info))
