"""RabbitMQ low on memory or disk, under a thousand messages: it takes no messages until that is over.

What is published meanwhile waits, and fails clearly after a bounded time; consuming goes on; nothing is lost. What was
on its way when the alarm began may come twice, since it is taken only after its publisher has given it up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from microkit.broker import OutgoingMessage
from microkit.errors import PublicError, StatusCode
from microkit_amqp import AmqpBroker, AmqpSettings
from tests.rabbitmq.node import Rabbit

from .ledger import ALL, QUEUE, declare, fill, left
from .program import Program

TELLING = {f"m{number}" for number in range(50, 1000, 100)}
FAILING = {f"m{number}" for number in range(0, 1000, 200)}
GOOD = ALL - TELLING - FAILING

pytestmark = [pytest.mark.feature("FX-09"), pytest.mark.guarantee("G8")]

SOURCE = """
settings = {
    "workers": {"broker": os.environ["BROKER"], "max_workers": 20},
    "amqp": {"publish_timeout": 2, "delivery_limit": 3},
    "app": {"shutdown_timeout": 3, "teardown_timeout": 3},
}
app = App(name="svc", settings=settings)

@app.on(Event("shop", "order"), retry=Backoff(50, 0.2))
@inject(producer=Producer())
async def handle(payload: str, message: Message, attempt: Attempt, producer):
    if payload == "tell":
        note("tells", message.message_id)
        await producer("told", message.message_id)
    if payload == "fail" and attempt.number == 1:
        note("fails", message.message_id)
        raise ConnectionError("once")
    note("done", message.message_id)

@app.on(Event("svc", "told"))
async def told(payload: str):
    note("told", payload)
"""

ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", "1000000GB"), ("set_disk_free_limit", "10MB")),
}


class Alarm:
    """An alarm of the node.

    Args:
        rabbit: the node.
        kind: key of `ALARMS`.
    """

    def __init__(self, rabbit: Rabbit, kind: str) -> None:
        self._rabbit = rabbit
        self._raise, self._clear = ALARMS[kind]

    def begin(self) -> None:
        self._rabbit.ctl(*self._raise)

    def end(self) -> None:
        self._rabbit.ctl(*self._clear)


@pytest.fixture(params=ALARMS)
def alarm(request: pytest.FixtureRequest, rabbit: Rabbit) -> Generator[Alarm]:
    alarm = Alarm(rabbit, request.param)
    yield alarm
    alarm.end()


def test_consuming_goes_on_and_what_is_published_meanwhile_arrives_later(
    service: Callable[..., Program], rabbit: Rabbit, vhost: str, url: str, alarm: Alarm
) -> None:
    declare(url, 3)
    fill(url, {**dict.fromkeys(TELLING, "tell"), **dict.fromkeys(FAILING, "fail")})
    alarm.begin()
    program = service(SOURCE)
    program.until(lambda: program.of("done").keys() >= GOOD)
    program.until(lambda: program.of("tells").keys() == TELLING and program.of("fails").keys() == FAILING)
    program.until(lambda: program.says("low on memory or disk; publishing waits"))
    assert program.of("done").keys() == GOOD
    assert not program.of("told")

    def runs() -> int:
        return program.of("tells").total() + program.of("fails").total()

    def stays() -> bool:
        """Each of these messages waits for the end of the alarm, and does not run again and again."""
        before = runs()
        time.sleep(6)
        return runs() == before

    program.until(stays)
    # Who gave up before the service knew of the alarm has run once more.
    assert runs() <= 2 * len(TELLING | FAILING)
    alarm.end()
    program.until(lambda: program.of("done").keys() == ALL and program.of("told").keys() == TELLING)
    program.until(lambda: program.says("publishing to RabbitMQ"))
    time.sleep(1)  # what comes twice comes soon
    rabbit.until_left(vhost, QUEUE, 0)
    assert program.stop() == 0, program.output
    assert left(url) == (0, [])
    done = program.of("done")
    assert all(done[each] == 1 for each in GOOD)
    # The first ones to publish learn of the alarm by it, and what they sent is taken after it.
    assert done.total() - len(ALL) <= 20
    assert program.of("told").total() - len(TELLING) <= 20


def test_a_service_ends_in_bounded_time_during_an_alarm(
    service: Callable[..., Program], rabbit: Rabbit, vhost: str, url: str, alarm: Alarm
) -> None:
    declare(url, 3)
    fill(url, {**dict.fromkeys(TELLING, "tell"), **dict.fromkeys(FAILING, "fail")})
    alarm.begin()
    program = service(SOURCE)
    program.until(lambda: program.of("done").keys() >= GOOD)
    rabbit.until_left(vhost, QUEUE, len(TELLING | FAILING))  # the others are acked, too
    began = time.monotonic()
    assert program.stop() == 0, program.output
    assert time.monotonic() - began < 30  # the alarm does not end
    alarm.end()
    program.start()
    program.until(lambda: program.of("done").keys() == ALL and program.of("told").keys() == TELLING)
    rabbit.until_left(vhost, QUEUE, 0)
    assert program.stop() == 0, program.output
    assert all(program.of("done")[each] == 1 for each in GOOD)
    assert left(url) == (0, [])


@pytest.mark.anyio
async def test_publishing_waits_or_fails_with_the_reason(url: str, alarm: Alarm, anyio_backend: Any) -> None:
    brokers = [AmqpBroker(url, AmqpSettings(publish_timeout=seconds)) for seconds in (1.0, 60.0)]
    impatient, patient = brokers
    await anyio.to_thread.run_sync(declare, url)
    sent = 0
    for each in brokers:
        await each.connect()
        sent += await attempts_to_send(each, b'"before"')
    await anyio.to_thread.run_sync(alarm.begin)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(patient.send, QUEUE, OutgoingMessage(b'"patient"'))
        reason, late = "", 0
        while "low on memory or disk" not in reason:
            reason = await why_not_sent(impatient)
            late += 1
            assert late < 20
        for _ in range(2):
            assert "low on memory or disk" in await why_not_sent(impatient)
        await anyio.to_thread.run_sync(alarm.end)
    sent += 1 + await attempts_to_send(impatient, b'"after"')
    state = await patient.state(QUEUE)
    # Of those that were given up only the first had been sent: by it the connection learnt of the alarm.
    assert 4 <= state.ready <= sent + late
    for each in brokers:
        await each.close()


async def attempts_to_send(broker: AmqpBroker, body: bytes) -> int:
    """Send a message, again if it is not confirmed in time; how often."""
    for attempt in range(1, 20):
        try:
            await broker.send(QUEUE, OutgoingMessage(body))
        except PublicError:
            continue
        return attempt
    raise TimeoutError


async def why_not_sent(broker: AmqpBroker) -> str:
    """The error of a message that is given up long before this takes its patience."""
    with anyio.fail_after(30), pytest.raises(PublicError) as caught:
        await broker.send(QUEUE, OutgoingMessage(b'"late"'))
    assert caught.value.status is StatusCode.UNAVAILABLE
    return str(caught.value)
