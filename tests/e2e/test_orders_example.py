"""The services of `examples/orders`, as processes that are killed at the worst moments."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "orders"
PATIENCE = 90.0

# Each ends its process between two steps that belong together.
KILLERS = {
    # The order is committed, its event is not published.
    "before_publishing": """
from orders import app

async def publish(self, broker):
    if self.store.pending(1):
        while not os.path.exists("placed"):  # the reply to who ordered is on its way
            await anyio.sleep(0.01)
        die()

Outbox.publish = publish
""",
    # The event is published, and still in the outbox: it is published again.
    "before_removal": "from orders import app\nSqliteOutbox.remove = die",
    # The parcel is committed, the message is not acked: it comes again.
    "before_ack": "from shipping import app\nSqliteSeenStore.put = die",
}


class Services:
    """Processes in one folder.

    Args:
        folder: of their files.
        url: of their broker.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.environ = {**os.environ, "BROKER": url, "PYTHONPATH": str(FOLDER), "PYTHONDONTWRITEBYTECODE": "1"}
        head = "import os, signal\nimport anyio\nfrom microkit_workers import *\n\ndef die(*args, **options):\n"
        for name, source in KILLERS.items():
            (folder / f"{name}.py").write_text(f"{head}    os.kill(os.getpid(), signal.SIGKILL)\n\n{source}\n")

    @contextmanager
    def running(self, module: str) -> Any:
        """A service, until the block ends; by SIGTERM, unless it ended before."""
        output = self.folder / f"{module}.log"
        before = len(output.read_text()) if output.exists() else 0
        with output.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "microkit", "run", f"{module}:app"],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            until(lambda: "consuming" in output.read_text()[before:] or process.poll() is not None, output)
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0, output.read_text()
        finally:
            process.kill()
            process.wait()

    def place(self, *items: str) -> str:
        """What `place.py` says."""
        done = subprocess.run(
            [sys.executable, FOLDER / "place.py", *items],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, database: str, query: str) -> list[Any]:
        """What is in a database; nothing, if it has no such table yet."""
        try:
            with closing(sqlite3.connect(self.folder / f"{database}.db", timeout=60)) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.OperationalError as exc:
            if "no such table" not in str(exc):
                raise
            return []

    def parcels(self) -> list[Any]:
        return self.rows("shipping", "SELECT number, item FROM parcels ORDER BY number, item")

    def waiting(self) -> int:
        """Events in the outbox."""
        return len(self.rows("orders", "SELECT number FROM microkit_outbox"))


def until(condition: Callable[[], Any], output: Path) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, output.read_text()
        time.sleep(0.02)


def killed(process: subprocess.Popen[bytes]) -> bool:
    return process.wait(PATIENCE) == -signal.SIGKILL


@pytest.mark.feature("FX-13")
@pytest.mark.guarantee("G8")
def test_killed_at_the_worst_moments_nothing_is_lost_and_nothing_is_done_twice(tmp_path: Path) -> None:
    run_example(f"sqlite:///{tmp_path}/broker.db?lease=5", tmp_path, 6.5)


def run_example(url: str, folder: Path, lease: float = 2.5) -> None:
    """Place orders, kill the services, and count the parcels.

    Args:
        url: of the broker.
        folder: of the services' files.
        lease: seconds after which what a killed service held has come again for sure.
    """
    services = Services(folder, url)
    log = folder / "shipping.log"
    with services.running("shipping"), services.running("orders"):
        assert services.place("tea", "cup") == "order 1: tea\norder 2: cup\n"
        until(lambda: len(services.parcels()) == 2 and not services.waiting(), log)

    with ExitStack() as stack:
        shipping = stack.enter_context(services.running("shipping"))
        with services.running("before_publishing") as orders:
            assert services.place("pot") == "order 3: pot\n"
            (folder / "placed").touch()
            assert killed(orders)
        assert services.waiting() == 1
        assert (3, "pot") not in services.parcels()
        with services.running("before_removal") as orders:  # what is left is published at its start
            assert killed(orders)
        until(lambda: (3, "pot") in services.parcels(), log)
        assert services.waiting() == 1
        with services.running("orders"):
            until(lambda: not services.waiting(), log)
            assert services.place("can") == "order 4: can\n"
            until(lambda: (4, "can") in services.parcels(), log)
        assert shipping.poll() is None

    with services.running("before_ack") as shipping, services.running("orders"):
        assert services.place("jar") == "order 5: jar\n"
        assert killed(shipping)
    assert (5, "jar") in services.parcels()
    with services.running("shipping"), services.running("orders"):
        assert services.place("mug") == "order 6: mug\n"
        until(lambda: (6, "mug") in services.parcels(), log)
        time.sleep(lease)
    items = ["tea", "cup", "pot", "can", "jar", "mug"]
    assert services.parcels() == list(enumerate(items, 1))
