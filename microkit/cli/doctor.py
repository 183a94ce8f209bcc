"""`microkit doctor`: whether this installation, this project and this application are in order."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from microkit.app import App
    from microkit.plugins import PluginManager

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        ok: False if something is wrong.
        subject: what was looked at.
        text: what was found; if it is wrong, with the remedy.
    """

    ok: bool
    subject: str
    text: str


def add_parser(subparsers: Any) -> None:
    """Declare the arguments."""
    parser = subparsers.add_parser(
        "doctor", description="Check Python, backends, plugins and settings; if an application is named, build it too."
    )
    parser.add_argument("app", metavar="MODULE:APP", nargs="?", help="the application, such as app:app")


def run(args: argparse.Namespace) -> int:
    """Print what was found; exit code 1 if something is wrong."""
    findings = list(diagnose(args.app, args.flags))
    width = max(len(each.subject) for each in findings)
    for each in findings:
        print(f"{'ok  ' if each.ok else 'FAIL'}  {each.subject.ljust(width)}  {' '.join(each.text.split())}")
    wrong = sum(not each.ok for each in findings)
    print(f"\n{wrong} of {len(findings)} checks failed." if wrong else f"\nAll {len(findings)} checks passed.")
    return 1 if wrong else 0


def diagnose(spec: str | None, flags: Sequence[str]) -> Iterator[Finding]:
    """Look at everything, one finding each; what fails does not stop the rest.

    Args:
        spec: `module:attribute` of an application, or None for the installation alone.
        flags: values of `-p`.
    """
    from microkit.cli.loading import load_app
    from microkit.cli.program import load_plugins

    yield Finding(True, "python", f"{sys.version.split()[0]} at {sys.executable}")
    app: App | None = None
    manager: PluginManager | None = None
    if spec is not None:
        app, finding = _tried("application", lambda: load_app(spec, flags, tolerant=True), lambda app: repr(app.name))
        yield finding
    if app is not None:
        _, finding = _tried("settings", lambda: app.plugins, lambda _: "as declared")
        yield finding
        manager = app._manager  # also there when the settings are wrong
        if finding.ok:
            _, finding = _tried("build", lambda: app.table, lambda table: f"{len(table.plans)} plans compiled")
            yield finding
    else:
        manager, finding = _tried("plugins", lambda: load_plugins(flags), lambda found: f"{len(found.records)} found")
        yield finding
        if manager is not None:
            _, finding = _tried("settings", partial(_load_settings, manager), lambda _: "as declared")
            yield finding
    if manager is not None:
        yield from _plugins(manager)
        yield from _runtime(manager)


def _tried(subject: str, check: Callable[[], T], text: Callable[[T], str]) -> tuple[T | None, Finding]:
    from microkit.cli.loading import describe_failure
    from microkit.errors import MicrokitError

    try:
        value = check()
        return value, Finding(True, subject, text(value))
    except MicrokitError as exc:
        return None, Finding(False, subject, str(exc))
    except Exception as exc:
        return None, Finding(False, subject, f"{describe_failure(exc)}.")


def _load_settings(manager: PluginManager) -> object:
    from microkit.settings import find_project_table, load_settings

    specs = [each.value for each in manager.hooks.settings()]
    return load_settings(specs, {}, os.environ, find_project_table(Path.cwd()))


def _plugins(manager: PluginManager) -> Iterator[Finding]:
    from microkit.inspect import inspect_plugins

    for each in inspect_plugins(manager):
        automatic = f", automatic: {', '.join(each.automatic)}" if each.automatic else ""
        if each.state == "active":
            yield Finding(True, f"plugin {each.name}", f"active {each.version}{automatic}".strip())
        elif each.state == "blocked":
            yield Finding("required" not in each.error, f"plugin {each.name}", f"blocked: {each.error}")
        else:
            remedy = f"Repair or uninstall it, or leave it out with -p no:{each.name}."
            yield Finding(False, f"plugin {each.name}", f"{each.state}: {each.error.rstrip('.')}. {remedy}")


def _runtime(manager: PluginManager) -> Iterator[Finding]:
    from microkit.inspect import inspect_runtime

    found = inspect_runtime(manager)
    yield Finding(True, "microkit", found.microkit)
    yield Finding(True, "anyio", f"{found.anyio}; backends installed: {', '.join(found.backends)}")
    text = ", ".join(found.usable) or "no installed backend works for all active plugins; leave one of them out with -p"
    yield Finding(bool(found.usable), "usable backends", text)
    yield Finding(True, "json", found.json_library + ("" if found.json_library == "orjson" else "; orjson is faster"))
