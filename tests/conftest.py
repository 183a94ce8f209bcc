"""What all tests of the workspace share: coroutine tests run by themselves, on every backend."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(
    scope="module",
    params=[pytest.param(("asyncio", {}), id="asyncio"), pytest.param(("trio", {}), id="trio")],
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """The backend and its options; a test that holds on one of them only overrides this fixture and says why.

    Of module scope, so that asynchronous fixtures of a module and tests by hypothesis can stand on it. Such a fixture
    must take ``anyio_backend`` itself: else pytest keeps it, and the runner under it, over the change of the backend,
    and the tests named after trio run on asyncio.
    """
    return request.param


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the workspace."""
    return Path(__file__).resolve().parent.parent
