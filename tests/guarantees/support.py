"""What the tests of guarantees share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any


def noted(log: list[str], name: str = "scope") -> Any:
    """A dependency that notes what its teardown sees."""

    async def dependency() -> AsyncIterator[str]:
        try:
            yield name
        except BaseException as exc:
            log.append(f"{name} saw {'cancellation' if not isinstance(exc, Exception) else type(exc).__name__}")
            raise
        log.append(f"{name} committed")

    return dependency
