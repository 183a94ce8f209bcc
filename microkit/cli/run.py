"""`microkit run`: serve an application."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from microkit.cli.loading import CommandError, load_app


def add_parser(subparsers: Any) -> None:
    """Declare the command and its arguments."""
    parser = subparsers.add_parser(
        "run",
        description="Serve an application: every ingress that its bindings need, until SIGINT or SIGTERM. A second "
        "signal ends it at once.",
    )
    parser.add_argument("app", metavar="MODULE:APP", help="the application, such as app:app")
    parser.add_argument("--host", help="name or address that HTTP listens on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, help="port that HTTP listens on, 0 for a free one (default: 8000)")
    parser.add_argument(
        "--transport",
        "--server",
        dest="transports",
        metavar="NAME",
        action="append",
        default=[],
        help="transport to use beside or instead of the automatic ones, such as hypercorn; may be repeated",
    )
    parser.add_argument("--only", metavar="NAME,...", type=_names, help="ingresses to open, such as http,timers")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio", help="event loop to run it on")
    parser.add_argument("--workers", type=_count, default=1, metavar="N", help="number of processes")
    parser.add_argument("--reload", action="store_true", help="restart when a source file changes; for development")
    parser.add_argument(
        "--reload-dir",
        dest="reload_dirs",
        metavar="DIR",
        type=_folder,
        action="append",
        default=[],
        help="directory to watch instead of the working directory; may be repeated",
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error", "critical"), help="what microkit logs at least"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from microkit.cli import serving
    from microkit.cli.supervisor import own_worker

    if own_worker() is None and (args.reload or args.workers > 1):
        # The supervisor does not import the application: what is wrong with it shows in a child, and may be mended.
        return serving.supervise(args.workers, args.reload, args.reload_dirs, args.log_level)
    serving.configure_logging(args.log_level)
    try:
        app = load_app(args.app, args.flags)
    except CommandError as exc:
        return serving.report(exc)
    options = {key: value for key, value in (("host", args.host), ("port", args.port)) if value is not None}
    return serving.main(app, args.transports, options, args.only, args.backend, args.log_level)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"the number of processes is 1 or more, not {text!r}")
    return int(text)


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {text!r}")
    return text


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
