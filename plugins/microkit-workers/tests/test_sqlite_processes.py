"""The broker in a file under several processes, some of which are killed: judged by a ledger outside of it."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from microkit.broker import OutgoingMessage, QueueSpec
from microkit_workers import SqliteBroker
from microkit_workers.brokers.options import SqliteOptions
from microkit_workers.conformance import Inbox, eventually, sometimes

pytestmark = [pytest.mark.feature("FX-08"), pytest.mark.feature("FX-09"), pytest.mark.guarantee("G8")]

_PROGRAM = Path(__file__).with_name("consumer_program.py")
_FULL_DISK = Path(__file__).with_name("full_disk_program.py")
# No lease runs out of itself, however long the machine stands still: `end` ends those of processes that are dead.
_OPTIONS = SqliteOptions(synchronous="normal", lease=600.0, delivery_limit=4, busy_timeout=60.0)
_URL = "sqlite:///{}?synchronous=normal&lease={}&delivery_limit=4&busy_timeout=60"


class Consumers:
    """Consumer processes and their ledger."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "work.db"
        self.ledger = folder / "ledger"
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, prefetch: int, seconds: float = 0.0, lease: float = _OPTIONS.lease) -> subprocess.Popen[bytes]:
        arguments = [_URL.format(self.path, lease), str(self.ledger), str(prefetch), str(seconds)]
        process = subprocess.Popen([sys.executable, str(_PROGRAM), *arguments])
        self.running.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End the lease of the only consumer, which is dead or is killed."""
        process.kill()
        process.wait()
        with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as raw:
            raw.execute("UPDATE sessions SET alive_until = 0 WHERE id > (SELECT min(id) FROM sessions)")

    def begun(self) -> list[tuple[str, str]]:
        """Process and body of every message that was begun."""
        if not self.ledger.exists():
            return []
        whole = self.ledger.read_text().rpartition("\n")[0]  # the last line may be on its way
        return [tuple(line.split(" ", 1)) for line in whole.splitlines()]  # type: ignore[misc]

    @asynccontextmanager
    async def broker(self, lease: float = _OPTIONS.lease) -> AsyncGenerator[SqliteBroker, None]:
        broker = SqliteBroker(self.path, replace(_OPTIONS, lease=lease))
        await broker.connect()
        await (await Inbox().on(broker, QueueSpec("work"))).cancel()
        yield broker
        await broker.close()


async def _drained(broker: SqliteBroker) -> None:
    async def nothing_left() -> bool:
        state = await broker.state("work")
        return not state.ready and not state.unsettled

    await eventually(nothing_left, 120)


@pytest.fixture
def consumers(tmp_path: Path) -> Iterator[Consumers]:
    found = Consumers(tmp_path)
    yield found
    for process in found.running:
        process.kill()
        process.wait()


async def test_a_thousand_messages_survive_kills_and_only_those_in_flight_come_twice(consumers: Consumers) -> None:
    prefetch, kills, count = 10, 3, 1000
    async with consumers.broker() as broker:
        for number in range(count):
            await broker.send("work", OutgoingMessage(b"%d" % number))
        process = consumers.start(prefetch, 0.001)
        for kill in range(1, kills + 1):
            await eventually(lambda wanted=kill * 150: len(consumers.begun()) >= wanted, 120)
            await anyio.sleep(random.random() * 0.05)
            consumers.end(process)
            process = consumers.start(prefetch, 0.001)
        await eventually(lambda: len({body for _, body in consumers.begun()}) == count, 120)
        await _drained(broker)
        assert (await broker.state("work")).dead == 0
    counted = Counter(body for _, body in consumers.begun())
    assert set(counted) == {str(number) for number in range(count)}
    assert sum(counted.values()) - count <= kills * prefetch


async def test_what_a_killed_process_held_comes_again_when_its_lease_is_over(consumers: Consumers) -> None:
    # The second broker is there to look after the leases of others, which it does as often as its own asks for.
    async with consumers.broker() as broker, consumers.broker(1.0):
        await broker.send("work", OutgoingMessage(b"x"))
        process = consumers.start(1, 3600, lease=1.0)
        await eventually(lambda: len(consumers.begun()) == 1)
        process.kill()
        process.wait()
        consumers.start(1)
        await eventually(lambda: len({pid for pid, _ in consumers.begun()}) == 2)
        await _drained(broker)


async def test_two_processes_share_the_messages(consumers: Consumers) -> None:
    async with consumers.broker() as broker:
        for _ in range(2):
            consumers.start(2, 0.005)
        async with anyio.create_task_group() as tasks:
            for number in range(300):
                tasks.start_soon(broker.send, "work", OutgoingMessage(b"%d" % number))
        await eventually(lambda: len(consumers.begun()) >= 300, 120)
        await _drained(broker)
    begun = consumers.begun()
    assert sorted(int(body) for _, body in begun) == list(range(300))


async def test_a_message_of_another_process_is_seen_soon(consumers: Consumers) -> None:
    async with consumers.broker() as broker:
        consumers.start(1)
        await broker.send("work", OutgoingMessage(b"first"))
        await eventually(lambda: len(consumers.begun()) == 1)

        async def attempt() -> bool:
            await anyio.sleep(0.3)  # so that it has become idle
            count, start = len(consumers.begun()), time.perf_counter()
            await broker.send("work", OutgoingMessage(b"next"))
            await eventually(lambda: len(consumers.begun()) > count, interval=0.001)
            return time.perf_counter() - start < 0.1

        await sometimes(attempt)


@pytest.mark.feature("FX-10")
async def test_a_message_that_kills_its_consumers_is_isolated_and_nothing_else_is(consumers: Consumers) -> None:
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
                    consumers.end(process)
                    process = consumers.start(10)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(restart)
            await eventually(lambda: len({body for _, body in consumers.begun()}) == 21, 120)
            await _drained(broker)
            tasks.cancel_scope.cancel()
        letters = [letter async for letter in broker.dead_letters("work")]
        assert [(letter.message.body, letter.reason) for letter in letters] == [(b"poison", "delivery limit")]
        assert crashes == _OPTIONS.delivery_limit + 1


@pytest.mark.skipif(os.name != "posix", reason="the limit of file sizes is POSIX's")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_on_a_full_disk_publishing_fails_clearly_and_answers_wait(tmp_path: Path, backend: str) -> None:
    command = [sys.executable, str(_FULL_DISK), str(tmp_path / "work.db"), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
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
