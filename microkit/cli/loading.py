"""How commands find the application: `module:attribute`, and the configuration that goes with it."""

from __future__ import annotations

import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microkit.errors import MicrokitError, alone, nearest

if TYPE_CHECKING:
    from types import ModuleType

    from microkit.app import App

_KERNEL = Path(__file__).parent.parent


class CommandError(MicrokitError):
    """What a command reports as one paragraph before it ends with exit code 1."""


def load_app(spec: str, flags: Sequence[str] = (), tolerant: bool = False) -> App:
    """Import an application and give it the configuration of the project; no plugin is loaded yet.

    The working directory is put on `sys.path`. `[tool.microkit]` is looked for from there upwards, and set unless the
    code has set a configuration of its own.

    Args:
        spec: `module:attribute`; the attribute is an `App`, or a function without parameters that makes one.
        flags: values of `-p`: `name` or `no:name`.
        tolerant: report broken plugins instead of failing; for listing and diagnosis.

    Returns:
        The application, neither built nor started.

    Raises:
        MicrokitError: it cannot be loaded; one paragraph with the user's own lines.
    """
    from microkit.app import App
    from microkit.settings import find_project_table

    module_name, colon, attribute = spec.partition(":")
    if not colon or not module_name or not attribute:
        raise CommandError(
            f"{spec!r} names no application. Write module:attribute, such as app:app for `app = App()` in app.py."
        )
    if module_name.endswith(".py") or not all(part.isidentifier() for part in module_name.split(".")):
        dotted = ".".join(part for part in re.split(r"[/\\]", module_name.removesuffix(".py")) if part.strip("."))
        raise CommandError(
            f"{module_name!r} in {spec!r} is no name of a module. Write it with dots and without .py, such as "
            f"{dotted}:{attribute}, in the directory of the project."
        )
    module = _import_module(module_name, spec)
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise CommandError(_missing_attribute(module, name, found))
        found = getattr(found, name)
    if not isinstance(found, App):
        found = _from_factory(found, spec)
    found.origin = found.origin or spec
    table = find_project_table(Path.cwd())
    if found._manager is not None:
        if flags or (table and not found.configuration):
            raise CommandError(
                f"{spec} loaded its plugins while it was imported, so neither -p nor [tool.microkit] can reach them. "
                f"Leave what builds the application (build, plugins, table, url_for) to the time when it starts."
            )
        return found
    found.configuration = found.configuration or table
    found.plugin_flags = (*found.plugin_flags, *flags)
    found.tolerant = tolerant
    return found


def describe_failure(exc: BaseException) -> str:
    """An exception as part of a sentence: type, text, and the lines of the user's own code that it came through.

    Args:
        exc: an exception that was raised.

    Returns:
        Such as `NameError: name 'x' is not defined (app.py:3 in <module>)`. Frames of libraries are left out, unless
        there are no others; then the innermost one is shown.
    """
    exc = alone(exc)
    text = " ".join(f"{type(exc).__name__}: {exc}".split()).rstrip(": ")
    if isinstance(exc, SyntaxError) and exc.filename:
        return f"{type(exc).__name__}: {exc.msg} ({_shown(exc.filename)}:{exc.lineno})"
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if not frame.filename.startswith("<frozen")]
    mine = [frame for frame in frames if _is_users(frame.filename)] or frames[-1:]
    where = ", ".join(f"{_shown(frame.filename)}:{frame.lineno} in {frame.name}" for frame in mine)
    return f"{text} ({where})" if where else text


def _import_module(name: str, spec: str) -> ModuleType:
    import importlib

    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise CommandError(
                f"There is no module {exc.name!r} for {spec!r}. Modules are looked for in {os.getcwd()} and on "
                f"sys.path; change into the directory of the project, or correct the name."
            ) from exc
        raise CommandError(_import_failure(name, exc)) from exc
    except MicrokitError as exc:
        raise CommandError(f"Importing {name!r} failed. {describe_failure(exc)}") from exc
    # The exit of a module that calls main() at import would look like success.
    except (Exception, SystemExit) as exc:
        raise CommandError(_import_failure(name, exc)) from exc


def _import_failure(name: str, exc: BaseException) -> str:
    return f"Importing {name!r} failed: {describe_failure(exc)}. Correct that module; nothing was started."


def _missing_attribute(module: ModuleType, name: str, owner: Any) -> str:
    from microkit.app import App

    apps = [each for each, value in vars(module).items() if isinstance(value, App)]
    known = [each for each in dir(owner) if not each.startswith("_")]
    hint = f" It has the application {', '.join(apps)}." if apps else nearest(name, known)
    source = getattr(module, "__file__", None)
    where = f" ({_shown(source)})" if source else ""
    return f"The module {module.__name__!r}{where} has no attribute {name!r}.{hint}"


def _from_factory(factory: Any, spec: str) -> App:
    from microkit.annotations import location
    from microkit.app import App

    if not callable(factory) or inspect.isclass(factory):
        what = f"the class {factory.__name__}" if inspect.isclass(factory) else f"of type {type(factory).__name__}"
        raise CommandError(
            f"{spec} is {what}, not a microkit application. Name an App, or a function without parameters that makes "
            f"one."
        )
    try:
        inspect.signature(factory).bind()
    except (TypeError, ValueError) as exc:
        raise CommandError(
            f"{spec} ({location(factory)}) cannot be called without arguments ({exc}). A factory takes none and "
            f"returns an App."
        ) from exc
    try:
        app = factory()
    except (Exception, SystemExit) as exc:
        raise CommandError(f"The factory {spec} failed: {describe_failure(exc)}.") from exc
    if not isinstance(app, App):
        if inspect.iscoroutine(app):
            app.close()
        raise CommandError(
            f"The factory {spec} ({location(factory)}) returned {type(app).__name__}, not a microkit application."
        )
    return app


def _is_users(filename: str) -> bool:
    path = Path(filename)
    if not path.is_absolute() or path.is_relative_to(_KERNEL):
        return False
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not any(path.is_relative_to(each) for each in libraries if each)


def _shown(filename: str) -> str:
    """A path as short as it can be: relative to the working directory where it is below."""
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
