"""Running an application as a program: its processes, its logs, its exit code."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from microkit.app import App
from microkit.errors import MicrokitError, StartupError, alone
from microkit.host import Host, exit_now
from microkit.transport import TransportServer

from .supervisor import Supervisor, own_worker

_logger = logging.getLogger("microkit.host")


def run(
    app: App,
    *transports: str | TransportServer,
    host: str | None = None,
    port: int | None = None,
    reload: bool = False,
    reload_dirs: Sequence[str | Path] = (),
    workers: int = 1,
    only: Iterable[str] | None = None,
    backend: str = "asyncio",
    log_level: str | None = None,
    **options: Any,
) -> None:
    """Serve an application until it is told to stop. Blocks.

    Args:
        app: the application.
        transports: names of transports, or transport objects, beside or instead of the automatic ones.
        host, port: address for HTTP, instead of the settings.
        reload: restart when a source file changes; the sockets stay open.
        reload_dirs: directories to watch; the working directory by default.
        workers: number of processes.
        only: names of ingresses to open; None opens all that the bindings need.
        backend: `asyncio` or `trio`.
        log_level: level of the `microkit` logger, instead of the setting.
        options: further wishes that ingresses read.

    Raises:
        SystemExit: it failed; the reason was printed as one paragraph.
    """
    if own_worker() is None and (reload or workers > 1):
        code = supervise(workers, reload, reload_dirs, log_level)
    else:
        given = {"host": host, "port": port, **options}
        code = main(app, transports, {k: v for k, v in given.items() if v is not None}, only, backend, log_level)
    if code:
        raise SystemExit(code)


def supervise(workers: int, reload: bool, reload_dirs: Sequence[str | Path], log_level: str | None) -> int:
    """Run this program's own command line again in child processes and return the exit code."""
    configure_logging(log_level)
    return Supervisor(workers, reload=reload, paths=[Path(each) for each in reload_dirs] or [Path.cwd()]).run()


def main(
    app: App,
    transports: Sequence[str | TransportServer],
    options: Mapping[str, Any],
    only: Iterable[str] | None,
    backend: str,
    log_level: str | None,
) -> int:
    """Serve in this process and return the exit code; a failure is printed as one paragraph."""
    from importlib.util import find_spec

    configure_logging(log_level)
    try:
        app.plugins  # noqa: B018  # loads the settings, which say how to log
        configure_logging(log_level or app.settings.log_level)
        if backend == "trio" and find_spec("trio") is None:
            raise StartupError("The backend trio is not installed. Install it (`pip install 'microkit[trio]'`).")
        fast = backend == "asyncio" and find_spec("uvloop") is not None
        host = Host(
            app, transports, only=only, backend=backend, options=options, worker=own_worker(), owns_process=True
        )
        anyio.run(host.serve, backend=backend, backend_options={"use_uvloop": True} if fast else {})
    except (Exception, KeyboardInterrupt) as exc:
        code = report(exc)
    else:
        code = 0
    end_process(code)
    return code


def end_process(code: int) -> None:
    """End this process although some of its threads do not; nothing happens if all of them do."""
    deadline = time.monotonic() + 1.0
    others = [each for each in threading.enumerate() if each is not threading.current_thread() and not each.daemon]
    for each in others:
        each.join(max(0.0, deadline - time.monotonic()))
    if stuck := [each.name for each in others if each.is_alive()]:
        _logger.error("ending the process although %d of its threads still run: %s", len(stuck), ", ".join(stuck))
        exit_now(code)


def report(exc: BaseException) -> int:
    """Print why the application does not run any more: a paragraph for what we can explain, else the traceback.

    Returns:
        The exit code.
    """
    exc = alone(exc)
    if isinstance(exc, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(exc, MicrokitError):
        print(f"microkit: {exc}", file=sys.stderr)
    else:
        _logger.error("the application ended by a failure", exc_info=exc)
    return 1


def configure_logging(level: str | None) -> None:
    """Show the logs of microkit on stderr, unless the program has set up logging by itself."""
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("microkit").setLevel((level or "INFO").upper())
