"""Real servers for tests: private instances on free loopback ports, ended by their own pid.

A server that is not installed skips its tests on a user's machine and fails them on CI, where everything is installed.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest


def missing(what: str, remedy: str) -> NoReturn:
    """Skip the running test because something is not installed; on CI fail it.

    Args:
        what: what is missing.
        remedy: how to install it.
    """
    text = f"{what} is missing: {remedy}"
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(text)
    pytest.skip(text)


# Below the ports that systems take for outgoing connections: none of these comes between choosing one and listening on
# it, or while a server restarts.
_PORTS = range(10_000, 32_000)
_claims: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface next to each other that nothing listens on, and that no other tests get.

    For as long as this process lives they are claimed by UDP sockets, which leave their TCP ports free.
    """
    while True:
        first = random.randrange(_PORTS.start, _PORTS.stop - count)
        ports = list(range(first, first + count))
        claims: list[socket.socket] = []
        try:
            for port in ports:
                claims.append(socket.socket(type=socket.SOCK_DGRAM))
                claims[-1].bind(("127.0.0.1", port))
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            for each in claims:
                each.close()
        else:
            _claims.extend(claims)
            return ports


@dataclass(frozen=True)
class Server:
    """A running private server.

    Attributes:
        port: where it listens.
        process: its process.
        folder: its data and its log.
    """

    port: int
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / "server.log").read_text(errors="replace")


@contextmanager
def private_server(
    command: Callable[[int, Path], Sequence[str]],
    folder: Path,
    *,
    environ: Mapping[str, str] | None = None,
    patience: float = 60.0,
) -> Generator[Server]:
    """Start a server, wait until it accepts connections, and end it afterwards.

    Args:
        command: port and folder to the command line.
        folder: an empty directory for its data.
        environ: environment variables beside those of this process.
        patience: seconds that it may take to start, and to stop.

    Raises:
        RuntimeError: it ended, or did not listen in time; with its log.
    """
    (port,) = free_ports(1)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command(port, folder),
            cwd=folder,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(port, process, folder)
    try:
        _wait_until_it_listens(server, patience)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_listens(server: Server, patience: float) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise RuntimeError(f"the server ended with code {server.process.returncode}:\n{server.log}")
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the server did not listen within {patience:g} seconds:\n{server.log}")
