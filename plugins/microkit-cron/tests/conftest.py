"""A private Redis for the tests that want one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import missing, private_server


def redis_command(port: int, folder: Path) -> list[str]:
    """A Redis that keeps nothing."""
    where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    return ["redis-server", *where, "--save", "", "--appendonly", "no"]


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if shutil.which("redis-server") is None:
        missing("redis-server", "install it by the system's packages, or run `make test` as root")
    folder = tmp_path / "redis"
    folder.mkdir()
    with private_server(redis_command, folder) as server:
        yield f"redis://127.0.0.1:{server.port}/0"
