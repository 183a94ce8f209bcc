"""Faults on a real RabbitMQ under a thousand messages, with a ledger of effects outside of it.

Nothing that was confirmed is lost. What may come twice is what was delivered and not answered when the fault struck: at
most the prefetch of the queue for each fault.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from microkit_amqp import AmqpBroker
from tests.rabbitmq.node import private_rabbit

from .ledger import ALL, COUNT, PREFETCH, QUEUE, check, declare, fill, left
from .program import Program

pytestmark = [pytest.mark.feature("FX-09"), pytest.mark.guarantee("G8")]

ASYNC = f"""
app = App(
    name="svc",
    settings={{
        "workers": {{"broker": os.environ["BROKER"], "max_workers": {PREFETCH}, "connect_patience": -1}},
        "amqp": {{"delivery_limit": 3}},
        "app": {{"shutdown_timeout": 30}},
    }},
)

@app.on(Event("shop", "order"), retry=Backoff(3, 0.05))
async def handle(payload: str, message: Message):
    if payload == "poison":
        note("crash", message.message_id)
        os.kill(os.getpid(), signal.SIGKILL)
    await anyio.sleep(0.02)
    note("done", message.message_id)
"""

CHILDREN = """
app = App(name="svc", settings={"workers": {"broker": os.environ["BROKER"]}, "app": {"shutdown_timeout": 30}})
context = RunnerContext([], "process", 4)

@context.on(Event("shop", "order"), retry=Backoff(2, 0.05))
def handle(payload: str, message: Message):
    if payload == "poison":
        note("crash", message.message_id)
        os.kill(os.getpid(), signal.SIGKILL)
    note("pid", os.getpid(), os.getppid())
    time.sleep(0.002)
    note("done", message.message_id)

app.include(context)
"""


def test_killed_services_lose_nothing(service: Callable[..., Program], url: str) -> None:
    declare(url)
    fill(url)
    program = service(ASYNC)
    for mark in (200, 500):
        program.until(lambda mark=mark: len(program.of("done")) >= mark)
        program.kill()
        program.start()
    check(program, url, 2)


def test_cut_connections_lose_nothing(
    service: Callable[..., Program], rabbit: Any, vhost: str, url: str, proxy: Any
) -> None:
    declare(url)
    fill(url)
    program = service(ASYNC, at=rabbit.url(vhost, proxy.port))
    for mark in (150, 350, 550):
        program.until(lambda mark=mark: len(program.of("done")) >= mark)
        proxy.cut()
    check(program, url, 3)


def test_a_killed_broker_loses_nothing(tmp_path: Path, service: Callable[..., Program]) -> None:
    (tmp_path / "node").mkdir()
    with private_rabbit(tmp_path / "node") as rabbit:
        url = f"amqp://guest:guest@127.0.0.1:{rabbit.port}/"
        declare(url)
        rabbit.write_declarations()
        fill(url)
        program = service(ASYNC, at=url)
        program.until(lambda: len(program.of("done")) >= 200)
        rabbit.stop(kill=True)
        rabbit.start()
        check(program, url, 1)


def test_a_service_that_is_told_to_end_answers_all_that_it_took(service: Callable[..., Program], url: str) -> None:
    declare(url)
    fill(url)
    program = service(ASYNC)
    for mark in (200, 500):
        program.until(lambda mark=mark: len(program.of("done")) >= mark)
        assert program.stop() == 0, program.output
        program.start()
    assert check(program, url, 0) == 0


@pytest.mark.feature("F002-18")
@pytest.mark.feature("FX-10")
def test_killed_children_lose_nothing_and_poison_is_isolated(service: Callable[..., Program], url: str) -> None:
    declare(url, 20)
    fill(url, {"m400": "poison"})
    program = service(CHILDREN)
    killed: set[str] = set()
    for mark in (100, 300, 500):
        program.until(lambda mark=mark: len(program.of("done")) >= mark)
        program.until(lambda: kill_child(program, killed))
    good = ALL - {"m400"}
    program.until(lambda: program.of("done").keys() >= good)
    program.until(lambda: len(left(url)[1]) == 1)
    assert program.stop() == 0, program.output
    done = program.of("done")
    assert done.keys() == good
    assert done.total() - len(good) <= len(killed), "a kill costs the one message that ran there"
    ready, (letter,) = left(url)
    assert (ready, letter.message.message_id, letter.attempts) == (0, "m400", 3)
    assert "SIGKILL" in letter.reason
    crashes = program.of("crash")
    assert crashes.keys() == {"m400"}
    assert 3 - len(killed) <= crashes.total() <= 3, "one of these kills may have come before its own"


def kill_child(program: Program, killed: set[str]) -> bool:
    """Kill the child that noted something last; not one that has just killed itself."""
    for line in reversed(program.lines()):
        if line[0] == "pid" and line[1] not in killed:
            try:
                os.kill(int(line[1]), signal.SIGKILL)
            except ProcessLookupError:
                return False
            killed.add(line[1])
            return True
    return False


@pytest.mark.feature("FX-10")
def test_a_message_that_kills_its_service_is_isolated_within_the_delivery_limit(
    service: Callable[..., Program], url: str
) -> None:
    declare(url)
    fill(url, {"m100": "poison"})
    program = service(ASYNC)
    starts = 1
    while True:
        program.until(lambda: not program.runs or len(settled(program, url)) == COUNT, alive=False)
        if program.runs:
            break
        starts += 1
        assert starts <= 6, "the message is not isolated"
        program.kill()
        program.start()
    assert program.of("crash") == {"m100": 4}
    letters = left(url)[1]
    assert "delivery_limit" in letters[0].reason
    # The broker cannot tell which of the messages that were under way ends the process, so the others go along.
    dead = {each.message.message_id for each in letters}
    assert "m100" in dead
    assert len(dead) == len(letters) <= PREFETCH
    anyio.run(redrive, url, frozenset(dead - {"m100"}))
    program.until(lambda: program.of("done").keys() == ALL - {"m100"})
    assert program.stop() == 0, program.output
    ready, letters = left(url)
    assert (ready, [each.message.message_id for each in letters]) == (0, ["m100"])
    assert program.of("done").total() - (COUNT - 1) <= 4 * PREFETCH


def settled(program: Program, url: str) -> set[str | None]:
    """The messages that are done or dead."""
    done: set[str | None] = set(program.of("done"))
    return done if len(done) < COUNT - PREFETCH else done | {each.message.message_id for each in left(url)[1]}


async def redrive(url: str, ids: frozenset[str]) -> None:
    """Put dead letters back."""
    broker = AmqpBroker(url)
    await broker.connect()
    assert await broker.redrive(QUEUE, ids) == len(ids)
    await broker.close()
