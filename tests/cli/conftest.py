"""A project on disk and the program run in it, in process."""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from microkit.cli import main


@dataclass
class Result:
    """What a command left: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def paragraph(self) -> str:
        """The error stream of a failed command: one paragraph, no traceback."""
        assert self.code == 1
        assert "Traceback" not in self.err
        assert self.err.startswith("microkit: ")
        assert self.err.count("\n") == 1
        return self.err.strip()


class Project:
    """The working directory of a user."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def write(self, name: str, source: str) -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()  # the clock of the file system is coarse: its folder may look unchanged
        return path

    def install(self, name: str, source: str, version: str = "1.2.3") -> None:
        """Put a distribution with one plugin on the path."""
        info = self.folder / f"thing_{name}-{version}.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[microkit]\n{name} = thing_{name}\n")
        self.write(f"thing_{name}.py", source)

    def forget_modules(self) -> None:
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(str(self.folder)):
                del sys.modules[name]

    def run(self, *argv: str) -> Result:
        self.forget_modules()  # every command is a process of its own
        self._capsys.readouterr()
        code = main(argv)
        out, err = self._capsys.readouterr()
        return Result(code, out, err)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    """An empty project in which no installed plugin is selected; `MICROKIT_PLUGINS` may be set to those of a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("MICROKIT_PLUGINS", "")
    project = Project(tmp_path, capsys)
    yield project
    project.forget_modules()
