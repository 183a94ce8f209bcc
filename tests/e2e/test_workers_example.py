"""The service of micro-framework's README, as a process, on each broker that needs no server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "workers"
EXPECTED = [
    "Attempt 1 with {'order': 1}",
    "Attempt 3 with {'order': 2, 'fails': True}",
    "Called after test function",
    "Class method called",
    "Called after test failed and the max_retries is reached.",
    "Targets: ['amqp_rpc_task']",
    "doc='My Docstring'",
    "Sync Response: argument3 - argument4 - () - {}",
    "response: argument1 - argument2 - ('additional_arg',) - {'and_kwargs': 'too'}",
]


@pytest.mark.feature("F002-52")
@pytest.mark.parametrize("mode", ["thread", "process"])
@pytest.mark.parametrize("broker", ["memory", "sqlite"])
def test_the_seeds_example_runs(tmp_path: Path, broker: str, mode: str) -> None:
    run_example("memory://" if broker == "memory" else f"sqlite:///{tmp_path}/jobs.db", mode, tmp_path / "output")


def run_example(url: str, mode: str, output: Path) -> None:
    """Run it until all is said that it has to say, and stop it."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "main.py"],
            cwd=FOLDER,
            env={**os.environ, "AMQP_URI": url, "WORKER_MODE": mode, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        end = time.monotonic() + 120
        while missing := [line for line in EXPECTED if line not in output.read_text()]:
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < end, (missing, output.read_text())
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert output.read_text().count("Attempt 3 with") == 1
    assert output.read_text().count("Called after test failed") == 1
