"""The plugin loader: imports, orders, checks and registers plugins, and keeps a record of each.

pluggy's own loader has neither isolation nor order: one plugin that cannot be imported stops the process, and the order
is that of the file system. Here blocked plugins are never imported, the order is declared, and a plugin that fails is
reported by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from types import MappingProxyType, ModuleType
from typing import Any, TypeAlias

from microkit.annotations import location
from microkit.errors import MicrokitError, PluginError, nearest
from microkit.hookrules import HookRegistry, check_implementation, slug
from microkit.hooks import Contribution, Hooks
from microkit.hookspecs import PROJECT, HookInfo
from microkit.plugininfo import PluginInfo, PluginRecord, incompatibility
from microkit.selection import Selection

__all__ = ["PluginInfo", "PluginManager", "PluginRecord", "Selection", "import_object"]


_AddedSpecs: TypeAlias = tuple[ModuleType | type, list[HookInfo]]


@dataclass(slots=True)
class _Candidate:
    """A plugin on its way to registration.

    `plugin` is unset until `reference` was imported; `named` says that an entry point or the caller settled the name.
    """

    record: PluginRecord
    plugin: Any = None
    reference: str = ""
    named: bool = False


class PluginManager:
    """The plugins of one application.

    Args:
        tolerant: for tooling. A failing plugin is recorded and left out; otherwise it raises `PluginError`.

    Attributes:
        hooks: typed calls of the hooks of the kernel.
    """

    def __init__(self, *, tolerant: bool = False) -> None:
        self.tolerant = tolerant
        self.hooks = Hooks(self)
        self._registry = HookRegistry()
        self._records: list[PluginRecord] = []
        # While a plugin is registered: its name and the hooks that it adds.
        self._registering: tuple[str, list[_AddedSpecs]] | None = None

    @property
    def records(self) -> tuple[PluginRecord, ...]:
        """All plugins that were given or found, active ones in load order."""
        return tuple(self._records)

    @property
    def hook(self) -> Any:
        """The hooks as pluggy callers, for those that a plugin added: `manager.hook.microkit_events_x(...)`."""
        return self._registry.hook

    def register(self, plugin: object, name: str, *, origin: str = "explicit") -> None:
        """Register one plugin after those that are there.

        Args:
            plugin: module or object with hook implementations.
            name: name of the plugin.
            origin: where it comes from; "kernel" for the kernel's own.

        Raises:
            PluginError: the plugin breaks a rule of hooks, misses one that it requires, or its name is taken. A
                tolerant manager records this instead.
        """
        candidate = _Candidate(PluginRecord(name, "active", origin), plugin, named=True)
        self._prepare(candidate)
        self._admit(candidate)
        record = self._records[-1]
        if record.state != "active" and not self.tolerant:
            raise PluginError(record.error) from record.cause

    def load(self, selection: Selection, path: Sequence[str] | None = None) -> None:
        """Import, order and register the selected plugins.

        The order is topological by `requires` and `after`, then by name.

        Args:
            selection: what to load.
            path: where to search for entry points, `sys.path` if None.

        Raises:
            PluginError: one or more plugins cannot be used; the message lists all of them, with causes and remedies. A
                tolerant manager only records them.
        """
        blocked = {slug(name) for name in selection.blocked}

        def is_blocked(candidate: _Candidate) -> bool:
            return slug(candidate.record.name) in blocked or candidate.reference in selection.blocked

        ready: dict[str, _Candidate] = {}
        for candidate in self._candidates(selection, path):
            if not is_blocked(candidate):
                self._prepare(candidate)
            record = candidate.record
            twin = ready.get(slug(record.name))
            # Asked again, because an explicit plugin may give itself another name.
            if is_blocked(candidate):
                self._records.append(replace(record, state="blocked", error="a switch blocks it"))
            elif record.state != "active":
                self._records.append(record)
            elif twin is None:
                ready[slug(record.name)] = candidate
            elif twin.plugin is candidate.plugin:
                # Given by the application and installed as well: one plugin, of which more is known now.
                twin.record = replace(twin.record, distribution=record.distribution, version=record.version)
            else:
                self._fail(record, f"its name is already taken by the plugin from {twin.record.origin}")
        for candidate in self._ordered(ready):
            self._admit(candidate)
        self._check_required(selection)
        if not self.tolerant:
            self._raise_problems(selection.required)

    def contributions(self, hook: str, /, **arguments: Any) -> list[Contribution[Any]]:
        """Ask every plugin for its contribution, in load order, the kernel first.

        Args:
            hook: full name of a contribution hook, of the kernel or of a plugin.
            arguments: its arguments, all of them.

        Returns:
            All values, each with the name of its plugin.

        Raises:
            PluginError: an implementation failed; a tolerant manager records this and leaves the plugin out.
        """
        found: list[Contribution[Any]] = []
        for record, results in self._walk(hook, arguments, _flatten):
            labels = tuple(map(_label, results))
            self._update(replace(record, contributed=MappingProxyType({**record.contributed, hook: labels})))
            found.extend(Contribution(value, record.name) for value in results)
        return found

    def call(self, hook: str, /, **arguments: Any) -> Any:
        """Call a hook through pluggy.

        Args:
            hook: full name of the hook.
            arguments: its arguments, all of them.

        Returns:
            The first result that is not None for a first-result hook, else the list of them.

        Raises:
            PluginError: an implementation failed. A tolerant manager asks plugin by plugin, without wrappers, and
                records and leaves out the one that fails.
            MicrokitError: raised by an implementation on purpose; passed on as it is.
        """
        if self.tolerant and not self._registry.known[hook].firstresult:
            return [result for _, results in self._walk(hook, arguments, _single) for result in results]
        try:
            return getattr(self._registry.hook, hook)(**arguments)
        except MicrokitError:
            raise
        except Exception as exc:
            raise PluginError(self._blame(hook, exc)) from exc

    def add_hookspecs(self, namespace: ModuleType | type) -> None:
        """Add hooks of a plugin's own; only inside of its `microkit_addhooks`.

        Args:
            namespace: module or class with functions marked with `hookspec`, named `microkit_<plugin>_*`.

        Raises:
            PluginError: a name is not the plugin's own, or this is not the time.
        """
        if self._registering is None:
            raise PluginError("add_hookspecs was called outside of `microkit_addhooks`. Call it in that hook.")
        name, added = self._registering
        added.append((namespace, self._registry.describe_specs(namespace, name)))

    # -- loading -------------------------------------------------------------------------------------------------------

    def _candidates(self, selection: Selection, path: Sequence[str] | None) -> Iterator[_Candidate]:
        for plugin in selection.explicit:
            if isinstance(plugin, str):
                yield _Candidate(PluginRecord(_short(plugin), "active", "explicit"), reference=plugin)
            else:
                yield _Candidate(PluginRecord(_name_of(plugin), "active", "explicit"), plugin)
        if not selection.discover or selection.only == frozenset():
            return
        from microkit.discovery import find_plugins

        only = None if selection.only is None else {slug(name) for name in selection.only}
        found = find_plugins(PROJECT, path)
        for entry in found:
            if only is None or slug(entry.name) in only:
                record = PluginRecord(entry.name, "active", entry.value, entry.distribution, entry.version)
                yield _Candidate(record, reference=entry.value, named=True)
        names = {slug(entry.name): entry.name for entry in found}
        for name in sorted(selection.only or ()):
            if slug(name) not in names:
                error = f"it is selected, but no installed distribution offers it.{nearest(name, names.values())}"
                yield _Candidate(PluginRecord(name, "failed", "selection", error=error))

    def _prepare(self, candidate: _Candidate) -> None:
        """Import the plugin and read what it says about itself; a failure becomes its state."""
        record = candidate.record
        if record.state != "active":
            return
        try:
            if candidate.plugin is None:
                candidate.plugin = import_object(candidate.reference)
            info = getattr(candidate.plugin, "microkit_plugin_info", None) or PluginInfo()
            if not isinstance(info, PluginInfo):
                raise PluginError("its attribute microkit_plugin_info is not a microkit.plugins.PluginInfo")
            if isinstance(candidate.plugin, type):
                raise PluginError("it is a class; give an instance of it, so that its hooks can be called")
            if info.name and info.name != record.name:
                if candidate.named:
                    raise PluginError(f"it calls itself {info.name!r}; make both names the same")
                record = replace(record, name=info.name)
            version = record.version or str(getattr(candidate.plugin, "__version__", ""))
            candidate.record = record = replace(record, info=info, version=version)
            problem = incompatibility(info)
        # SystemExit of an import is that plugin's failure; KeyboardInterrupt is the user's wish.
        except (Exception, SystemExit) as exc:
            error = str(exc) if isinstance(exc, PluginError) else f"{type(exc).__name__}: {exc}"
            candidate.record = replace(record, state="failed", error=error, cause=exc)
            return
        if problem:
            candidate.record = replace(record, state="incompatible", error=problem)

    def _ordered(self, ready: Mapping[str, _Candidate]) -> list[_Candidate]:
        from graphlib import CycleError, TopologicalSorter

        graph: dict[str, set[str]] = {}
        for key, candidate in ready.items():
            info = candidate.record.info
            graph[key] = {slug(name) for name in (*info.requires, *info.after)} & ready.keys()
        while True:
            sorter = TopologicalSorter(graph)
            try:
                sorter.prepare()
                break
            except CycleError as exc:
                cycle: list[str] = exc.args[1][::-1]
                text = " -> ".join(ready[key].record.name for key in cycle)
                for key in dict.fromkeys(cycle):
                    self._fail(ready[key].record, f"`requires` and `after` form a cycle: {text}")
                graph = {key: edges - set(cycle) for key, edges in graph.items() if key not in cycle}
        ordered: list[_Candidate] = []
        available: list[str] = []
        while sorter.is_active():
            available = sorted([*available, *sorter.get_ready()])
            key = available.pop(0)
            ordered.append(ready[key])
            sorter.done(key)
        return ordered

    def _admit(self, candidate: _Candidate) -> None:
        """Check and register a prepared plugin; a failure is recorded."""
        record, plugin = candidate.record, candidate.plugin
        if record.state != "active":
            self._records.append(record)
            return
        states = {slug(other.name): other for other in self._records}
        twin = states.get(slug(record.name))
        if twin is not None and twin.state == "active":
            self._fail(record, f"its name is already taken by the plugin from {twin.origin}")
            return
        for name in record.info.requires:
            other = states.get(slug(name))
            if other is None or other.state != "active":
                state = "not installed or not selected" if other is None else other.state
                self._fail(record, f"it requires the plugin {name!r}, which is {state}")
                return
        added: list[_AddedSpecs] = []
        self._registering = (record.name, added)
        try:
            for hook, function, options in self._registry.implementations(plugin, record.name):
                if hook == "microkit_addhooks":
                    check_implementation(record.name, self._registry.known[hook], function, options)
                    function(*(self for _ in signature(function).parameters))
            hooks = self._registry.check(plugin, record.name, [info for _, infos in added for info in infos])
            for namespace, infos in added:
                self._registry.add_hookspecs(namespace)
                self._registry.known.update((info.name, info) for info in infos)
            self._registry.register(plugin, name=record.name)
        except Exception as exc:
            error = str(exc) if isinstance(exc, PluginError) else f"{type(exc).__name__}: {exc}"
            self._fail(record, error, exc)
        else:
            self._records.append(replace(record, hooks=hooks))
        finally:
            self._registering = None

    def _check_required(self, selection: Selection) -> None:
        known = {slug(record.name): record for record in self._records}
        for name in sorted(selection.required):
            record = known.get(slug(name))
            if record is None:
                hint = nearest(name, known) or " Install it, or correct the name."
                error = f"it is required, but neither installed nor given.{hint}"
                self._records.append(PluginRecord(name, "failed", "required", error=error))
            elif record.state == "blocked":
                self._update(replace(record, error="it is required, but blocked"))

    def _raise_problems(self, required: Iterable[str]) -> None:
        needed = {slug(name) for name in required}
        problems = [
            record
            for record in self._records
            if record.state in ("failed", "incompatible") or (record.state == "blocked" and slug(record.name) in needed)
        ]
        if not problems:
            return
        listed = " ".join(_sentence(f"{_title(record)} is {record.state}: {record.error}") for record in problems)
        names = " ".join(f"-p no:{record.name}" for record in problems if record.state != "blocked")
        raise PluginError(
            f"{len(problems)} plugin{'s' if len(problems) > 1 else ''} cannot be used. {listed} Repair or uninstall "
            f"what is broken, block it (`{names or '-p no:NAME'}`, or `disable` in [tool.microkit]), or name the "
            "plugins to load in MICROKIT_PLUGINS."
        ) from next((record.cause for record in problems if record.cause), None)

    # -- calling -------------------------------------------------------------------------------------------------------

    def _walk(
        self, hook: str, arguments: dict[str, Any], read: Callable[[Any], list[Any]]
    ) -> Iterator[tuple[PluginRecord, list[Any]]]:
        """Ask the plugins one by one: what each gave, as `read` takes it from the result; empty ones are left out."""
        implementations = getattr(self._registry.hook, hook).get_hookimpls()
        for record in sorted(self._records, key=lambda record: record.origin != "kernel"):
            if record.state != "active" or hook not in record.hooks:
                continue
            results: list[Any] = []
            for implementation in implementations:
                if implementation.plugin_name != record.name or implementation.wrapper or implementation.hookwrapper:
                    continue
                try:
                    # `read` runs a generator here, so that its failure belongs to this plugin too.
                    results += read(implementation.function(*(arguments[name] for name in implementation.argnames)))
                except Exception as exc:
                    error = _failure(record.name, hook, implementation.function, exc)
                    if not self.tolerant:
                        raise PluginError(error) from exc
                    self._update(replace(record, state="failed", error=error, cause=exc))
                    self._registry.unregister(name=record.name)
                    results.clear()
                    break
            if results:
                yield record, results

    def _blame(self, hook: str, exc: BaseException) -> str:
        """Whose implementation an exception came out of, by the functions in its traceback."""
        codes: set[object] = set()
        traceback = exc.__traceback__
        while traceback is not None:
            codes.add(traceback.tb_frame.f_code)
            traceback = traceback.tb_next
        for implementation in getattr(self._registry.hook, hook).get_hookimpls():
            if getattr(implementation.function, "__code__", None) in codes:
                return _failure(implementation.plugin_name, hook, implementation.function, exc)
        return f"The hook {hook} failed: {type(exc).__name__}: {exc}."

    def _fail(self, record: PluginRecord, error: str, cause: BaseException | None = None) -> None:
        self._records.append(replace(record, state="failed", error=error, cause=cause))

    def _update(self, record: PluginRecord) -> None:
        self._records = [record if old.name == record.name and old.state != "failed" else old for old in self._records]


def import_object(reference: str) -> Any:
    """Import what an object reference names.

    Args:
        reference: `package.module` or `package.module:attribute.attribute`.

    Returns:
        The module or attribute.

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no such attribute.
    """
    import importlib

    # The value of an entry point may end with extras, which have no meaning any more.
    module, _, attributes = reference.partition("[")[0].replace(" ", "").partition(":")
    target: Any = importlib.import_module(module)
    for attribute in filter(None, attributes.split(".")):
        target = getattr(target, attribute)
    return target


def _short(reference: str) -> str:
    """The name of an explicit plugin: that of the attribute or module, without the project's prefix."""
    module, _, attribute = reference.partition(":")
    return attribute or module.removeprefix(f"{PROJECT}_")


def _name_of(plugin: object) -> str:
    return _short(plugin.__name__) if isinstance(plugin, ModuleType) else type(plugin).__name__


def _title(record: PluginRecord) -> str:
    source = f"{record.distribution} {record.version}".strip() or record.origin
    return f"{record.name!r} ({source})"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _failure(plugin: str, hook: str, function: Any, exc: BaseException) -> str:
    return (
        f"Plugin {plugin!r} failed in its hook {hook} ({location(function)}): {type(exc).__name__}: {exc}. Repair or "
        f"uninstall the plugin, or block it with `-p no:{plugin}`."
    )


def _single(result: Any) -> list[Any]:
    return [] if result is None else [result]


def _label(value: Any) -> str:
    """A name for a contributed value: its own, or what it is about."""
    found = next(filter(None, (getattr(value, each, None) for each in ("name", "media_type", "type"))), type(value))
    return found if isinstance(found, str) else getattr(found, "__name__", str(found))


def _flatten(result: Any) -> list[Any]:
    several = isinstance(result, Iterable) and not isinstance(result, (str, bytes, Mapping, type))
    return list(result) if several else _single(result)
