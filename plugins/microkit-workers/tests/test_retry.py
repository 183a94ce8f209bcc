"""Retries: policies on their own, on every broker, and for timers."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from microkit import (
    App,
    BadRequest,
    ConfigurationError,
    Event,
    Every,
    Message,
    NotFound,
    PublicError,
    Reply,
    StatusCode,
    Tick,
    ValidationError,
    inject,
)
from microkit.broker import FIRST_SEEN
from microkit.settlement import Verdict
from microkit_testkit import FakeClock, TestClient, settle
from microkit_workers import (
    AsyncBackOff,
    Attempt,
    Backoff,
    BackOffData,
    ConstantInterval,
    EventListener,
    ExponentialInterval,
    LinearInterval,
    Route,
    RunnerContext,
)

MakeApp = Callable[..., App]


def failed(error: Exception, attempt: int = 1, **headers: Any) -> tuple[Message, Reply]:
    status = error.status if isinstance(error, PublicError) else StatusCode.INTERNAL
    return Message(attempt=attempt, headers=headers), Reply(status=status, error=error)


@pytest.mark.feature("F002-37")
def test_intervals_grow_as_they_say() -> None:
    def pauses(interval: Any) -> list[float]:
        return [Backoff(0, interval)(*failed(OSError(), number)).delay for number in (1, 2, 3, 4)]  # type: ignore[misc]

    assert pauses(2) == [2, 2, 2, 2]
    assert pauses(ConstantInterval(0.5)) == [0.5] * 4
    assert pauses(LinearInterval(1, 2, 6)) == [1, 3, 5, 6]
    assert pauses(ExponentialInterval(1, 3, 20)) == [1, 3, 9, 20]
    assert pauses(lambda attempt: attempt.number * 10) == [10, 20, 30, 40]
    assert Backoff(0, ExponentialInterval())(*failed(OSError(), 5000)).delay == 3600


@pytest.mark.feature("F002-37")
def test_jitter_stays_within_its_part_and_varies() -> None:
    policy = Backoff(0, 10, jitter=0.5)
    found = [policy(*failed(OSError())).delay for _ in range(200)]
    assert all(5 <= each <= 15 for each in found if each is not None)
    assert len(set(found)) > 100


@pytest.mark.feature("F002-37")
def test_the_number_of_retries_is_bounded_and_zero_is_without_limit() -> None:
    policy = Backoff(2, 1)
    assert [policy(*failed(OSError(), number)).verdict for number in (1, 2, 3)] == [
        Verdict.RETRY,
        Verdict.RETRY,
        Verdict.DEAD,
    ]
    assert policy(*failed(OSError(), 3)).reason == "retries exhausted: OSError: INTERNAL after attempt 3"
    assert Backoff(0, 1)(*failed(OSError(), 100_000)).verdict is Verdict.RETRY


@pytest.mark.feature("F002-38")
@pytest.mark.feature("FX-34")
def test_what_is_retried() -> None:
    def retried(policy: Backoff, error: Exception) -> bool:
        return policy(*failed(error)).verdict is Verdict.RETRY

    listed = Backoff(exceptions=[ConnectionError])
    assert retried(listed, ConnectionResetError())  # a subclass
    assert not retried(listed, OSError())  # a base class
    assert retried(Backoff(), KeyError("x"))
    assert not retried(Backoff(), NotFound())  # by the table of statuses
    assert retried(Backoff(statuses=[StatusCode.NOT_FOUND]), NotFound())
    assert not retried(Backoff(statuses=[StatusCode.NOT_FOUND]), KeyError())
    assert retried(Backoff(exceptions=[NotFound]), NotFound())
    assert retried(AsyncBackOff(), NotFound())  # the seed: every exception
    for malformed in (BadRequest("x"), ValidationError([])):
        assert not retried(AsyncBackOff(), malformed)
        assert retried(AsyncBackOff(exception_list=[type(malformed)]), malformed)


def test_what_is_too_old_is_given_up() -> None:
    policy = Backoff(0, 5, max_age=60)
    now = int(time.time() * 1000)
    assert policy(*failed(OSError(), 2, **{FIRST_SEEN: now - 50_000})).verdict is Verdict.RETRY
    decision = policy(*failed(OSError(), 2, **{FIRST_SEEN: now - 58_000}))
    assert decision.verdict is Verdict.DEAD
    assert decision.reason.startswith("older than 60 seconds: OSError")


@pytest.mark.feature("F002-36")
def test_the_seeds_policy_counts_in_milliseconds() -> None:
    assert AsyncBackOff(5, 10_000)(*failed(KeyError())).delay == 10
    assert AsyncBackOff(5, LinearInterval(1, 1))(*failed(KeyError(), 2)).delay == 2
    assert AsyncBackOff(5, lambda backoff, attempt: backoff.max_retries * 100)(*failed(KeyError())).delay == 0.5


def test_the_text_of_an_error_that_is_not_public_is_not_stored() -> None:
    assert "secret" not in Backoff()(*failed(KeyError("secret"))).reason
    assert Backoff()(*failed(NotFound("no tea"))).reason == "NotFound: NOT_FOUND after attempt 1: no tea"


@pytest.mark.feature("F002-40")
def test_foreign_headers_do_not_break_the_attempt() -> None:
    assert Attempt.of(Message(headers={FIRST_SEEN: "yesterday"})).first_seen is None
    assert Attempt.of(Message(headers={FIRST_SEEN: 10**30})).age == 0


@pytest.mark.anyio
@pytest.mark.feature("F002-36")
@pytest.mark.feature("F002-40")
@pytest.mark.feature("F002-41")
@pytest.mark.parametrize("mode", ["async", "thread"])
async def test_a_message_is_retried_at_the_broker_and_then_dead(make_app: MakeApp, serving: Any, mode: str) -> None:
    app, seen = make_app(), list[Any]()

    @inject(retry=BackOffData())
    def fail(payload: dict[str, int], retry: Attempt) -> None:
        seen.append((retry.retry_count, retry.last_retry, retry.first_seen, retry.last_error, time.time()))
        raise ConnectionResetError("secret")

    backoff = AsyncBackOff(max_retries=2, interval=150, exception_list=[ConnectionError])
    app.include(RunnerContext([Route(fail, EventListener("shop", "order"), backoff=backoff)], mode, 1))
    async with serving(app) as service:
        await service.publish("shop", "order", {"n": 1}, message_id="m1")
        letter = await service.dead_one()
        assert (await service.broker.state("shop.order__svc.fail")).delayed == 0
    assert [each[0] for each in seen] == [0, 1, 2]
    assert seen[0][1:4] == (None, None, "")
    assert seen[2][3] == "ConnectionResetError: INTERNAL after attempt 2"
    assert seen[1][2] == seen[2][2] <= seen[1][1] < seen[2][1] <= datetime.now(UTC)
    assert seen[1][4] - seen[0][4] > 0.14
    assert (letter.queue, letter.attempts, letter.message.message_id) == ("shop.order__svc.fail", 3, "m1")
    assert letter.reason == "retries exhausted: ConnectionResetError: INTERNAL after attempt 3"
    assert "secret" not in repr(letter)


@pytest.mark.anyio
@pytest.mark.feature("F002-36")
async def test_the_worker_is_free_while_a_message_waits_for_its_retry(
    make_app: MakeApp, serving: Any, until: Any
) -> None:
    app, seen = make_app(), list[Any]()

    def fail(payload: None) -> None:
        seen.append("failed")
        raise OSError

    def handle(payload: None, attempt: Attempt) -> None:
        seen.append(attempt)

    later = Route(fail, EventListener("shop", "order"), backoff=Backoff(2, 3600))
    app.include(RunnerContext([later, Route(handle, EventListener("shop", "x"))], "thread", 1))
    async with serving(app) as service:
        await service.publish("shop", "order")
        await until(lambda: seen)
        await service.publish("shop", "x")
        await until(lambda: len(seen) == 2)
        with anyio.fail_after(60):
            while not (await service.broker.state("shop.order__svc.fail")).delayed:  # noqa: ASYNC110
                await anyio.sleep(0.01)
    assert seen == ["failed", Attempt(1)]


@pytest.mark.anyio
@pytest.mark.feature("F002-38")
async def test_an_exception_that_is_not_listed_is_dead_at_once(make_app: MakeApp, serving: Any) -> None:
    app = make_app()

    def fail(payload: None) -> None:
        raise KeyError

    app.include(RunnerContext([Route(fail, EventListener("a", "b"), backoff=AsyncBackOff(5, 1, [OSError]))]))
    async with serving(app) as service:
        await service.publish("a", "b")
        assert (await service.dead_one()).attempts == 1


@pytest.mark.anyio
@pytest.mark.feature("F002-41")
async def test_without_a_policy_a_failed_message_is_dead_with_its_reason(make_app: MakeApp, serving: Any) -> None:
    app = make_app()

    def fail(payload: None) -> None:
        raise KeyError("secret")

    app.include(RunnerContext([Route(fail, EventListener("a", "b"))]))
    async with serving(app) as service:
        await service.publish("a", "b")
        letter = await service.dead_one()
    assert (letter.queue, letter.reason) == ("a.b__svc.fail", "KeyError: INTERNAL after attempt 1")


@pytest.mark.anyio
async def test_redriven_messages_begin_anew(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, seen, broken = make_app(), list[int](), [True]

    @app.on(Event("a", "b"), retry=Backoff(1, 0.01))
    async def handle(payload: None, attempt: Attempt) -> None:
        seen.append(attempt.number)
        if broken[0]:
            raise OSError

    async with serving(app) as service:
        await service.publish("a", "b")
        await service.dead_one()
        broken[0] = False
        assert await service.broker.redrive("a.b__svc.handle") == 1
        await until(lambda: len(seen) == 3)
    assert seen == [1, 2, 1]


# -- timers ------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.feature("F002-24")
@pytest.mark.feature("F002-40")
async def test_a_failing_tick_runs_again_after_its_pause_and_no_firing_comes_between() -> None:
    app, clock, seen = App(clock=FakeClock()), None, list[Any]()
    clock = app.clock

    @app.on(Every(10), retry=Backoff(2, 4))
    async def poll(tick: Tick, attempt: Attempt) -> None:
        seen.append((clock.now() - start, tick.scheduled_at.timestamp() - start, attempt.number))
        assert attempt.last_error == ("" if attempt.number == 1 else "OSError: INTERNAL after attempt 1")
        if tick.scheduled_at.timestamp() - start == 10 and attempt.number < 2:
            raise OSError

    start = clock.now()
    async with TestClient(app) as client:
        await client.clock.advance(20)
    assert seen == [(10, 10, 1), (14, 10, 2), (20, 20, 1)]


@pytest.mark.anyio
async def test_a_tick_without_a_policy_is_not_repeated_and_one_with_it_ends_with_the_schedule() -> None:
    app, seen = App(clock=FakeClock()), list[str]()

    @app.on(Every(10))
    async def plain() -> None:
        seen.append("plain")
        raise OSError

    @app.on(Every(10), retry=Backoff(0, 100))
    async def patient() -> None:
        seen.append("patient")
        raise OSError

    async with TestClient(app) as client:
        await client.clock.advance(15)
        assert sorted(seen) == ["patient", "plain"]
        await settle()
        with anyio.fail_after(60):
            await client._timers.stop(3600)  # the pause before a retry holds nobody up
    assert sorted(seen) == ["patient", "plain"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Backoff(-1), "max_retries is a number from 0"),
        (lambda: Backoff("3"), "max_retries is a number from 0.*not '3'"),  # type: ignore[arg-type]
        (lambda: Backoff(3, "5s"), "interval of retries is a number.*not '5s'"),  # type: ignore[arg-type]
        (lambda: Backoff(3, -1), "interval of retries is a number"),
        (lambda: Backoff(jitter=2), "jitter is a part of the pause"),
        (lambda: Backoff(max_age=0), "max_age is a number of seconds over 0"),
        (lambda: Backoff(exceptions=["OSError"]), "classes of exceptions, and 'OSError' is none"),  # type: ignore[list-item]
        (lambda: Backoff(exceptions=5), "classes of exceptions, and 5 is none"),  # type: ignore[arg-type]
        (lambda: AsyncBackOff(3, "5"), "interval of retries is a number.*not '5'"),  # type: ignore[arg-type]
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_where_it_is_written(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_one_class_of_exceptions_may_stand_alone() -> None:
    policy = Backoff(exceptions=OSError)
    assert policy.retries(Reply(error=ConnectionError()))
    assert not policy.retries(Reply(error=KeyError()))
