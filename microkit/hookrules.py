"""The rules for implementations of hooks, checked when a plugin is registered.

pluggy accepts a coroutine that nobody awaits, an argument with a default that is never passed and a misspelt hook that
is never called. All of them are refused here, with the remedy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import pluggy

from microkit import hookspecs
from microkit.annotations import location
from microkit.errors import PluginError, nearest
from microkit.hookspecs import HOOKS, PROJECT, HookInfo, describe

_PREFIX = f"{PROJECT}_"


def slug(name: str) -> str:
    """The form of a plugin's name in identifiers: `my-plugin` is `my_plugin`."""
    return name.replace("-", "_").replace(".", "_").lower()


class HookRegistry(pluggy.PluginManager):
    """A pluggy manager that knows the hooks' descriptions and calls implementations in load order."""

    def __init__(self) -> None:
        super().__init__(PROJECT)
        self.known: dict[str, HookInfo] = dict(HOOKS)
        self.add_hookspecs(hookspecs)

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        """Options of an implementation; see pluggy."""
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None:
            return None
        hook = self.known.get(options.get("specname") or name)
        first = options.get("tryfirst") or options.get("wrapper") or options.get("hookwrapper")
        if hook is None or hook.firstresult or first:
            return options
        # pluggy calls the last registered first; among `trylast` implementations it is the other way round.
        return {**options, "trylast": True}

    def describe_specs(self, namespace: ModuleType | type, plugin: str) -> list[HookInfo]:
        """Describe the hooks that a plugin wants to add.

        Args:
            namespace: module or class with functions marked with `hookspec`.
            plugin: name of the plugin.

        Returns:
            One description per hook; nothing is added yet.

        Raises:
            PluginError: there is none, or one has a name outside of the plugin's own.
        """
        prefix = f"{_PREFIX}{slug(plugin)}_"
        found: list[HookInfo] = []
        for name in dir(namespace):
            options = self.parse_hookspec_opts(namespace, name)
            if options is None:
                continue
            function = getattr(namespace, name)
            if not name.startswith(prefix) or name in self.known:
                raise PluginError(
                    f"Plugin {plugin!r} adds the hook {name!r} ({location(function)}), but its own hooks are named "
                    f"{prefix}*, each once. Rename the hook."
                )
            found.append(describe(function, "call", bool(options.get("firstresult"))))
        if not found:
            raise PluginError(
                f"Plugin {plugin!r} adds hooks from {namespace!r}, in which no function is marked with "
                "`microkit.hookspecs.hookspec`."
            )
        return found

    def implementations(self, plugin: Any, name: str) -> Iterator[tuple[str, Callable[..., Any], Mapping[str, Any]]]:
        """The functions of a plugin that implement hooks, not checked yet.

        Args:
            plugin: the module or object.
            name: its name.

        Yields:
            Name of the hook, function, and the options given to `hookimpl`.

        Raises:
            PluginError: a function is named like a hook, but not marked as its implementation.
        """
        for attribute in dir(plugin):
            options = super().parse_hookimpl_opts(plugin, attribute)
            if options is not None:
                yield options.get("specname") or attribute, getattr(plugin, attribute), options
            elif attribute in HOOKS and self.parse_hookspec_opts(plugin, attribute) is None:
                raise PluginError(
                    f"Plugin {name!r} has a function {attribute} ({location(getattr(plugin, attribute))}) that is not "
                    "marked as an implementation, so it would never be called. Put `@hookimpl` above it."
                )

    def check(self, plugin: object, name: str, added: Sequence[HookInfo]) -> tuple[str, ...]:
        """Check all implementations of a plugin.

        Args:
            plugin: the module or object.
            name: its name.
            added: hooks that it adds itself.

        Returns:
            Names of the hooks that it implements, in alphabetical order.

        Raises:
            PluginError: an implementation breaks a rule; the message says which and what to do.
        """
        known = {**self.known, **{hook.name: hook for hook in added}}
        names: set[str] = set()
        for hook_name, function, options in self.implementations(plugin, name):
            if hook_name in known:
                check_implementation(name, known[hook_name], function, options)
            elif not options.get("optionalhook"):
                raise PluginError(
                    f"{_subject(name, hook_name, function)}, but there is no such hook.{nearest(hook_name, known)} A "
                    "hook of another plugin needs that plugin in `requires`, or in `after` together with "
                    "`@hookimpl(optionalhook=True)`."
                )
            names.add(hook_name)
        return tuple(sorted(names))


def check_implementation(plugin: str, hook: HookInfo, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check one implementation.

    Args:
        plugin: name of the plugin.
        hook: the hook.
        function: the implementation.
        options: what was given to `hookimpl`.

    Raises:
        PluginError: it breaks a rule.
    """
    subject = _subject(plugin, hook.name, function)
    _check_options(subject, hook, function, options)
    _check_signature(subject, hook, function)


def _subject(plugin: str, hook: str, function: Callable[..., Any]) -> str:
    return f"Plugin {plugin!r} implements {hook} ({location(function)})"


def _check_options(subject: str, hook: HookInfo, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(
            f"{subject} as a coroutine or asynchronous generator, but hooks are called synchronously. Make it a plain "
            "function that returns an object with asynchronous methods; for a lifespan, put `@hookimpl` above "
            "`@asynccontextmanager`."
        )
    wrapper = options.get("wrapper") or options.get("hookwrapper")
    if hook.kind == "contribution" and wrapper:
        raise PluginError(
            f"{subject} as a wrapper, but the kernel asks for contributions one by one and nothing can wrap them. Drop "
            "`wrapper=True` and return the plugin's own values."
        )
    if options.get("trylast") or (hook.kind == "contribution" and options.get("tryfirst")):
        raise PluginError(
            f"{subject} with `tryfirst` or `trylast`, which have no effect here: implementations are called in load "
            "order. Name the plugins that come before this one in `after` of its PluginInfo."
        )
    lazy = hook.kind == "call" and (hook.firstresult or hook.returns == "None")
    if lazy and not wrapper and inspect.isgeneratorfunction(function):
        raise PluginError(
            f"{subject} as a generator, whose body would never run. Return the result (a list) instead of yielding, or "
            "mark it `@hookimpl(wrapper=True)` if it is meant to wrap the other implementations."
        )


def _check_signature(subject: str, hook: HookInfo, function: Callable[..., Any]) -> None:
    expected = f"{hook.name}({', '.join(hook.arguments)})"
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in hook.arguments:
            if parameter.default is not parameter.empty:
                raise PluginError(
                    f"{subject} with a default for {parameter.name!r}; such an argument is never passed. Remove the "
                    f"default; the hook is {expected}, and arguments that are not needed may be left out."
                )
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                continue
        hint = nearest(parameter.name, hook.arguments)
        raise PluginError(
            f"{subject} with the argument {str(parameter)!r}, but the hook is {expected}: take any of these, by name "
            f"and without defaults.{hint}"
        )
