"""`microkit plugins`: which plugins are there, in what state, and what each gives."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Declare the arguments."""
    parser = subparsers.add_parser(
        "plugins", description="List plugins, broken and blocked ones included; of an application if one is named."
    )
    parser.add_argument("app", metavar="MODULE:APP", nargs="?", help="the application, such as app:app")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the plugins."""
    import sys

    from microkit.cli.loading import load_app
    from microkit.cli.output import as_text, print_json
    from microkit.cli.program import load_plugins
    from microkit.errors import MicrokitError
    from microkit.hookspecs import HOOKS
    from microkit.inspect import inspect_plugins

    if args.app is None:
        manager = load_plugins(args.flags)
        for hook in HOOKS.values():
            if hook.kind == "contribution" and not hook.arguments:
                manager.contributions(hook.name)  # recorded; those with arguments need an application
        found = inspect_plugins(manager)
    else:
        app = load_app(args.app, args.flags, tolerant=True)
        try:
            manager = app.plugins
        except MicrokitError as exc:  # settings that do not fit, for one; the plugins can be listed all the same
            if app._manager is None:
                raise
            print(f"warning: {exc}", file=sys.stderr)
            manager = app._manager
        found = inspect_plugins(manager, getattr(app, "contributed_middleware", ()))
    if args.json:
        print_json([asdict(each) for each in found])
        return 0
    rows = [
        {
            "name": each.name,
            "state": each.state,
            "version": each.version,
            "origin": each.origin,
            "automatic": each.automatic,
            "contributes": "; ".join(
                f"{hook.removeprefix('microkit_')}: {', '.join(names)}" for hook, names in each.contributed.items()
            ),
            "problem": each.error,
        }
        for each in found
    ]
    print(as_text(rows))
    return 0
