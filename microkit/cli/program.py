"""Parsing the command line and running one command.

Modules of commands are imported when their command is used. Each has `add_parser(subparsers)`, which declares its
arguments, and `run(args) -> int`, which returns the exit code: 0 for success, 1 for a failure that was reported. The
parsed `args.flags` are the values of `-p`, which every command takes.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microkit.cli.loading import describe_failure
from microkit.errors import MicrokitError, PluginError
from microkit.hookspecs import VERSION

if TYPE_CHECKING:
    from microkit.plugins import PluginManager

_COMMANDS = {
    "run": "serve an application",
    "routes": "list everything that reaches an application: routes, procedures, events, schedules",
    "plugins": "list plugins and what became of them",
    "explain": "show the compiled plan of an endpoint, or everything about an application",
    "doctor": "check the installation, the plugins, the settings and an application",
    "call": "run one endpoint in process and print its result",
}


@dataclass(frozen=True, slots=True)
class _Command:
    plugin: str
    help: str
    run: Callable[[argparse.Namespace], int | None]
    configure: Callable[[argparse.ArgumentParser], object] | None


class CommandLine:
    """The commands that plugins add; the argument of the hook `microkit_commands`.

    Attributes:
        flags: the values of `-p` on this command line.
    """

    def __init__(self, flags: Sequence[str] = ()) -> None:
        self.flags = tuple(flags)
        self.commands: dict[str, _Command] = {}

    def add_command(
        self,
        name: str,
        run: Callable[[argparse.Namespace], int | None],
        *,
        help: str,
        configure: Callable[[argparse.ArgumentParser], object] | None = None,
    ) -> None:
        """Add a command.

        Args:
            name: the word that selects it.
            run: runs it with the parsed arguments, of which `flags` are for `microkit.cli.load_app`; returns the exit
                code, None being 0. A `MicrokitError` becomes one paragraph and exit code 1.
            help: one line for the list of commands.
            configure: adds its arguments to its parser; `-p` is there already.

        Raises:
            PluginError: the kernel or another plugin has a command of that name.
        """
        if name in _COMMANDS or name in self.commands:
            raise PluginError(f"the command {name!r} exists already; choose another name")
        self.commands[name] = _Command("", help, run, configure)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        argv: the arguments, without the name of the program; None takes those of the process.

    Returns:
        The exit code: 0 for success, 1 for a failure, 2 for wrong usage, 130 after an interruption.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as exc:  # argparse, after --help, --version and wrong usage
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MicrokitError as exc:
        return _fail(str(exc))
    except Exception as exc:
        return _fail(f"The command failed. {describe_failure(exc)}.")


def load_plugins(flags: Sequence[str]) -> PluginManager:
    """The plugins that this environment and project select, without an application; broken ones are only recorded.

    Raises:
        SettingsError: the configuration file cannot be read, or its switches are wrong.
    """
    from microkit.builtin import KernelPlugin
    from microkit.plugins import PluginManager
    from microkit.selection import Selection
    from microkit.settings import find_project_table

    manager = PluginManager(tolerant=True)
    manager.register(KernelPlugin(), "kernel", origin="kernel")
    manager.load(Selection.from_environment(os.environ, find_project_table(Path.cwd()), flags))
    return manager


def warn_of_plugins(manager: PluginManager) -> None:
    """Report broken plugins on the error stream, for commands that go on without them."""
    for line in _problems(manager):
        print(f"warning: {line}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """A parser with `-p`, whose values go to one list wherever they stand."""

    flags: list[str]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        self.add_argument(
            "-p",
            metavar="[no:]PLUGIN",
            action=_Flag,
            default=argparse.SUPPRESS,
            help="use a plugin, or with no: leave it out; may be repeated",
        )


class _Flag(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        parser.flags.append(values)


def _dispatch(arguments: list[str]) -> int:
    flags: list[str] = []
    # Subparsers are made without arguments of ours, so that the list is a class attribute of this one run.
    parser_class = type("_RunParser", (_Parser,), {"flags": flags})
    parser = parser_class(prog="microkit", description="Serve and examine microkit applications.")
    parser.add_argument("--version", action="version", version=f"microkit {VERSION}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=parser_class)
    chosen, early_flags = _scan(arguments)
    runners: dict[str, Callable[[argparse.Namespace], int | None]] = {}
    for name, text in _COMMANDS.items():
        if name == chosen:
            module = importlib.import_module(f"microkit.cli.{name}")
            module.add_parser(subparsers)
            runners[name] = module.run
        else:
            subparsers.add_parser(name, help=text)
    if chosen not in _COMMANDS and "--version" not in arguments:
        parser.epilog = _add_plugin_commands(subparsers, early_flags, runners)
        if chosen is not None and chosen not in runners and parser.epilog:
            print(f"warning: {parser.epilog}", file=sys.stderr)
    args = parser.parse_args(arguments)
    args.flags = flags
    return runners[args.command](args) or 0


def _scan(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The command, and the values of `-p` before it."""
    flags: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word == "-p":
            flags.append(next(rest, ""))
        elif word.startswith("-p"):
            flags.append(word[2:])
        elif not word.startswith("-"):
            return word, flags
    return None, flags


def _add_plugin_commands(subparsers: Any, flags: Sequence[str], runners: dict[str, Any]) -> str:
    """Ask the plugins for commands. Returns what is wrong with them, as text."""
    try:
        manager = load_plugins([flag for flag in flags if flag])
        cli = CommandLine(flags)
        manager.hooks.commands(cli)
    except MicrokitError as exc:
        return str(exc)
    for name, command in cli.commands.items():
        subparser = subparsers.add_parser(name, help=command.help)
        if command.configure is not None:
            command.configure(subparser)
        runners[name] = command.run
    return " ".join(_problems(manager))


def _problems(manager: PluginManager) -> list[str]:
    from microkit.plugins import _sentence

    return [
        f"Plugin {each.name!r} ({each.distribution or each.origin}) is {each.state}: {_sentence(each.error)} "
        f"Repair or uninstall it, or leave it out with -p no:{each.name}."
        for each in manager.records
        if each.state in ("failed", "incompatible")
    ]


def _fail(text: str) -> int:
    print(f"microkit: {' '.join(text.split())}", file=sys.stderr)
    return 1
