"""Handlers that hang, on a real RabbitMQ under a thousand messages: what becomes of theirs, of the others, and of the
service when it is told to end.

Nothing comes twice: who hangs has not done anything, and what it hangs at comes again only after it was answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .ledger import ALL, declare, fill, left
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


def stopped(program: Program) -> float:
    """End a service by SIGTERM; how many seconds that took."""
    began = time.monotonic()
    assert program.stop() == 0, program.output
    return time.monotonic() - began


@pytest.mark.guarantee("G10")
@pytest.mark.parametrize(("mode", "handler"), [("async", COROUTINE), ("thread", SYNC), ("process", SYNC)])
def test_with_a_deadline_their_messages_are_retried_and_dead_by_policy(
    service: Callable[..., Program], url: str, mode: str, handler: tuple[str, str]
) -> None:
    declare(url, 20)
    fill(url, dict.fromkeys(HANGING, "hang"))
    program = service(source(mode, handler, ", timeout=1"))
    program.until(lambda: program.of("done").keys() >= GOOD and len(left(url)[1]) == len(HANGING))
    assert program.of("hang") == dict.fromkeys(HANGING, 2)
    # A thread that still hangs costs no more than the end of its process.
    assert stopped(program) < _SHUTDOWN + _TEARDOWN + 4
    assert program.of("done") == dict.fromkeys(GOOD, 1)
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
    service: Callable[..., Program], url: str, tmp_path: Path, mode: str, handler: tuple[str, str]
) -> None:
    declare(url, 20)
    fill(url, dict.fromkeys(HANGING, "hang"))
    program = service(source(mode, handler))
    program.until(lambda: program.of("done").keys() >= GOOD and program.of("hang").keys() == HANGING)
    assert stopped(program) < _SHUTDOWN + _TEARDOWN + 6
    assert left(url) == (len(HANGING), [])
    (tmp_path / "mended").touch()
    program.start()
    program.until(lambda: program.of("done").keys() == ALL)
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
def test_heartbeats_go_on_while_all_workers_are_busy(service: Callable[..., Program], url: str, mode: str) -> None:
    program = service(BUSY.replace("MODE", mode))
    program.until(lambda: "consuming" in program.output)
    fill(url, count=2)
    program.until(lambda: len(program.of("begun")) == 2)
    # RabbitMQ gives up on a connection after two intervals of one second.
    program.until(lambda: len(program.of("done")) == 2)
    assert program.stop() == 0
    assert program.of("done").total() == 2
    assert "lost" not in program.output
    assert left(url) == (0, [])
