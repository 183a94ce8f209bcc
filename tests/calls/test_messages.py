"""Messages: payloads, and how they are settled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, BackgroundTasks, Depends, Event, Message, PublicError, StatusCode, hookimpl
from microkit.dispatch import handle_message
from microkit.inprocess import Publisher
from microkit.observe import Observer
from microkit.settlement import Decision, Settlement, State, Verdict
from microkit_testkit import RecordingDelivery, TestClient

pytestmark = pytest.mark.anyio


@pytest.fixture
def app() -> App:
    return App(discover=False)


@dataclass
class Order:
    id: int


@pytest.mark.feature("FX-02")
async def test_the_first_unclaimed_parameter_is_a_decoded_copy_of_the_payload(app: App) -> None:
    got: list[Any] = []

    @app.on(Event("shop", "typed"))
    async def typed(message: Message, order: Order) -> None:
        got.append((order, message.source, message.name, message.headers["trace"], message.message_id))

    @app.on(Event("shop", "plain"))
    async def plain(data: Any) -> None:
        got.append(data)

    @app.on(Event("shop", "raw"))
    async def raw(data: bytes) -> None:
        got.append(data)

    async with TestClient(app) as client:
        await client.publish("shop", "typed", Order(7), headers={"trace": "t"}, message_id="m1")
        sent = {"list": [1]}
        await client.publish("shop", "plain", sent)
        await client.publish("shop", "raw", body=b"\xff", content_type="application/octet-stream")
    assert got == [(Order(7), "shop", "typed", "t", "m1"), {"list": [1]}, b"\xff"]
    assert got[1] is not sent


@pytest.mark.feature("FX-34")
@pytest.mark.parametrize("status", [each for each in StatusCode if each is not StatusCode.OK])
async def test_the_status_table_says_what_is_retried_and_what_is_dead(app: App, status: StatusCode) -> None:
    retried = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL"}

    @app.on(Event("shop", "sold"))
    async def ship() -> None:
        raise PublicError("no", status=status)

    async with TestClient(app) as client:
        settled = (await client.publish("shop", "sold")).settled()
    if status.name in retried:
        assert (settled.state, settled.actions) == (State.RETRIED, ["store_retry", "ack"])
    else:
        assert (settled.state, settled.actions) == (State.DEAD, ["store_dead", "ack"])
    assert status.name in settled.reason


@pytest.mark.feature("FX-34")
async def test_retries_are_delayed_more_each_time_and_end_among_the_dead(app: App) -> None:
    @app.on(Event("shop", "sold"))
    async def ship() -> None:
        raise LookupError("a secret")

    async with TestClient(app) as client:
        delivered = (await client.publish("shop", "sold")).one
        delays = []
        while delivered.settled().state is State.RETRIED:
            delays.append(delivered.settled().delay)
            delivered = await delivered.redeliver()
    assert delays == [1.0, 2.0, 4.0, 8.0]
    assert (delivered.settled().state, delivered.settled().attempt) == (State.DEAD, 5)
    assert "secret" not in delivered.settled().reason


@pytest.mark.feature("FX-34")
async def test_a_binding_has_a_policy_of_its_own(app: App) -> None:
    @app.on(Event("shop", "sold"), retry=lambda message, reply: Decision(Verdict.RETRY, 42.0, "always"))
    async def ship() -> None:
        raise PublicError("no", status=StatusCode.NOT_FOUND)

    async with TestClient(app) as client:
        settled = (await client.publish("shop", "sold", attempt=9)).settled()
    assert (settled.state, settled.delay, settled.reason) == (State.RETRIED, 42.0, "always")


async def test_input_that_does_not_fit_is_dead_at_once(app: App) -> None:
    @app.on(Event("shop", "sold"))
    async def ship(order: Order) -> None: ...

    async with TestClient(app) as client:
        assert (await client.publish("shop", "sold", {"id": "x"})).settled().state is State.DEAD
        assert (await client.publish("shop", "sold", body=b"{half")).settled().state is State.DEAD


@pytest.mark.feature("F000-38")
async def test_a_handler_decides_and_the_first_decision_wins(app: App) -> None:
    @app.on(Event("shop", "sold"))
    async def ship(how: str, message: Message) -> None:
        if how == "ack":
            await message.ack()
            await message.retry()
        elif how == "retry":
            await message.retry(delay=30)
            await message.ack()
        else:
            await message.reject("no such thing")

    async with TestClient(app) as client:
        assert (await client.publish("shop", "sold", "ack")).settled().state is State.ACKED
        retried = (await client.publish("shop", "sold", "retry")).settled()
        assert (retried.state, retried.delay) == (State.RETRIED, 30)
        dead = (await client.publish("shop", "sold", "reject")).settled()
        assert (dead.state, dead.reason) == (State.DEAD, "no such thing")
        capped = (await client.publish("shop", "sold", "retry", attempt=5)).settled()
        assert capped.state is State.DEAD


@pytest.mark.feature("F000-39")
@pytest.mark.guarantee("G5")
@pytest.mark.parametrize("fails", ["handler", "teardown"])
async def test_an_ack_is_void_if_the_work_was_rolled_back(app: App, fails: str) -> None:
    async def transaction() -> AsyncIterator[None]:
        yield
        if fails == "teardown":
            raise OSError("no commit")

    @app.on(Event("shop", "sold"))
    async def ship(message: Message, _: Annotated[None, Depends(transaction)]) -> None:
        await message.ack()
        if fails == "handler":
            raise OSError("no shipment")

    async with TestClient(app) as client:
        settled = (await client.publish("shop", "sold")).settled()
    assert (settled.state, settled.actions) == (State.RETRIED, ["store_retry", "ack"])


class Ordered(RecordingDelivery):
    def __init__(self, log: list[str], **options: Any) -> None:
        super().__init__(**options)
        self.log = log

    async def ack(self) -> None:
        self.log.append("ack")
        await super().ack()


@pytest.mark.guarantee("G5")
@pytest.mark.guarantee("G7")
@pytest.mark.guarantee("G8")
async def test_commit_comes_before_ack_and_background_work_after_it(app: App) -> None:
    log: list[str] = []

    async def transaction() -> AsyncIterator[None]:
        yield
        await anyio.lowlevel.checkpoint()
        log.append("commit")

    @app.on(Event("shop", "sold"))
    async def ship(message: Message, tasks: BackgroundTasks, _: Annotated[None, Depends(transaction)]) -> None:
        tasks.add(log.append, "background")
        await message.ack()
        log.append("handled")

    async with TestClient(app) as client:
        await client.publish("shop", "sold", delivery=Ordered(log))
    assert log == ["handled", "commit", "ack", "background"]


@pytest.mark.guarantee("G8")
@pytest.mark.parametrize("action", ["store_retry", "store_dead"])
async def test_without_a_confirmed_copy_the_original_is_given_back(app: App, action: Any) -> None:
    @app.on(Event("shop", "sold"))
    async def ship() -> None:
        raise PublicError("", status=StatusCode.INTERNAL if action == "store_retry" else StatusCode.NOT_FOUND)

    async with TestClient(app) as client:
        settled = (await client.publish("shop", "sold", delivery=RecordingDelivery(fails=[action]))).settled()
        assert (settled.state, settled.actions) == (State.RETURNED, [action, "give_back"])


@pytest.mark.guarantee("G8")
async def test_an_ack_that_fails_leaves_the_message_to_the_broker(app: App) -> None:
    @app.on(Event("shop", "sold"))
    async def ship() -> None: ...

    async with TestClient(app) as client:
        settled = (await client.publish("shop", "sold", delivery=RecordingDelivery(fails=["ack"]))).settled()
    assert (settled.state, settled.actions) == (State.LOST, ["ack"])


@pytest.mark.guarantee("G8")
async def test_a_broker_that_hangs_is_not_waited_for_for_ever() -> None:
    app = App(discover=False, settings={"app": {"teardown_timeout": 0.02}})

    @app.on(Event("shop", "sold"))
    async def ship() -> None: ...

    async with TestClient(app) as client:
        settled = (await client.publish("shop", "sold", delivery=RecordingDelivery(hangs=["ack"]))).settled()
    assert settled.state is State.RETURNED


@pytest.mark.guarantee("G8")
async def test_a_cancelled_handler_rolls_back_and_gives_its_message_back(app: App) -> None:
    log: list[str] = []
    delivery = RecordingDelivery()

    async def transaction() -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            log.append("roll back")
            raise

    @app.on(Event("shop", "sold"))
    async def ship(message: Message, _: Annotated[None, Depends(transaction)]) -> None:
        await message.ack()
        await anyio.sleep_forever()

    async with TestClient(app) as client, anyio.create_task_group() as tasks:

        async def publish() -> None:
            await client.publish("shop", "sold", delivery=delivery)

        tasks.start_soon(publish)
        await client.settle()
        tasks.cancel_scope.cancel()
    assert log == ["roll back"]
    assert [answer.action for answer in delivery.answers] == ["give_back"]


@pytest.mark.guarantee("G8")
@pytest.mark.parametrize("fails", [False, True])
async def test_over_a_lost_connection_nothing_is_answered(app: App, fails: bool) -> None:
    delivery = RecordingDelivery()

    @app.on(Event("shop", "sold"))
    async def ship() -> None:
        delivery.go_stale()
        if fails:
            raise LookupError

    async with TestClient(app) as client:
        settled = (await client.publish("shop", "sold", delivery=delivery)).settled()
    assert (settled.state, settled.answers) == (State.LOST, ())
    assert settled.history == (State.RECEIVED, State.RUNNING, State.LOST)


@pytest.mark.guarantee("G7")
async def test_a_failing_background_task_leaves_the_settlement_alone(app: App) -> None:
    log: list[str] = []

    @app.on(Event("shop", "sold"))
    async def ship(tasks: BackgroundTasks) -> None:
        def fails() -> None:
            raise LookupError

        tasks.add(fails)
        tasks.add(log.append, "next")

    async with TestClient(app, call_log=True) as client:
        assert (await client.publish("shop", "sold")).settled().state is State.ACKED
        assert [type(exc) for _, exc in client.call_log.failed_tasks] == [LookupError]
    assert log == ["next"]


async def test_the_publisher_starts_the_app_and_tells_of_no_listener() -> None:
    app = App(discover=False)
    got: list[int] = []

    @app.on(Event("shop", "sold"))
    async def ship(n: int) -> None:
        got.append(n)

    publisher = Publisher(app)
    assert [each.settlement.state for each in await publisher.publish("shop", "sold", 1)] == [State.ACKED]
    assert await publisher.publish("shop", "unheard", 1) == []
    assert await publisher.publish_batch("shop", "sold", []) == []
    await app.runtime.stop()
    assert got == [1]


@pytest.mark.feature("FX-26")
@pytest.mark.parametrize("batch", [False, True])
async def test_observers_hear_how_each_message_was_answered_and_one_that_fails_harms_nobody(batch: bool) -> None:
    heard: list[tuple[Any, State]] = []

    class Watching(Observer):
        def message_settled(self, message: Message, settlement: Settlement) -> None:
            heard.append((message.payload, settlement.state))
            raise LookupError("an observer that is broken on purpose")

    class Plugin:
        @hookimpl
        def microkit_observers(self, app: App) -> Observer:
            return Watching()

    app = App(plugins=[Plugin()], discover=False)

    @app.on(Event("shop", "sold", batch=batch))
    async def sold(payload: Any) -> None:
        if payload != 1:
            raise PublicError("no", status=StatusCode.INVALID_ARGUMENT)

    async with TestClient(app) as client:
        published = await client.batch("shop", "sold", [1, 2])
    assert heard == [(1, State.DEAD if batch else State.ACKED), (2, State.DEAD)]
    assert [state for _, state in heard] == published.states


@pytest.mark.guarantee("G8")
@pytest.mark.parametrize(("hanging", "expected"), [("store_dead", ["give_back"]), ("ack", ["store_dead"])])
async def test_a_message_whose_copy_is_not_confirmed_in_time_is_given_back(
    app: App, hanging: str, expected: list[str]
) -> None:
    done: list[str] = []

    class Hanging:
        generation = current_generation = 1

        def __getattr__(self, name: str) -> Any:
            if name not in ("store_retry", "store_dead", "ack", "give_back"):
                raise AttributeError(name)

            async def do(*args: Any) -> None:
                if name == hanging:
                    await anyio.sleep_forever()
                done.append(name)

            return do

    @app.on(Event("shop", "order"))
    async def handle(message: Message) -> None:
        await message.reject("no")

    async with app.started():
        (plan,) = app.table.events["shop", "order"]
        message = Message(b"1", source="shop", name="order")
        message.app, message.plan, message.settlement = app, plan, Settlement(Hanging(), grace=0.05)
        await handle_message(message)
    assert message.settlement.state is State.RETURNED
    assert done == expected
