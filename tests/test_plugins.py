"""The plugin loader: discovery of distributions on disk, order, switches, failures, and the rules for hooks."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microkit.errors import PluginError
from microkit.hooks import Contribution
from microkit.hookspecs import HOOK_API, hookimpl
from microkit.plugins import PluginManager, Selection
from tests.plugin_objects import plugin_giving, record_of, states_of

_ROUTERS = """
from microkit.hookspecs import hookimpl
from microkit.plugins import PluginInfo

@hookimpl
def microkit_routers():
    return "{0}"
"""


class Site:
    """A directory of fake distributions, importable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, source: str = _ROUTERS, *, version: str = "1.0", distribution: str = "") -> None:
        """Install a distribution with one plugin, module `thing_<name>`."""
        module = f"thing_{name.replace('-', '_')}"
        info = self.folder / f"{distribution or module}-{version}.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[microkit]\n{name} = {module}\n")
        (self.folder / f"{module}.py").write_text(textwrap.dedent(source).replace("{0}", name))
        importlib.invalidate_caches()  # the clock of the file system is coarse: its folder may look unchanged

    def load(self, *, tolerant: bool = False, **selection: Any) -> PluginManager:
        manager = PluginManager(tolerant=tolerant)
        manager.load(Selection(**selection), path=[str(self.folder)])
        return manager


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Site(tmp_path)
    for name in [name for name in sys.modules if name.startswith("thing_")]:
        del sys.modules[name]


# -- discovery ---------------------------------------------------------------------------------------------------------


@pytest.mark.feature("FC-04")
def test_a_third_party_distribution_takes_part_by_its_entry_point_alone(site: Site) -> None:
    site.add("acme", version="2.3", distribution="acme_microkit_things")
    manager = site.load()
    assert manager.hooks.routers() == [Contribution("acme", "acme")]
    record = record_of(manager, "acme")
    assert (record.state, record.distribution, record.version) == ("active", "acme-microkit-things", "2.3")
    assert record.origin == "thing_acme"
    assert record.hooks == ("microkit_routers",)
    assert record.contributed == {"microkit_routers": ("str",)}


@pytest.mark.feature("FC-05")
def test_plugins_are_loaded_by_name_and_declared_order(site: Site) -> None:
    site.add("zeta")
    site.add("alpha", _ROUTERS + "microkit_plugin_info = PluginInfo(after=('zeta', 'not-there'))")
    site.add("beta")
    site.add("mid", _ROUTERS + "microkit_plugin_info = PluginInfo(requires=('alpha',))")
    manager = site.load()
    assert list(states_of(manager)) == ["beta", "zeta", "alpha", "mid"]
    assert [given.plugin for given in manager.hooks.routers()] == ["beta", "zeta", "alpha", "mid"]


@pytest.mark.feature("FC-05")
def test_a_cycle_is_printed(site: Site) -> None:
    site.add("a", _ROUTERS + "microkit_plugin_info = PluginInfo(requires=('b',))")
    site.add("b", _ROUTERS + "microkit_plugin_info = PluginInfo(after=('c',))")
    site.add("c", _ROUTERS + "microkit_plugin_info = PluginInfo(after=('a',))")
    site.add("free")
    with pytest.raises(PluginError, match=r"cycle: (a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)"):
        site.load()
    assert states_of(site.load(tolerant=True)) == {"a": "failed", "b": "failed", "c": "failed", "free": "active"}


