"""Applications served by real servers in processes of their own."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60.0
APP = Path(__file__).with_name("served.py")


class Program:
    """A running program whose output is read line by line."""

    def __init__(self, *command: str, environ: dict[str, str] | None = None) -> None:
        import os

        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MICROKIT_")}
        self.lines: list[str] = []
        self._more = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-u", *command],
            cwd=APP.parent,
            env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def line(self, pattern: str, number: int = 1) -> re.Match[str]:
        """Wait for the nth line that a regular expression is found in."""

        def find() -> list[re.Match[str]]:
            return [match for each in self.lines if (match := re.search(pattern, each))]

        with self._more:
            self._more.wait_for(lambda: len(find()) >= number or not self._reader.is_alive(), PATIENCE)
            found = find()
        assert len(found) >= number, f"no line {pattern!r} ({number}) in:\n" + "\n".join(self.lines)
        return found[number - 1]

    @property
    def port(self) -> int:
        """The port that it serves on; waits until it does."""
        return int(self.line(r"(?:listens|[Rr]unning) on https?://127\.0\.0\.1:(\d+)")[1])

    def wait(self) -> int:
        """Wait for its end and that of its output."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def stop(self) -> int:
        """End it by SIGTERM and return its code."""
        self.process.terminate()
        return self.wait()

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


SERVERS = {
    "uvicorn": ("asyncio", "uvicorn"),
    "hypercorn": ("asyncio", "hypercorn"),
    "hypercorn-trio": ("trio", "hypercorn"),
}


@pytest.fixture(scope="module", params=SERVERS)
def served(request: Any) -> Iterator[Program]:
    """`served.py` under each server, driven by the host; one process for all tests of a module."""
    backend, server = SERVERS[request.param]
    program = Program("served.py", backend, server)
    yield program
    program.close()


@pytest.fixture
def start() -> Iterator[Any]:
    """Run a program; what still runs at the end is killed."""
    programs: list[Program] = []

    def begin(*command: str, **environ: str) -> Program:
        programs.append(Program(*command, environ=environ))
        return programs[-1]

    yield begin
    for program in programs:
        program.close()
