"""The service of micro-framework's README, as a process, on RabbitMQ."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_workers_example import run_example


@pytest.mark.feature("F002-52")
@pytest.mark.parametrize("mode", ["thread", "process"])
def test_the_seeds_example_runs(tmp_path: Path, url: str, mode: str) -> None:
    run_example(url, mode, tmp_path / "output")
