"""`microkit explain`: the compiled plan of an endpoint, or everything about an application."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Declare the arguments."""
    parser = subparsers.add_parser(
        "explain",
        description="Show the compiled plan of an endpoint: middleware, parameters, values with their scopes, "
        "teardown, executor, and the plugin behind each. Without an endpoint, show everything about the application.",
    )
    parser.add_argument("app", metavar="MODULE:APP", help="the application, such as app:app")
    parser.add_argument(
        "endpoint", metavar="ENDPOINT", nargs="?", help="a name, 'METHOD /path', a procedure, source/event or schedule"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--source", action="store_true", help="print the code that was written for the endpoint")


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    from microkit.cli.loading import load_app
    from microkit.cli.lookup import find_plan
    from microkit.cli.output import as_text, print_json, tables
    from microkit.cli.plans import inspect_plan, plan_text
    from microkit.cli.program import warn_of_plugins
    from microkit.inspect import inspect_app

    app = load_app(args.app, args.flags, tolerant=True)
    if args.endpoint is not None:
        found = find_plan(app, args.endpoint)
        plan = inspect_plan(found)
        warn_of_plugins(app.plugins)
        if args.source:
            print(found.source() or "# A container is injected, so its dependencies are looked up one by one.")
            return 0
        if args.json:
            print_json(asdict(plan))
        else:
            print(plan_text(plan))
        return 0
    info = inspect_app(app)
    warn_of_plugins(app.plugins)
    if args.json:
        print_json(asdict(info))
        return 0
    print(f"{info.name} (version {info.version})")
    for section in tables(info):
        if section.rows:
            print(f"\n{section.title}\n{as_text(section.rows)}")
    return 0
