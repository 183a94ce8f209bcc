"""Which plugins are wanted: the switches of command line, environment and configuration file, merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microkit.errors import SettingsError

VARIABLE = "MICROKIT_PLUGINS"
"""Environment variable with the names of the plugins to load, comma separated; empty for none."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What the plugin loader is asked to load.

    Attributes:
        explicit: plugins given by the application: modules, objects, or object references such as `package.module` or
            `package.module:attribute`.
        discover: search installed distributions for entry points.
        only: names of the entry points to load; None for all that are installed.
        blocked: names of plugins that are not imported, explicit ones included.
        required: names of plugins that must be active.
    """

    explicit: tuple[object, ...] = ()
    discover: bool = True
    only: frozenset[str] | None = None
    blocked: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        table: Mapping[str, Any],
        flags: Sequence[str] = (),
        *,
        explicit: Iterable[object] = (),
        discover: bool = True,
    ) -> Selection:
        """Merge all switches; the command line beats the environment, which beats the configuration file.

        In `plugins`, `MICROKIT_PLUGINS` and `-p`, a name with a dot or colon is an object reference and is loaded as an
        explicit plugin, every other one is the name of an entry point.

        Args:
            environ: environment variables; `MICROKIT_PLUGINS` is used.
            table: the table `[tool.microkit]`; its `plugins`, `disable` and `required` are used.
            flags: values of `-p` in their order: `no:name` blocks a plugin; `name` unblocks and requires it.
            explicit: plugins given by the application.
            discover: whether the application wants discovery. Without it `plugins` and `MICROKIT_PLUGINS` have no
                effect: exactly the application's own plugins are loaded, less the blocked ones.

        Returns:
            The merged selection.

        Raises:
            SettingsError: a key of the table is not a list of names.
        """
        names = _names(table, "plugins") if "plugins" in table else None
        blocked = set(_names(table, "disable"))
        required = set(_names(table, "required"))
        if VARIABLE in environ:
            names = [name.strip() for name in environ[VARIABLE].split(",") if name.strip()]
            blocked.difference_update(names)
        wanted = list(names or ()) if discover else []
        # Of contradicting flags the last one counts.
        for name, flag in {flag.removeprefix("no:"): flag for flag in flags}.items():
            if flag.startswith("no:"):
                blocked.add(name)
            else:
                blocked.discard(name)
                wanted.append(name)
                if not _is_reference(name):
                    required.add(name)
        return cls(
            explicit=(*explicit, *dict.fromkeys(name for name in wanted if _is_reference(name))),
            discover=discover,
            only=None if names is None else frozenset(name for name in wanted if not _is_reference(name)),
            blocked=frozenset(blocked),
            required=frozenset(required),
        )


def _is_reference(name: str) -> bool:
    return "." in name or ":" in name


def _names(table: Mapping[str, Any], key: str) -> list[str]:
    value = table.get(key, [])
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    raise SettingsError(f'`{key}` in [tool.microkit] is not a list of plugin names. Write it as {key} = ["name", ...].')
