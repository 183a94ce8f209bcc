"""Applications on a private RabbitMQ: what microkit-workers and microkit-amqp do together, and neither tests alone."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Generator
from typing import Any

import pytest

# The folder has a hyphen in its name, which no import statement can have.
_AMQP = "plugins.microkit-amqp.tests"
peers: Any = importlib.import_module(f"{_AMQP}.environments")
rabbits: Any = importlib.import_module(f"{_AMQP}.rabbit")
proxies: Any = importlib.import_module(f"{_AMQP}.proxy")
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Generator[Any]:
    with rabbits.private_rabbit(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture
def vhost(rabbit: Any) -> Generator[str]:
    name = f"brokers-{next(_numbers)}"
    rabbit.add_vhost(name)
    yield name
    rabbit.api("DELETE", f"vhosts/{name}")


@pytest.fixture
def url(rabbit: Any, vhost: str) -> str:
    return rabbit.url(vhost)


@pytest.fixture
def proxy(rabbit: Any) -> Generator[Any]:
    proxy = proxies.Proxy(rabbit.port)
    yield proxy
    proxy.close()
