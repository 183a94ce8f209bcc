"""Handlers that hang, on a real RabbitMQ under a thousand messages: what becomes of theirs, of the others, and of the
service when it is told to end.

Nothing comes twice: who hangs has not done anything, and what it hangs at comes again only after it was answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rabbitmq.node import Rabbit

from .ledger import ALL, QUEUE, declare, fill, left
from .program import Program

HANGING = {f"m{number}" for number in (100, 300, 500)}
WORKERS = {"async": 20, "thread": 20, "process": 4}
GOOD = ALL - HANGING
_SHUTDOWN, _TEARDOWN = 2, 1

pytestmark = [pytest.mark.feature("FX-09"), pytest.mark.guarantee("G8")]

SOURCE = """
workers = {{"broker": os.environ["BROKER"]}}
bounds = {{"shutdown_timeout": {shutdown}, "teardown_timeout": {teardown}}}
app = App(name="svc", settings={{"workers": workers, "app": bounds}})
context = RunnerContext([], "{mode}", {count})

@context.on(Event("shop", "order"), retry=Backoff(1, 0.05){options})
{define} handle(payload: str, message: Message):
    if payload == "hang" and not os.path.exists("mended"):
        note("hang", message.message_id)
        {hang}
    note("done", message.message_id)

app.include(context)
"""

SYNC = ("def", "time.sleep(1000)")
COROUTINE = ("async def", "await anyio.sleep_forever()")
DEAF = ("async def", "with anyio.CancelScope(shield=True): await anyio.sleep_forever()")


def source(mode: str, handler: tuple[str, str], options: str = "") -> str:
    define, hang = handler
    return SOURCE.format(
        mode=mode,
        count=WORKERS[mode],
        options=options,
        define=define,
        hang=hang,
        shutdown=_SHUTDOWN,
        teardown=_TEARDOWN,
    )


def stop(program: Program) -> None:
    """End a service by SIGTERM, in bounded time: those who hang would go on for ever."""
    began = time.monotonic()
    assert program.stop() == 0, program.output
    assert time.monotonic() - began < _SHUTDOWN + _TEARDOWN + 20


@pytest.mark.guarantee("G10")
@pytest.mark.parametrize(("mode", "handler"), [("async", COROUTINE), ("thread", SYNC), ("process", SYNC)])
def test_with_a_deadline_their_messages_are_retried_and_dead_by_policy(
    service: Callable[..., Program], rabbit: Rabbit, vhost: str, url: str, mode: str, handler: tuple[str, str]
) -> None:
    declare(url, 20)
    fill(url, dict.fromkeys(HANGING, "hang"))
    program = service(source(mode, handler, ", timeout=1"))
    program.until(lambda: program.of("done").keys() >= GOOD and len(left(url)[1]) == len(HANGING))
    rabbit.until_left(vhost, QUEUE, 0)
    stop(program)  # a thread that still hangs costs no more than the end of its process
    # A machine that stands still for a second ends runs by their deadline as well, before or after they did their part.
    hang, done = program.of("hang"), program.of("done")
    assert (hang.keys(), done.keys()) == (HANGING, GOOD)
    assert max(*hang.values(), *done.values()) <= 2
    assert done.total() - len(GOOD) < 100
    ready, letters = left(url)
    assert ready == 0
    assert {each.message.message_id: each.attempts for each in letters} == dict.fromkeys(HANGING, 2)
    assert all("DEADLINE_EXCEEDED" in each.reason for each in letters)


@pytest.mark.feature("F002-50")
@pytest.mark.guarantee("G11")
@pytest.mark.parametrize(
    ("mode", "handler"),
    [("async", COROUTINE), ("async", DEAF), ("thread", SYNC), ("process", SYNC)],
    ids=["async", "deaf", "thread", "process"],
)
def test_without_a_deadline_the_others_go_on_and_the_stop_gives_their_messages_back(
    service: Callable[..., Program],
    rabbit: Rabbit,
    vhost: str,
    url: str,
    tmp_path: Path,
    mode: str,
    handler: tuple[str, str],
) -> None:
    declare(url, 20)
    fill(url, dict.fromkeys(HANGING, "hang"))
    program = service(source(mode, handler))
    program.until(lambda: program.of("done").keys() >= GOOD and program.of("hang").keys() == HANGING)
    rabbit.until_left(vhost, QUEUE, len(HANGING))  # the others are acked
    stop(program)
    program.until(lambda: left(url) == (len(HANGING), []), alive=False)
    (tmp_path / "mended").touch()
    program.start()
    program.until(lambda: program.of("done").keys() == ALL)
    rabbit.until_left(vhost, QUEUE, 0)
    assert program.stop() == 0, program.output
    assert program.of("done") == dict.fromkeys(ALL, 1)
    assert program.of("hang") == dict.fromkeys(HANGING, 1)
    assert left(url) == (0, [])


BUSY = """
workers = {"broker": os.environ["BROKER"]}
app = App(name="svc", settings={"workers": workers, "amqp": {"heartbeat": 1}})
context = RunnerContext([], "MODE", 2)

@context.on(Event("shop", "order"))
def handle(payload: str, message: Message):
    note("begun", message.message_id)
    time.sleep(4)
    note("done", message.message_id)

app.include(context)
"""


@pytest.mark.feature("F002-49")
@pytest.mark.parametrize("mode", ["thread", "process"])
def test_heartbeats_go_on_while_all_workers_are_busy(
    service: Callable[..., Program], rabbit: Rabbit, vhost: str, url: str, mode: str
) -> None:
    program = service(BUSY.replace("MODE", mode))
    program.until(lambda: program.says("consuming"))
    # RabbitMQ gives up on a connection after two intervals of one second. A machine that stands still may cost one, and
    # workers that are busy would cost one each time.
    for _ in range(5):
        lost, done = program.says("is lost"), program.of("done").total()
        fill(url, count=2)
        program.until(lambda done=done: program.of("done").total() >= done + 2)
        rabbit.until_left(vhost, QUEUE, 0)
        if program.says("is lost") == lost:
            break
    assert program.of("done").total() == done + 2
    assert program.says("is lost") == lost
    assert program.stop() == 0, program.output
    assert left(url) == (0, [])
