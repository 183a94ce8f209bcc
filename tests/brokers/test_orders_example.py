"""The services of `examples/orders` on RabbitMQ."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_orders_example import run_example


@pytest.mark.feature("FX-13")
@pytest.mark.guarantee("G8")
def test_killed_at_the_worst_moments_nothing_is_lost_and_nothing_is_done_twice(tmp_path: Path, url: str) -> None:
    run_example(url, tmp_path)
