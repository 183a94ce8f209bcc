"""Contributions and calls: order, provenance, and what becomes of failures."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from microkit.errors import ConfigurationError, PluginError
from microkit.hooks import Contribution
from microkit.hookspecs import hookimpl
from microkit.plugins import PluginManager
from tests.plugin_objects import plugin_giving, plugin_with, record_of, states_of


def test_contributions_are_none_one_several_or_generated_and_the_kernel_comes_first() -> None:
    @hookimpl
    def none() -> None:
        return None

    @hookimpl
    def generated() -> Iterator[str]:
        yield "b"
        yield "c"

    @hookimpl
    def single() -> str:
        return "d"

    manager = PluginManager()
    for name, function in {"n": none, "g": generated, "s": single}.items():
        manager.register(plugin_with(microkit_routers=function), name)
    manager.register(plugin_giving("a"), "kernel", origin="kernel")
    assert manager.hooks.routers() == [
        Contribution("a", "kernel"),
        Contribution("b", "g"),
        Contribution("c", "g"),
        Contribution("d", "s"),
    ]


@pytest.mark.feature("FC-07")
@pytest.mark.parametrize("lazily", [False, True])
def test_a_failing_contribution_names_plugin_hook_and_place(lazily: bool) -> None:
    @hookimpl
    def broken() -> object:
        return (1 // zero for zero in [0]) if lazily else 1 // 0

    manager, tolerant = PluginManager(), PluginManager(tolerant=True)
    for each in (manager, tolerant):
        each.register(plugin_with(microkit_codecs=broken, microkit_routers=hookimpl(lambda: "never")), "sick")
        each.register(plugin_giving("fine"), "well")
    with pytest.raises(PluginError, match=r"'sick' .*microkit_codecs \(.*test_hooks\.py:\d+\): ZeroDivisionError") as e:
        manager.hooks.codecs()
    assert isinstance(e.value.__cause__, ZeroDivisionError)

    assert tolerant.hooks.codecs() == []
    record = record_of(tolerant, "sick")
    assert record.state == "failed"
    assert "ZeroDivisionError" in record.error
    assert tolerant.hooks.routers() == [Contribution("fine", "well")]


def test_a_failing_call_names_its_plugin_and_tooling_goes_on() -> None:
    calls: list[str] = []

    def recorder(name: str) -> ModuleType:
        def microkit_commands(cli: object) -> None:
            if name == "sick":
                raise LookupError("no")
            calls.append(name)

        return plugin_with(microkit_commands=hookimpl(microkit_commands))

    manager, tolerant = PluginManager(), PluginManager(tolerant=True)
    for each in (manager, tolerant):
        for name in ("first", "sick", "last"):
            each.register(recorder(name), name)
    with pytest.raises(PluginError, match=r"in its hook microkit_commands .*LookupError: no"):
        manager.hooks.commands(None)
    calls.clear()
    tolerant.hooks.commands(None)
    assert calls == ["first", "last"]
    assert states_of(tolerant)["sick"] == "failed"


def test_an_error_that_a_plugin_raises_on_purpose_passes_as_it_is() -> None:
    @hookimpl
    def microkit_collect(obj: object) -> None:
        raise ConfigurationError("Controller has no routes.")

    manager = PluginManager()
    manager.register(plugin_with(microkit_collect=microkit_collect), "auto")
    with pytest.raises(ConfigurationError, match=r"^Controller has no routes\.$"):
        manager.hooks.collect(object(), None)  # type: ignore[arg-type]


@pytest.mark.feature("FC-05")
def test_calls_run_in_load_order_and_first_results_ask_the_latest_plugin_first() -> None:
    order: list[str] = []

    def recorder(name: str) -> ModuleType:
        def microkit_configure() -> None:
            order.append(name)

        def microkit_collect() -> list[str]:
            return [name]

        return plugin_with(microkit_configure=hookimpl(microkit_configure), microkit_collect=hookimpl(microkit_collect))

    def wrapping() -> Iterator[None]:
        order.append("before")
        yield
        order.append("after")

    manager = PluginManager()
    for name in ("kernel", "one", "two"):
        manager.register(recorder(name), name, origin="kernel" if name == "kernel" else "explicit")
    manager.register(plugin_with(microkit_configure=hookimpl(wrapper=True)(wrapping)), "wrapper")
    manager.hooks.configure(None)  # type: ignore[arg-type]
    assert order == ["before", "kernel", "one", "two", "after"]
    assert manager.hooks.collect(object(), None) == ["two"]  # type: ignore[arg-type]


def test_sections_of_all_plugins_are_joined() -> None:
    manager = PluginManager()
    for name in ("a", "b"):
        manager.register(_inspecting(name), name)
    manager.register(plugin_with(microkit_inspect=hookimpl(lambda: None)), "silent")
    assert manager.hooks.inspect(None) == ["a1", "a2", "b1", "b2"]  # type: ignore[arg-type]


def _inspecting(name: str) -> ModuleType:
    @hookimpl
    def microkit_inspect() -> list[str]:
        return [f"{name}1", f"{name}2"]

    return plugin_with(microkit_inspect=microkit_inspect)


def test_records_are_handed_out_immutable() -> None:
    manager = PluginManager()
    manager.register(plugin_giving("x"), "x")
    manager.hooks.routers()
    record = manager.records[0]
    with pytest.raises(AttributeError):
        record.state = "failed"  # type: ignore[misc]
    with pytest.raises(TypeError):
        record.contributed["microkit_routers"] = ()  # type: ignore[index]
    assert isinstance(manager.records, tuple)


def test_a_name_given_at_registration_is_that_of_the_plugin_itself() -> None:
    with pytest.raises(PluginError, match="it calls itself 'x'; make both names the same"):
        PluginManager().register(plugin_giving(name="x"), "y")
