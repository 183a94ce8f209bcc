"""Applications on a private RabbitMQ: what microkit-workers and microkit-amqp do together, and neither tests alone."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.rabbitmq.fixtures import proxy, rabbit, url, vhost

from .program import Program

__all__ = ["proxy", "rabbit", "url", "vhost"]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """What a service as a process of its own runs on."""
    return request.param


@pytest.fixture
def service(tmp_path: Path, url: str, backend: str) -> Generator[Callable[..., Program]]:
    """Starts a service, by default on the test's virtual host."""
    programs: list[Program] = []

    def start(source: str, at: str = url) -> Program:
        programs.append(Program(tmp_path, source, at, backend))
        programs[-1].start()
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
