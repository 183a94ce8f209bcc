"""What microkit knows of the testkit: its name. The reference implementations of all hooks are in `reference`."""

from __future__ import annotations

from microkit import PluginInfo

microkit_plugin_info = PluginInfo("testkit", kernel=">=0.4,<0.5", hook_api=1)
