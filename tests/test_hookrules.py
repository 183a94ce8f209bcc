"""The rules for implementations of hooks, and hooks that plugins add."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest

from microkit.errors import PluginError
from microkit.hookspecs import hookimpl, hookspec
from microkit.plugins import PluginManager
from tests.plugin_objects import plugin_with, states_of


async def _coroutine() -> None: ...


async def _stream() -> Any:
    yield


def _generator() -> Any:
    yield


_REFUSED: dict[str, tuple[str, Callable[..., Any], dict[str, Any], str]] = {
    "misspelt": ("microkit_router", lambda: None, {}, r"no such hook\. Did you mean 'microkit_routers'"),
    "coroutine": ("microkit_routers", _coroutine, {}, "returns an object with asynchronous methods"),
    "async generator": ("microkit_lifespan", _stream, {}, "put `@hookimpl` above `@asynccontextmanager`"),
    "argument": ("microkit_configure", lambda application: None, {}, r"hook is microkit_configure\(app\): take any"),
    "near argument": ("microkit_collect", lambda obje, app: None, {}, r"'obje'.*Did you mean 'obj'"),
    "default": ("microkit_configure", lambda app=None: None, {}, "default for 'app'; such an argument is never passed"),
    "keyword only": ("microkit_configure", lambda *, app: None, {}, "take any of these"),
    "kwargs": ("microkit_configure", lambda **kw: None, {}, r"'\*\*kw'"),
    "wrapper": ("microkit_routers", _generator, {"wrapper": True}, "nothing can wrap them"),
    "no generator": ("microkit_configure", lambda: None, {"wrapper": True}, "not a generator function"),
    "order": ("microkit_routers", lambda: None, {"tryfirst": True}, "in `after` of its PluginInfo"),
    "late": ("microkit_configure", lambda: None, {"trylast": True}, "in `after` of its PluginInfo"),
    "lazy": ("microkit_configure", _generator, {}, "body would never run"),
    "lazy claim": ("microkit_collect", _generator, {}, "body would never run"),
    "foreign": ("microkit_events_sent", lambda: None, {}, "needs that plugin in `requires`"),
}


@pytest.mark.feature("FC-08")
@pytest.mark.parametrize("case", _REFUSED)
def test_a_wrong_implementation_is_refused_with_the_remedy(case: str) -> None:
    hook, function, options, message = _REFUSED[case]

    def copy(function: Callable[..., Any]) -> Callable[..., Any]:
        # The marker is left on the function, and the cases share some.
        import types

        made = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
        made.__kwdefaults__ = function.__kwdefaults__
        return made

    manager, tolerant = PluginManager(), PluginManager(tolerant=True)
    plugin = plugin_with(**{hook: hookimpl(**options)(copy(function))})
    with pytest.raises(PluginError, match=message) as caught:
        manager.register(plugin, "wrong")
    assert "'wrong'" in str(caught.value)
    assert hook in str(caught.value)
    tolerant.register(plugin, "wrong")
    assert states_of(tolerant) == {"wrong": "failed"}


@pytest.mark.feature("FC-08")
def test_a_hook_without_its_marker_is_refused() -> None:
    with pytest.raises(PluginError, match="Put `@hookimpl` above it"):
        PluginManager().register(plugin_with(microkit_routers=lambda: None), "bare")


@pytest.mark.feature("FC-08")
def test_a_class_is_refused() -> None:
    class Plugin:
        @hookimpl
        def microkit_routers(self) -> None: ...

    with pytest.raises(PluginError, match="give an instance of it"):
        PluginManager().register(Plugin, "cls")


def test_arguments_may_be_left_out_and_helpers_are_no_hooks() -> None:
    @hookimpl
    @asynccontextmanager
    async def microkit_lifespan() -> Any:
        yield

    manager = PluginManager()
    manager.register(plugin_with(microkit_lifespan=microkit_lifespan, microkit_helper=lambda: None), "fine")
    assert len(manager.hooks.lifespan(None)) == 1  # type: ignore[arg-type]


# -- hooks of plugins --------------------------------------------------------------------------------------------------


class _EventSpecs:
    @staticmethod
    @hookspec
    def microkit_events_sent(name: str) -> None:
        """An event was sent."""


def _owner(specs: type = _EventSpecs) -> ModuleType:
    @hookimpl
    def microkit_addhooks(pluginmanager: PluginManager) -> None:
        pluginmanager.add_hookspecs(specs)

    return plugin_with(microkit_addhooks=microkit_addhooks)


def _listener(seen: list[str], label: str = "", **options: Any) -> ModuleType:
    def microkit_events_sent(name: str) -> None:
        seen.append(f"{label} {name}")

    return plugin_with(microkit_events_sent=hookimpl(**options)(microkit_events_sent))


def test_a_plugin_adds_hooks_that_others_implement() -> None:
    seen: list[str] = []
    manager = PluginManager()
    manager.register(_owner(), "events")
    manager.register(_listener(seen, "first"), "audit")
    manager.register(_listener(seen, "second"), "mail")
    manager.hook.microkit_events_sent(name="paid")
    assert seen == ["first paid", "second paid"]


@pytest.mark.feature("FC-08")
def test_implementations_of_added_hooks_are_checked_too() -> None:
    manager = PluginManager()
    manager.register(_owner(), "events")
    with pytest.raises(PluginError, match=r"microkit_events_sent\(name\)"):
        manager.register(plugin_with(microkit_events_sent=hookimpl(lambda nom: None)), "audit")


def test_an_optional_implementation_waits_for_nobody() -> None:
    manager = PluginManager()
    manager.register(_listener([], optionalhook=True), "audit")
    assert states_of(manager) == {"audit": "active"}


@pytest.mark.feature("FC-08")
def test_added_hooks_bear_the_name_of_their_plugin() -> None:
    manager = PluginManager()
    with pytest.raises(PluginError, match=r"own hooks are named microkit_mail_\*"):
        manager.register(_owner(), "mail")
    with pytest.raises(PluginError, match="no function is marked"):
        manager.register(_owner(type("Empty", (), {})), "mail")
    with pytest.raises(PluginError, match="Call it in that hook"):
        manager.add_hookspecs(_EventSpecs)
    # What was refused has left nothing behind.
    manager.register(_owner(), "events")


def test_a_failing_addhooks_is_a_failed_plugin() -> None:
    @hookimpl
    def microkit_addhooks() -> None:
        raise LookupError("no specs")

    with pytest.raises(PluginError, match="LookupError: no specs"):
        PluginManager().register(plugin_with(microkit_addhooks=microkit_addhooks), "sick")
