"""The supervisor, where a program cannot be made to hit the moment."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from microkit.cli import supervisor
from microkit.cli.supervisor import Supervisor


@pytest.fixture
def anyio_backend() -> str:
    """The supervisor runs on asyncio."""
    return "asyncio"


@pytest.mark.feature("F003-09")
async def test_a_change_while_a_process_is_being_started_replaces_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = anyio.Event()
    started: list[Any] = []

    async def changes(*args: Any) -> AsyncIterator[Path]:
        await changed.wait()
        yield Path("app.py")

    async def spawn(*args: Any) -> Any:
        command = [sys.executable, "-c", "import time; time.sleep(120)"]
        started.append(await anyio.open_process(command, stdin=None, stdout=None, stderr=None))
        changed.set()
        await anyio.wait_all_tasks_blocked()  # it may have read the source already, and nobody knows of it yet
        return started[-1]

    under_test = Supervisor(1, reload=True)
    monkeypatch.setattr(supervisor, "changes", changes)
    monkeypatch.setattr(under_test, "_spawn", spawn)
    async with anyio.create_task_group() as group:
        group.start_soon(under_test._run)
        with anyio.fail_after(60):
            while len(started) < 2:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        under_test._stop()
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)
