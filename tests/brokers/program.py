"""A service as a process of its own, with a ledger of its effects that outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HEADER = """
import os, signal, time
import anyio
from microkit import *
from microkit_workers import *

def note(*words):
    with open("ledger", "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

"""


class Program:
    """`microkit run app:app`, as often as it is started.

    Args:
        folder: where it runs.
        source: of the module, after what `HEADER` has.
        url: of its broker, for the module as `os.environ["BROKER"]`.
        backend: what it runs on.
    """

    def __init__(self, folder: Path, source: str, url: str, backend: str = "asyncio") -> None:
        self.folder = folder
        self.url = url
        self.backend = backend
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "app.py").write_text(HEADER + source)

    def start(self) -> None:
        """Start it (again)."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("MICROKIT_")}
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", "microkit", "run", "app:app", "--backend", self.backend],
                cwd=self.folder,
                env={**environ, "PYTHONDONTWRITEBYTECODE": "1", "BROKER": self.url},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it by SIGKILL, with its children."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()

    def stop(self, patience: float = 60.0) -> int:
        """End it by SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def output(self) -> str:
        """The end of what it wrote, for messages."""
        return self._all[-5000:]

    def says(self, text: str) -> int:
        """How often a text is in what it wrote."""
        return self._all.count(text)

    @property
    def _all(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def lines(self) -> list[list[str]]:
        """The ledger, without a line that is just being written."""
        path = self.folder / "ledger"
        return [line.split() for line in path.read_text().rpartition("\n")[0].splitlines()] if path.exists() else []

    def of(self, kind: str) -> Counter[str]:
        """How often each id is in the ledger under a kind."""
        return Counter(line[1] for line in self.lines() if line[0] == kind)

    def until(self, condition: Callable[[], Any], patience: float = 120.0, *, alive: bool = True) -> None:
        """Wait until something is so, while it runs."""
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, self.output
            assert self.runs or not alive, self.output
            time.sleep(0.02)
