"""A private Redis for the tests that want one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.servers import Server, missing, private_server

_DATABASES = 512


def redis_command(port: int, folder: Path) -> list[str]:
    """A Redis that keeps nothing."""
    options = {
        "--bind": "127.0.0.1",
        "--port": str(port),
        "--dir": str(folder),
        "--save": "",
        "--appendonly": "no",
        "--databases": str(_DATABASES),
    }
    return ["redis-server", *(word for option in options.items() for word in option)]


@pytest.fixture(scope="session")
def needs_redis() -> None:
    if shutil.which("redis-server") is None:
        missing("redis-server", "install it by the system's packages, or run `make test` as root")


@pytest.fixture(scope="session")
def redis_server(needs_redis: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests."""
    with private_server(redis_command, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_databases(redis_server: Server) -> Iterator[str]:
    """URLs of databases that no test has used."""
    return (f"redis://127.0.0.1:{redis_server.port}/{number}" for number in count(1) if number < _DATABASES)


@pytest.fixture
def redis_url(redis_databases: Iterator[str]) -> str:
    """The URL of an empty database."""
    return next(redis_databases)
