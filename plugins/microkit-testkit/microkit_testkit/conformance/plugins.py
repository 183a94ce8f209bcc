"""The rules that every plugin keeps as a whole; subclass `PluginSuite` to hold yours to them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from microkit import App
from microkit.hookspecs import HOOK_API, HOOKS

from .suite import ConformanceSuite

# Runs in an interpreter of its own. What a host may forbid while it takes a snapshot after import is counted from here:
# the kernel is imported before, so only what the plugin brings is seen.
_IMPORT = """
import importlib, os, random, sys, threading
import microkit, microkit.app
seen = []
def refuse(name):
    def call(*args, **kwargs):
        seen.append(name)
        return original[name](*args, **kwargs)
    return call
original = {"os.urandom": os.urandom, "random.random": random.random}
os.urandom = refuse("os.urandom")
random.random = refuse("random.random")
def audit(event, args):
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "sqlite3.connect")):
        seen.append(event)
    elif event == "open" and isinstance(args[1], str) and any(letter in args[1] for letter in "wax+"):
        if not str(args[0]).endswith((".pyc", "__pycache__")) and ".pyc." not in str(args[0]):
            seen.append(f"open {args[0]} for writing")
sys.addaudithook(audit)
importlib.import_module(sys.argv[1])
if threading.active_count() > 1:
    seen.append("a thread")
print("\\n".join(seen))
"""


class PluginSuite(ConformanceSuite):
    """What a plugin must be.

    Attributes:
        plugin: import path of the module with its hooks.
        name: name of the plugin, as of its entry point.
        requires: import paths of the plugins that it needs.
        settings: settings without which it cannot load.
    """

    plugin: ClassVar[str]
    name: ClassVar[str]
    requires: ClassVar[Sequence[str]] = ()
    settings: ClassVar[dict[str, Any]] = {}

    def app(self) -> App:
        """An application with this plugin, what it requires, and no other."""
        return App(plugins=[*self.requires, self.plugin], discover=False, settings=self.settings)

    def record(self) -> Any:
        """What the kernel knows of the plugin."""
        return next(each for each in self.app().plugins.records if each.name == self.name)

    def test_importing_it_does_no_io_starts_no_thread_and_takes_no_randomness(self) -> None:
        command = [sys.executable, "-B", "-c", _IMPORT, self.plugin]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == ""

    def test_it_loads_alone_and_its_application_builds(self) -> None:
        app = self.app()
        app.build()
        assert self.record().state == "active"

    @pytest.mark.anyio
    async def test_its_application_starts_and_stops_twice(self) -> None:
        app = self.app()
        for _ in range(2):
            async with app.started():
                assert app.runtime.running
            assert not app.runtime.running

    def test_it_implements_some_hook_and_only_valid_ones(self) -> None:
        own = [hook for hook in self.record().hooks if hook not in HOOKS]
        assert self.record().hooks
        assert all(hook.startswith("microkit_") for hook in own)

    def test_it_says_what_it_is_written_for(self) -> None:
        info = self.record().info
        assert info.name in ("", self.name)
        assert info.kernel, "PluginInfo(kernel=...) gives the range of kernel versions"
        assert info.hook_api in (None, HOOK_API)
        assert set(info.backends) <= {"asyncio", "trio"}

    def test_what_it_contributes_has_distinct_names(self) -> None:
        app = self.app()
        app.build()
        for hook, names in self.record().contributed.items():
            if hook in ("microkit_routers", "microkit_executors", "microkit_transports", "microkit_test_drivers"):
                assert len(set(names)) == len(names), (hook, names)

    def test_its_settings_have_defaults_and_are_documented(self) -> None:
        for contribution in self.app().hooks.settings():
            if contribution.plugin != self.name:
                continue
            text = contribution.value.type.__doc__ or ""
            for field in dataclasses.fields(contribution.value.type):
                given = field.name in self.settings.get(self.name, {})
                has_default = (
                    field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
                )
                assert given or has_default, f"{field.name} has no default"
                assert f"{field.name}:" in text, f"{field.name} is not described in the docstring of its dataclass"

    def test_it_wraps_nothing_unasked(self) -> None:
        """What changes an application merely by being installed is declared in `PluginInfo.automatic`."""
        app = self.app()
        app.build()
        mine = [spec for spec in app.contributed_middleware if spec.plugin == self.name]
        assert not mine or self.record().info.automatic
