"""What the tests of metrics share: applications that count, and their page as numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import microkit_metrics.plugin
from microkit import App
from microkit_metrics import Metrics


class Page:
    """The figures of a page.

    Args:
        text: the page, in Prometheus' text format.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the only sample with this name and (at least) these labels; None without one."""
        found = [value for (each, given), value in self.samples.items() if each == name and labels.items() <= given]
        assert len(found) <= 1, f"{len(found)} samples of {name} {labels}"
        return found[0] if found else None

    def labels(self, name: str) -> list[dict[str, str]]:
        """The labels of all samples of a name."""
        return [dict(given) for each, given in self.samples if each == name]


@pytest.fixture
def make_app() -> Callable[..., App]:
    """Makes an application that counts, with its page at `/metrics`; takes other settings of the plugin."""

    def make(*plugins: Any, name: str = "app", **settings: Any) -> App:
        given = {"path": "/metrics", "loop_interval": 0.0, **settings}
        return App(plugins=[microkit_metrics.plugin, *plugins], discover=False, name=name, settings={"metrics": given})

    return make


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    """An application that counts."""
    return make_app()


@pytest.fixture
def page() -> Callable[[App], Page]:
    """Reads the figures of an application without a call."""

    def read(app: App) -> Page:
        return Page(Metrics.of(app).render()[0].decode())

    return read
