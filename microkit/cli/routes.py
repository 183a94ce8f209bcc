"""`microkit routes`: everything that reaches an application, of all kinds."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Declare the arguments."""
    parser = subparsers.add_parser("routes", description="List the bindings of all kinds of an application.")
    parser.add_argument("app", metavar="MODULE:APP", help="the application, such as app:app")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the bindings."""
    from microkit.cli.loading import load_app
    from microkit.cli.output import as_text, print_json
    from microkit.cli.program import warn_of_plugins
    from microkit.inspect import bound_plans, inspect_binding

    app = load_app(args.app, args.flags, tolerant=True)
    bindings = [asdict(inspect_binding(plan)) for plan in bound_plans(app)]
    warn_of_plugins(app.plugins)
    if args.json:
        print_json(bindings)
        return 0
    hidden = ("methods", "path")
    rows = [{key: value for key, value in row.items() if key not in hidden} for row in bindings]
    print(as_text(rows) or f"The application {app.name!r} has no bindings.")
    return 0
