"""Restarting when the source changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

APP = """
from microkit import App
app = App()

@app.get("/")
async def version() -> int:
    return {version}
"""


def _save(path: Path, source: str) -> None:
    """Replace a file as editors do: whoever looks in the middle of it does not find an empty one."""
    new = path.with_suffix(".new")
    new.write_text(source)
    new.replace(path)


@pytest.mark.feature("F003-09")
@pytest.mark.parametrize("watcher", ["polling", "watchfiles"])
def test_a_change_restarts_the_application_on_the_same_port(start: Any, tmp_path: Path, watcher: str) -> None:
    if watcher == "polling":
        # What is in the project's directory comes first on sys.path: watchfiles is not to be had.
        (tmp_path / "watchfiles.py").write_text("raise ImportError\n")
    else:
        pytest.importorskip("watchfiles")
    app = tmp_path / "app.py"
    program = start(APP.format(version=1), "--reload")
    port = program.port
    assert program.json("/") == 1
    _save(app, APP.format(version=22))
    program.line("listens on", 2)
    assert program.json("/") == 22
    _save(app, APP.format(version="(3"))
    program.line("SyntaxError")
    program.line("waiting for a change")
    _save(app, APP.format(version=4444))
    # The socket was open all the time: this request waits for the new process.
    assert program.json("/") == 4444
    program.line(rf"listens on http://127\.0\.0\.1:{port}", 3)
    assert program.stop() == 0


@pytest.mark.feature("F003-09")
def test_an_application_that_is_broken_at_first_waits_for_its_correction(start: Any, tmp_path: Path) -> None:
    program = start(APP.format(version="("), "--reload", "--reload-dir", str(tmp_path))
    program.line(r"SyntaxError.*app\.py:7")
    program.line("waiting for a change")
    _save(tmp_path / "app.py", APP.format(version=2))
    assert program.json("/") == 2
    assert program.stop() == 0


@pytest.mark.feature("F003-09")
def test_the_log_level_is_that_of_the_caller(start: Any) -> None:
    source = APP.format(version=1) + (
        "from microkit import logger\n@app.on_startup\ndef up():\n"
        "    logger('shop').info('quiet'); logger('shop').warning('loud'); print('up')\n"
    )
    program = start(source, "--log-level", "warning")
    program.line("loud")
    program.line("^up")
    assert program.stop() == 0
    assert program.count("quiet") == 0
    chatty = start(source + "if __name__ == '__main__':\n    app.run(port=0, log_level='info')\n", command=["app.py"])
    chatty.line("quiet")
    assert chatty.port
    assert chatty.stop() == 0
