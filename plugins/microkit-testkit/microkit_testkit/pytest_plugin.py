"""What pytest loads: fixtures for tests of microkit applications and plugins.

Coroutine tests run by anyio's own plugin, once on every backend that is installed; a fixture `anyio_backend` of the
project decides otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from microkit import App

    from .client import TestClient
    from .clock import FakeClock
    from .kit import Kit

# microkit is imported by the fixtures, not here: this module is loaded in every test run of the environment.


@pytest.fixture
def kit() -> Kit:
    """Makes applications from plugin objects: `kit.app(my_plugin, settings={...})`."""
    from .kit import Kit

    return Kit()


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that stands still until `await fake_clock.advance(seconds)`; pass it as `App(clock=...)`."""
    from .clock import FakeClock

    return FakeClock()


@pytest.fixture
async def client_for(anyio_backend: Any) -> AsyncIterator[Callable[..., Awaitable[TestClient]]]:
    """Opens test clients that are closed after the test: `client = await client_for(app)`. For async tests."""
    from .client import TestClient

    async with AsyncExitStack() as stack:

        async def open_client(app: App, **options: Any) -> TestClient:
            return await stack.enter_async_context(TestClient(app, **options))

        yield open_client