@pytest.mark.feature("F000-48")
@pytest.mark.feature("FC-06")
def test_without_discovery_exactly_the_given_plugins_are_loaded_and_nothing_is_scanned(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("installed")
    monkeypatch.setitem(sys.modules, "microkit.discovery", None)  # an import of it would fail
    manager = site.load(explicit=(plugin_giving("x", name="given"),), discover=False)
    assert states_of(manager) == {"given": "active"}


def test_explicit_plugins_are_modules_objects_or_references(site: Site) -> None:
    site.add("module")
    site.add("reference")
    import thing_module  # type: ignore[import-not-found]

    class Tracing:
        @hookimpl
        def microkit_routers(self) -> str:
            return "tracing"

    site.add("attribute", _ROUTERS.replace("def ", "def inner(): pass\n\nclass P:\n  pass\n\nplugin = P()\n\ndef "))
    manager = site.load(explicit=(thing_module, Tracing(), "thing_reference", "thing_attribute:plugin"), discover=False)
    assert states_of(manager) == dict.fromkeys(["Tracing", "plugin", "thing_module", "thing_reference"], "active")
    assert {record.origin for record in manager.records} == {"explicit"}


def test_an_installed_plugin_that_is_also_given_is_one_plugin(site: Site) -> None:
    site.add("trie", _ROUTERS + "microkit_plugin_info = PluginInfo(name='trie')")
    import thing_trie  # type: ignore[import-not-found]

    manager = site.load(explicit=(thing_trie,))
    assert states_of(manager) == {"trie": "active"}
    assert len(manager.records) == 1
    assert manager.records[0].distribution == "thing-trie"


def test_a_name_is_taken_once(site: Site) -> None:
    site.add("trie")
    with pytest.raises(PluginError, match=r"'trie' .*already taken by the plugin from explicit"):
        site.load(explicit=(plugin_giving("mine", name="trie"),))
    manager = site.load(tolerant=True, explicit=(plugin_giving("mine", name="trie"),))
    assert manager.hooks.routers() == [Contribution("mine", "trie")]
    assert [record.state for record in manager.records] == ["failed", "active"]


def test_names_that_differ_in_dashes_only_are_one_name() -> None:
    manager = PluginManager()
    manager.register(plugin_giving(), "my-plugin")
    with pytest.raises(PluginError, match="already taken"):
        manager.register(plugin_giving(), "my_plugin")


# -- switches ----------------------------------------------------------------------------------------------------------


@pytest.mark.feature("FC-06")
def test_a_blocked_plugin_is_not_imported(site: Site) -> None:
    site.add("bad", "raise RuntimeError('imported')")
    site.add("good")
    manager = site.load(blocked=frozenset({"bad"}))
    assert states_of(manager) == {"bad": "blocked", "good": "active"}
    assert "thing_bad" not in sys.modules
    assert [given.plugin for given in manager.hooks.routers()] == ["good"]


@pytest.mark.feature("FC-06")
def test_explicit_plugins_can_be_blocked_by_name_and_by_reference(site: Site) -> None:
    site.add("bad", "raise RuntimeError('imported')")
    for name in ("thing_bad", "made_here"):
        manager = site.load(
            explicit=("thing_bad", plugin_giving()), discover=False, blocked=frozenset({name, "thing_bad"})
        )
        assert states_of(manager)[name] == "blocked"
    assert "thing_bad" not in sys.modules


@pytest.mark.feature("FC-06")
def test_only_the_named_plugins_are_imported(site: Site) -> None:
    site.add("bad", "raise RuntimeError('imported')")
    site.add("good")
    assert states_of(site.load(only=frozenset({"good"}))) == {"good": "active"}
    assert states_of(site.load(only=frozenset())) == {}
    with pytest.raises(PluginError, match=r"'goood' .*no installed distribution offers it\. Did you mean 'good'\?"):
        site.load(only=frozenset({"goood"}))


def test_a_required_plugin_must_be_active(site: Site) -> None:
    site.add("auth")
    assert states_of(site.load(required=frozenset({"auth"}))) == {"auth": "active"}
    with pytest.raises(PluginError, match=r"'auth' .*required, but blocked"):
        site.load(required=frozenset({"auth"}), blocked=frozenset({"auth"}))
    with pytest.raises(PluginError, match=r"'outh' .*required, but neither installed nor given\. Did you mean 'auth'"):
        site.load(required=frozenset({"outh"}))


# -- failures ----------------------------------------------------------------------------------------------------------

_BROKEN = {
    "raises": ("raise RuntimeError('broken at import')", "RuntimeError: broken at import"),
    "exits": ("import sys; sys.exit('gone')", "SystemExit: gone"),
    "lacks": ("import not_installed_anywhere", "ModuleNotFoundError: No module named 'not_installed_anywhere'"),
    "syntax": ("def (", "SyntaxError"),
    "tuple": ("from microkit.plugins import PluginInfo\nPluginInfo(requires='kv')", r"Write requires=\('name',\)"),
    "info": ("microkit_plugin_info = {'name': 'x'}", "is not a microkit.plugins.PluginInfo"),
    "named": (
        "from microkit.plugins import PluginInfo\nmicrokit_plugin_info = PluginInfo(name='other')",
        "calls itself 'other'",
    ),
    "range": (
        "from microkit.plugins import PluginInfo\nmicrokit_plugin_info = PluginInfo(kernel='~0.4')",
        "clauses such as",
    ),
    "needs": (
        "from microkit.plugins import PluginInfo\nmicrokit_plugin_info = PluginInfo(requires=('kv',))",
        "requires the plugin 'kv', which is not installed or not selected",
    ),
}


@pytest.mark.feature("FC-07")
@pytest.mark.parametrize("name", _BROKEN)
def test_a_broken_plugin_stops_serving_and_is_reported_by_tooling(site: Site, name: str) -> None:
    source, message = _BROKEN[name]
    site.add(name, source)
    site.add("good")
    with pytest.raises(PluginError, match=message) as caught:
        site.load()
    assert f"'{name}' (thing-{name} 1.0) is failed" in str(caught.value)
    assert f"-p no:{name}" in str(caught.value)
    assert "uninstall" in str(caught.value)

    manager = site.load(tolerant=True)
    assert states_of(manager) == {name: "failed", "good": "active"}
    assert manager.hooks.routers() == [Contribution("good", "good")]


@pytest.mark.feature("FC-07")
def test_one_error_lists_all_failed_plugins_and_has_the_cause(site: Site) -> None:
    site.add("one", "raise RuntimeError('first')")
    site.add("two", "1 / 0")
    with pytest.raises(PluginError) as caught:
        site.load()
    text = str(caught.value)
    assert text.startswith("2 plugins cannot be used.")
    assert "RuntimeError: first" in text
    assert "ZeroDivisionError" in text
    assert "-p no:one -p no:two" in text
    assert "\n" not in text
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_interrupt_during_an_import_is_not_a_failure_of_the_plugin(site: Site) -> None:
    site.add("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.load(tolerant=True)


def test_a_plugin_whose_requirement_fails_or_is_blocked_fails_too(site: Site) -> None:
    needy = _ROUTERS + "microkit_plugin_info = PluginInfo(requires=('base',))"
    site.add("base", "raise RuntimeError")
    site.add("needy", needy)
    manager = site.load(tolerant=True)
    assert "requires the plugin 'base', which is failed" in record_of(manager, "needy").error
    manager = site.load(tolerant=True, blocked=frozenset({"base"}))
    assert "requires the plugin 'base', which is blocked" in record_of(manager, "needy").error


@pytest.mark.feature("FC-07")
@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ("kernel='>=0.4,<0.5'", True),
        ("kernel='>=0.4.0, !=0.4.1, <=0.4'", True),
        ("kernel='==0.4'", True),
        (f"hook_api={HOOK_API}", True),
        ("kernel='>=0.5'", False),
        ("kernel='>0.4'", False),
        ("kernel='<0.4'", False),
        (f"hook_api={HOOK_API + 1}", False),
    ],
)
def test_a_plugin_for_another_kernel_is_incompatible(site: Site, arguments: str, fits: bool) -> None:
    site.add("ranged", _ROUTERS + f"microkit_plugin_info = PluginInfo({arguments})")
    manager = site.load(tolerant=True)
    assert states_of(manager) == {"ranged": "active" if fits else "incompatible"}
    assert bool(manager.hooks.routers()) == fits
    if not fits:
        with pytest.raises(PluginError, match=r"'ranged' .* is incompatible: it "):
            site.load()


@pytest.mark.feature("FC-09")
def test_automatic_components_are_listed(site: Site) -> None:
    site.add("loud", _ROUTERS + "microkit_plugin_info = PluginInfo(automatic=('access-log',))")
    site.add("quiet")
    manager = site.load()
    assert {record.name: record.info.automatic for record in manager.records} == {"loud": ("access-log",), "quiet": ()}


@pytest.mark.feature("FC-15")
def test_importing_the_loader_is_light() -> None:
    program = (
        "import sys, threading; import microkit.hooks, microkit.plugins, microkit.settings;"
        "heavy = {'argparse', 'importlib.metadata', 'tomllib', 'difflib', 'graphlib', 'asyncio', 'microkit.discovery'};"
        "print(sorted(heavy & sys.modules.keys()), threading.active_count())"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=root)
    assert done.stdout == "[] 1\n"
