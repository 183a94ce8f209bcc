"""A service of an application, run by the host in the test's own event loop, on each embedded broker."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from microkit import App
from microkit.broker import Broker, DeadLetter, OutgoingMessage
from microkit.codecs import json_dumps
from microkit.host import Host

PATIENCE = 60.0


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh broker."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/broker.db"


async def until(condition: Callable[[], Any], patience: float = PATIENCE) -> None:
    """Wait until something holds."""
    with anyio.fail_after(patience):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)


class Service:
    """A running application.

    Args:
        app: the application.
        host: what runs it.
        broker: its broker.
    """

    def __init__(self, app: App, host: Host, broker: Broker) -> None:
        self.app = app
        self.host = host
        self.broker = broker

    async def publish(self, source: str, event: str, payload: Any = None, **message: Any) -> None:
        """Publish an event."""
        body = message.pop("body", None)
        await self.broker.publish(
            source, event, OutgoingMessage(json_dumps(payload) if body is None else body, **message)
        )

    async def dead(self, queue: str = "") -> list[DeadLetter]:
        """The dead letters."""
        return [each async for each in self.broker.dead_letters(queue)]

    async def dead_one(self, queue: str = "") -> DeadLetter:
        """The only dead letter, once there is one."""
        with anyio.fail_after(PATIENCE):
            while not (found := await self.dead(queue)):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        (letter,) = found
        return letter

    async def drained(self, queue: str) -> None:
        """Wait until nothing is left of a queue."""
        with anyio.fail_after(PATIENCE):
            while (state := await self.broker.state(queue)).ready or state.unsettled or state.delayed:  # noqa: ASYNC110
                await anyio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(app: App) -> AsyncIterator[Service]:
    """Run an application with all its ingresses; stop it at the end of the block, by the drain rules."""
    host = Host(app)
    async with anyio.create_task_group() as group:

        async def serve() -> None:
            await host.serve()

        group.start_soon(serve)
        with anyio.fail_after(PATIENCE):
            await host.opened.wait()
        try:
            yield Service(app, host, await app.container.get(Broker))
        finally:
            host.stop()


@pytest.fixture
def make_app(url: str) -> Callable[..., App]:
    """Make an application on the broker of this test."""

    def make(**settings: Any) -> App:
        app_settings = settings.pop("app", {})
        return App(name="svc", settings={"app": app_settings, "workers": {"broker": url, **settings}})

    return make


PROCESS_HEADER = """
from microkit import *
from microkit_workers import *
import os, signal, sys, time
from pathlib import Path
from typing import Annotated

LOG = Path({log!r})

def note(*words):
    with LOG.open("a") as file:
        print(*words, file=file)

app = App(name="svc", settings={{"workers": {{"broker": {url!r}}}, "app": {{"shutdown_timeout": 10}}}})
"""


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], list[str]]:
    """The lines that handlers wrote, in whatever process."""
    path = tmp_path / "log"
    # What follows the last newline may be half a line: handlers go on writing.
    return lambda: path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []


@pytest.fixture
def load(tmp_path: Path, url: str, request: pytest.FixtureRequest) -> Iterator[Callable[[str], App]]:
    """Write an application into a module of its own, and import it."""
    name = f"process_app_{os.getpid()}_{abs(hash(request.node.name))}"
    sys.path.insert(0, str(tmp_path))

    def make(source: str) -> App:
        header = PROCESS_HEADER.format(log=str(tmp_path / "log"), url=url)
        (tmp_path / f"{name}.py").write_text(header + textwrap.dedent(source))
        sys.modules.pop(name, None)
        importlib.invalidate_caches()  # the folder may have been looked at before the file was there
        return __import__(name).app

    yield make
    sys.path.remove(str(tmp_path))
    sys.modules.pop(name, None)


@pytest.fixture(name="serving")
def _serving() -> Callable[..., Any]:
    return serving


@pytest.fixture(name="until")
def _until() -> Callable[..., Any]:
    return until
