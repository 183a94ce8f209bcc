"""The hooks of microkit-trie: one router, named `trie`, which every app uses that selects no other."""

from __future__ import annotations

from collections.abc import Iterable

from microkit import PluginInfo, RouterSpec, hookimpl

from .router import TRIE

microkit_plugin_info = PluginInfo("trie", kernel=">=0.4,<0.5", hook_api=1, automatic=("trie",))


@hookimpl
def microkit_routers() -> Iterable[RouterSpec]:
    return [TRIE]
