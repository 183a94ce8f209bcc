"""Settings of the plugin, and what it does without any."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import microkit_metrics.plugin
from microkit import App, Request, SettingsError
from microkit_metrics import Metrics

_OFF = """
import sys, anyio
from microkit import App, Request
from microkit_metrics import plugin
app = App(plugins=[plugin], discover=False)

@app.get("/")
async def hello() -> str:
    return "hello"

async def main():
    async with app.started():
        assert (await app.handle(Request("GET", "/"))).ok
        assert app.observers == ()

anyio.run(main)
assert "prometheus_client" not in sys.modules
"""


@pytest.mark.feature("F002-22")
def test_off_by_default_it_counts_nothing_and_imports_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", _OFF], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.feature("F002-22")
@pytest.mark.parametrize(
    ("given", "counts"), [({}, False), ({"enabled": True}, True), ({"path": "/m"}, True), ({"port": 0}, True)]
)
def test_a_page_or_the_switch_makes_it_count(given: dict[str, Any], counts: bool) -> None:
    app = App(plugins=[microkit_metrics.plugin], discover=False, settings={"metrics": given})
    app.build()
    assert bool(app.observers) is counts


@pytest.mark.parametrize(
    "given",
    [
        {"path": "metrics"},
        {"port": 70000},
        {"prefix": "1a"},
        {"prefix": "a-b"},
        {"buckets": ()},
        {"buckets": (2.0, 1.0)},
        {"buckets": (0.0, 1.0)},
        {"buckets": (1.0, float("inf"))},
        {"buckets": (float("nan"),)},
        {"loop_interval": -1.0},
        {"loop_interval": float("nan")},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(given: dict[str, Any]) -> None:
    app = App(plugins=[microkit_metrics.plugin], discover=False, settings={"metrics": given})
    with pytest.raises(SettingsError, match=next(iter(given))):
        app.build()


@pytest.mark.anyio
async def test_prefix_and_buckets_are_those_of_the_settings(make_app: Any, page: Any) -> None:
    app = make_app(prefix="mk_", buckets=(0.5, 60.0), process_figures=False)
    async with app.started():
        await app.handle(Request("GET", "/nowhere"))
    found = page(app)
    assert all(name.startswith("mk_") for name, _ in found.samples)
    assert [each["le"] for each in found.labels("mk_task_duration_seconds_bucket")] == ["0.5", "60.0", "+Inf"]


def test_an_application_without_the_plugin_has_no_metrics() -> None:
    with pytest.raises(LookupError, match="plugin 'metrics'"):
        Metrics.of(App(discover=False))
