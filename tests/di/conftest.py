"""What the tests of dependency injection share."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from microkit import App, Request
from tests.di.support import Log

Get = Callable[..., Awaitable[Any]]


@pytest.fixture
def app() -> App:
    """An application of the kernel alone."""
    return App(plugins=[], discover=False)


@pytest.fixture
def get() -> Get:
    """Ask an application for a path; returns the decoded JSON of a 200, else the status."""

    async def ask(app: App, url: str = "/", method: str = "GET") -> Any:
        reply = await app.handle(Request(method, url))
        return json.loads(reply.body) if reply.http_status == 200 else reply.http_status

    return ask


@pytest.fixture
def log() -> Log:
    return Log()
