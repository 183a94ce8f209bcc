"""The broker in a file under several processes, some of which are killed: judged by a ledger outside of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from microkit.broker import OutgoingMessage, QueueSpec
from microkit_workers import SqliteBroker
from microkit_workers.brokers.options import SqliteOptions
from microkit_workers.conformance import Inbox, eventually

pytestmark = [pytest.mark.feature("FX-08"), pytest.mark.feature("FX-09"), pytest.mark.guarantee("G8")]

_PROGRAM = Path(__file__).with_name("consumer_program.py")
_FULL_DISK = Path(__file__).with_name("full_disk_program.py")
_LIMIT = 4


class Consumers:
    """Consumer processes and their ledger.

    Attributes:
        lease: of all of them, in seconds; what a killed one had comes again after it.
    """

    lease = 4.0

    def __init__(self, folder: Path) -> None:
        self.path = folder / "work.db"
        self.ledger = folder / "ledger"
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, prefetch: int, seconds: float = 0.0) -> subprocess.Popen[bytes]:
        url = f"sqlite:///{self.path}?synchronous=normal&lease={self.lease}&delivery_limit={_LIMIT}"
        arguments = [url, str(self.ledger), str(prefetch), str(seconds)]
        process = subprocess.Popen([sys.executable, str(_PROGRAM), *arguments])
        self.running.append(process)
        return process

    def begun(self) -> list[tuple[str, str]]:
        """Process and body of every message that was begun."""
        if not self.ledger.exists():
            return []
        whole = self.ledger.read_text().rpartition("\n")[0]  # the processes go on writing
        return [tuple(line.split(" ", 1)) for line in whole.splitlines()]  # type: ignore[misc]

    @asynccontextmanager
    async def broker(self) -> AsyncGenerator[SqliteBroker, None]:
        options = SqliteOptions(synchronous="normal", lease=self.lease, delivery_limit=_LIMIT)
        broker = SqliteBroker(self.path, options)
        await broker.connect()
        await (await Inbox().on(broker, QueueSpec("work"))).cancel()
        yield broker
        await broker.close()


@pytest.fixture
def consumers(tmp_path: Path) -> Iterator[Consumers]:
    found = Consumers(tmp_path)
    yield found
    for process in found.running:
        process.kill()
        process.wait()


async def drained(broker: SqliteBroker) -> bool:
    """Whether nothing is left to do."""
    state = await broker.state("work")
    return not state.ready and not state.unsettled


async def test_a_thousand_messages_survive_kills_and_only_those_in_flight_come_twice(consumers: Consumers) -> None:
    prefetch, kills, count = 10, 3, 1000
    async with consumers.broker() as broker:
        for number in range(count):
            await broker.send("work", OutgoingMessage(b"%d" % number))
        process = consumers.start(prefetch, 0.001)
        for kill in range(1, kills + 1):
            await eventually(lambda wanted=kill * 150: len(consumers.begun()) >= wanted, 60)
            await anyio.sleep(random.random() * 0.05)
            process.send_signal(signal.SIGKILL)
            process = consumers.start(prefetch, 0.001)
        await eventually(lambda: len({body for _, body in consumers.begun()}) == count, 60)
        await eventually(lambda: drained(broker), 60)
        assert (await broker.state("work")).dead == 0
    counted = Counter(body for _, body in consumers.begun())
    assert set(counted) == {str(number) for number in range(count)}
    assert sum(counted.values()) - count <= kills * prefetch


async def test_two_processes_share_the_messages(consumers: Consumers) -> None:
    async with consumers.broker() as broker:
        for _ in range(2):
            consumers.start(2, 0.005)
        async with anyio.create_task_group() as tasks:
            for number in range(300):
                tasks.start_soon(broker.send, "work", OutgoingMessage(b"%d" % number))
        await eventually(lambda: len(consumers.begun()) >= 300, 60)
        await eventually(lambda: drained(broker), 60)
    begun = consumers.begun()
    assert sorted(int(body) for _, body in begun) == list(range(300))


async def test_a_message_of_another_process_is_seen_soon(consumers: Consumers) -> None:
    async with consumers.broker() as broker:
        consumers.start(1)
        await broker.send("work", OutgoingMessage(b"first"))
        await eventually(lambda: len(consumers.begun()) == 1)
        waits: list[float] = []
        for number in range(5):
            await anyio.sleep(0.3)  # so that it has become idle
            start = time.perf_counter()
            await broker.send("work", OutgoingMessage(b"%d" % number))
            await eventually(lambda wanted=number + 2: len(consumers.begun()) == wanted, interval=0.001)
            waits.append(time.perf_counter() - start)
        assert min(waits) < 1.0, waits


@pytest.mark.feature("FX-10")
async def test_a_message_that_kills_its_consumers_is_isolated_and_nothing_else_is(consumers: Consumers) -> None:
    consumers.lease = 2.0
    async with consumers.broker() as broker:
        await broker.send("work", OutgoingMessage(b"good 0"))
        await broker.send("work", OutgoingMessage(b"poison"))
        for number in range(1, 20):
            await broker.send("work", OutgoingMessage(b"good %d" % number))
        crashes = 0
        process = consumers.start(10)

        async def restart() -> None:
            nonlocal process, crashes
            while True:
                await anyio.sleep(0.05)
                if process.poll() is not None:
                    crashes += 1
                    process = consumers.start(10)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(restart)
            await eventually(lambda: len({body for _, body in consumers.begun()}) == 21, 60)
            await eventually(lambda: drained(broker), 60)
            tasks.cancel_scope.cancel()
        letters = [letter async for letter in broker.dead_letters("work")]
        assert [(letter.message.body, letter.reason) for letter in letters] == [(b"poison", "delivery limit")]
        assert crashes == _LIMIT + 1


@pytest.mark.skipif(os.name != "posix", reason="the limit of file sizes is POSIX's")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_on_a_full_disk_publishing_fails_clearly_and_answers_wait(tmp_path: Path, backend: str) -> None:
    command = [sys.executable, str(_FULL_DISK), str(tmp_path / "work.db"), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.startswith("refused: UNAVAILABLE The message broker cannot work:")]) == 3
    assert lines[3:] == [
        "no copy: UNAVAILABLE",
        "acked on a full disk: False",
        "acked after it: True",
        "accepted and consumed: True",
    ]
    assert str(tmp_path) not in done.stdout
    assert str(tmp_path) in done.stderr  # the log names the file, the error of callers does not
