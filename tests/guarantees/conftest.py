"""An application, and a log of what happens in it."""

from __future__ import annotations

import pytest

from microkit import App


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def app() -> App:
    return App(discover=False)
