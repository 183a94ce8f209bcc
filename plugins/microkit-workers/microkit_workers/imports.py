"""Targets by their import path, and the import path of a target."""

from __future__ import annotations

import importlib
from typing import Any

from microkit import ConfigurationError
from microkit.cli.loading import describe_failure
from microkit.errors import nearest


def target_of(target: Any) -> Any:
    """A target itself, or what an import path leads to: `package.module.name`, or `package.module:name`.

    Raises:
        ConfigurationError: it cannot be imported.
    """
    if not isinstance(target, str):
        return target
    module_name, colon, path = target.partition(":")
    if not colon:
        module_name, _, path = target.rpartition(".")
    if not module_name or not path:
        raise ConfigurationError(f"The target {target!r} is no import path. Write package.module.name.")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as exc:
        missing = exc.name if isinstance(exc, ModuleNotFoundError) and exc.name else ""
        if missing and f"{module_name}.".startswith(f"{missing}."):
            why = f"there is no module {missing!r} on sys.path. Correct the path, or start where the module is"
        else:
            why = f"{describe_failure(exc)}. Correct that module"
        raise ConfigurationError(f"The target {target!r} cannot be imported: {why}.") from exc
    for name in path.split("."):
        if not hasattr(found, name):
            raise ConfigurationError(
                f"The target {target!r} cannot be imported: {name!r} is not in {module_name!r}."
                f"{nearest(name, dir(found))}"
            )
        found = getattr(found, name)
    return found


def path_of(target: Any) -> str | None:
    """The import path of a function or class, as `module:qualname`; None if it cannot be imported by one."""
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", "")
    return f"{module}:{name}" if module and name and "<" not in name else None
