"""The fixtures of tests on a real RabbitMQ; a conftest imports those that its tests need."""

from __future__ import annotations

import itertools
from collections.abc import Generator

import pytest

from tests.rabbitmq.node import Rabbit, private_rabbit
from tests.rabbitmq.proxy import Proxy

_numbers = itertools.count(1)
_KEPT = 10


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Generator[Rabbit]:
    """A private node, for all tests below the conftest that imports this."""
    with private_rabbit(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture
def vhost(rabbit: Rabbit) -> Generator[str]:
    """A virtual host of the test's own.

    It is deleted some tests later. RabbitMQ 3.10 may come to harm, for good, if one is deleted while it still starts
    the processes of a queue in it: what moves dead letters fails, again and again, until its supervisor gives up.
    """
    name = f"test-{next(_numbers)}"
    rabbit.add_vhost(name)
    yield name
    rabbit.over.append(name)
    if len(rabbit.over) > _KEPT:
        rabbit.api("DELETE", f"vhosts/{rabbit.over.popleft()}")


@pytest.fixture
def url(rabbit: Rabbit, vhost: str) -> str:
    """The URL of the test's virtual host."""
    return rabbit.url(vhost)


@pytest.fixture
def proxy(rabbit: Rabbit) -> Generator[Proxy]:
    """A way to the node that can be cut."""
    proxy = Proxy(rabbit.port)
    yield proxy
    proxy.close()
