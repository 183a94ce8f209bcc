"""Environments of other programs' own: nameko 2, nameko 3 and micro-framework, none of which fits into ours."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import missing

PEERS = Path(__file__).with_name("peers")
# setuptools brings pkg_resources, which nameko 2 imports.
REQUIREMENTS = {
    "nameko2": ["nameko==2.14.1", "setuptools<81"],
    "nameko3": ["nameko==3.0.0rc11", "setuptools<81"],
    "ufw": ["micro-framework==2.1.1"],
}


def environment(name: str, root: Path) -> Path:
    """The folder of programs of a peer's environment, made if there is none.

    Args:
        name: of the peer.
        root: where environments are kept, unless PEERS_OF_TESTS says.
    """
    folder = Path(os.environ.get("PEERS_OF_TESTS") or root) / f".venv-{name}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests of one and all distributions may want it at the same time
        if not (folder / ".complete").exists():
            _make(folder, REQUIREMENTS[name])
    return folder / "bin"


def _make(folder: Path, requirements: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pip = [folder / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "10"]
    install = [*pip, "install", *requirements]
    for command in ([sys.executable, "-m", "venv", folder], install):
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            missing(f"an environment with {requirements[0]}", f"it could not be made:\n{done.stderr[-500:]}")
    (folder / ".complete").touch()


@contextmanager
def running(command: list[str | Path], ready: str = "") -> Generator[list[str]]:
    """A program of a peer, ended afterwards by its own process group.

    Args:
        command: with its arguments.
        ready: text of its output that is waited for.

    Yields:
        Its output, line by line as it comes.
    """
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=PEERS,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []
    found = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if ready and ready in line:
                found.set()
        found.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        if ready and (not found.wait(120) or process.poll() is not None):
            raise RuntimeError(f"{command[0]} is not ready:\n{''.join(lines)}")
        yield lines
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # with its children, which hold its output open
        except ProcessLookupError:
            pass
        process.wait()
        reader.join(60)
        assert process.stdout is not None
        process.stdout.close()
