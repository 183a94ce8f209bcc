"""Programs that serve, started as real processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60.0


class Program:
    """A running program whose output is read line by line.

    Args:
        command: arguments of the interpreter.
        folder: where it runs.
        environ: variables beside those of the tests.

    Attributes:
        lines: of both streams. Each has a reader of its own, so only lines of the same stream are in order.
        printed: lines of the output.
        errors: lines of the error stream.
    """

    def __init__(self, command: list[str], folder: Path, environ: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.printed: list[str] = []
        self.errors: list[str] = []
        self._more = threading.Condition()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MICROKIT_")}
        self.process = subprocess.Popen(
            [sys.executable, "-u", *command],
            cwd=folder,
            env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, own), daemon=True)
            for stream, own in ((self.process.stdout, self.printed), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, own: list[str]) -> None:
        for line in stream:
            with self._more:
                own.append(line.rstrip("\n"))
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def line(self, pattern: str, number: int = 1) -> re.Match[str]:
        """Wait for the nth line that a regular expression is found in."""

        def find() -> list[re.Match[str]]:
            return [match for each in self.lines if (match := re.search(pattern, each))]

        def over() -> bool:
            return len(find()) >= number or not any(reader.is_alive() for reader in self._readers)

        with self._more:
            self._more.wait_for(over, PATIENCE)
            found = find()
        assert len(found) >= number, f"no line {pattern!r} ({number}) in:\n" + "\n".join(self.lines)
        return found[number - 1]

    def count(self, pattern: str) -> int:
        """How many lines there are so far that a regular expression is found in."""
        with self._more:
            return sum(bool(re.search(pattern, each)) for each in self.lines)

    @property
    def port(self) -> int:
        """The port that it serves HTTP on; waits until it does."""
        return int(self.line(r"listens on https?://127\.0\.0\.1:(\d+)")[1])

    def request(self, path: str, method: str = "GET", **options: Any) -> tuple[int, Any, bytes]:
        """One request on a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, **options)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def json(self, path: str) -> Any:
        """The JSON that a path answers with."""
        return json.loads(self.request(path)[2])

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to it."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end, and for that of its output; return its code."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def stop(self) -> int:
        """End it by SIGTERM and return its code."""
        self.signal()
        return self.wait()


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Write `app.py` and run a program there; what still runs at the end is killed."""
    programs: list[Program] = []

    def begin(source: str, *arguments: str, command: list[str] | None = None, **environ: str) -> Program:
        (tmp_path / "app.py").write_text(textwrap.dedent(source))
        command = command or ["-m", "microkit", "run", "app:app", "--port", "0"]
        programs.append(Program([*command, *arguments], tmp_path, environ))
        return programs[-1]

    yield begin
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.wait()
        program.process.stdout.close()  # type: ignore[union-attr]
        program.process.stderr.close()  # type: ignore[union-attr]


@pytest.fixture
def paragraph() -> Callable[[Program], str]:
    """What a failed program says: exactly one paragraph on stderr, and no traceback."""

    def read(program: Program) -> str:
        program.wait()
        assert len(program.errors) == 1, "\n".join(program.lines)
        assert program.errors[0].startswith("microkit: ")
        return program.errors[0]

    return read
