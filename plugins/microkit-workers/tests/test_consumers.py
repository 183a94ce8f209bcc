"""The ingress: bad input, batches, brokers that are not there, reports about slow handlers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest

from microkit import App, Event, Header, Kind, Request, StartupError, hookimpl
from microkit.broker import Broker, OutgoingMessage
from microkit.errors import alone
from microkit.host import Host
from microkit.transport import TransportSpec
from microkit_workers import Backoff, EventListener, Route, RunnerContext
from microkit_workers.brokers import MemoryBroker
from microkit_workers.context import pools_of

MakeApp = Callable[..., App]


def block(until: Callable[[], bool], seconds: float = 60) -> None:
    """Block the event loop until something holds, for so many seconds at most."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.anyio
@pytest.mark.feature("FX-09")
@pytest.mark.guarantee("G10")
async def test_bad_input_is_dead_with_its_reason_and_the_others_go_on(
    make_app: MakeApp, serving: Any, until: Any
) -> None:
    app, seen = make_app(max_message_size=1000), list[Any]()

    @app.on(Event("a", "b"), retry=Backoff(5, 0.01))
    async def handle(payload: int, tenant: Annotated[str, Header()]) -> None:
        seen.append((payload, tenant))

    async with serving(app) as service:
        headers = {"tenant": "t"}
        for body, content_type, given in (
            (b"{", "application/json", headers),
            (b"1", "application/x-unknown", headers),
            (b'"text"', "application/json", headers),
            (b"2", "application/json", {}),
            (b"3" * 1001, "application/json", headers),
            (b"4", "application/json", headers),
        ):
            await service.publish("a", "b", body=body, content_type=content_type, headers=given)
        await until(lambda: seen)
        with anyio.fail_after(60):
            while len(letters := await service.dead()) < 5:  # noqa: ASYNC110
                await anyio.sleep(0.01)
    assert seen == [(4, "t")]
    assert all(letter.attempts == 1 for letter in letters)
    reasons = {bytes(letter.message.body[:10]): letter.reason for letter in letters}
    assert reasons[b"{"].startswith("BadRequest: INVALID_ARGUMENT")
    assert reasons[b"1"].startswith("UnsupportedMediaType")
    assert reasons[b'"text"'].startswith("ValidationError")
    assert reasons[b"2"].startswith("ValidationError")
    assert "1001 bytes are over the bound of 1000" in reasons[b"3" * 10]


@pytest.mark.anyio
@pytest.mark.parametrize("batch", [False, True])
async def test_one_worker_keeps_the_order_of_its_queue(
    make_app: MakeApp, serving: Any, until: Any, batch: bool
) -> None:
    app, seen = make_app(max_workers=1, prefetch_factor=40, batch_size=2, batch_wait=0.05), list[int]()

    @app.on(Event("a", "b", batch=batch))
    async def handle(payload: Any) -> None:
        seen.extend(payload if batch else [payload])
        await anyio.sleep(0.002)

    async with serving(app) as service:
        for number in range(40):
            await service.publish("a", "b", number)
        await until(lambda: len(seen) == 40)
    assert seen == list(range(40))


@pytest.mark.anyio
async def test_batches_are_full_or_have_waited_and_settle_each_message(
    make_app: MakeApp, serving: Any, until: Any
) -> None:
    app, seen = make_app(batch_size=5, batch_wait=0.5), list[list[int]]()

    @app.on(Event("a", "b", batch=True), payload_filter=lambda payload: payload != 3)
    async def handle(payloads: list[int]) -> None:
        seen.append(payloads)

    async with serving(app) as service:
        began = anyio.current_time()
        async with anyio.create_task_group() as publishing:  # together, however long each takes
            for number in range(12):
                publishing.start_soon(service.publish, "a", "b", number)
        await until(lambda: sum(map(len, seen)) == 11)
        assert anyio.current_time() - began > 0.4
        await service.drained("a.b__svc.handle")
        assert await service.dead() == []
    assert sorted(number for each in seen for number in each) == [0, 1, 2, *range(4, 12)]
    assert max(map(len, seen)) <= 5
    assert len(seen) < 9, "few are half empty, however slow the machine is"


@pytest.mark.anyio
@pytest.mark.feature("FX-32")
async def test_a_warning_comes_before_the_broker_gives_up_on_a_consumer(
    make_app: MakeApp, serving: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app, gate = make_app(consumer_timeout=0.2), anyio.Event()

    @app.on(Event("a", "b"))
    async def slow(payload: int) -> None:
        await gate.wait()

    async with serving(app) as service:
        await service.publish("a", "b", 1, message_id="m1")
        await until(lambda: "has been working on message m1" in caplog.text)
        await anyio.sleep(0.3)
        gate.set()
    assert caplog.text.count("has been working on") == 1
    assert ".slow (a/b)" in caplog.text


@pytest.mark.anyio
@pytest.mark.feature("FX-32")
@pytest.mark.parametrize("setting", [None, 0.0])
async def test_the_brokers_own_timeout_is_warned_of_unless_that_is_switched_off(
    serving: Any, until: Any, caplog: pytest.LogCaptureFixture, setting: float | None
) -> None:
    class Impatient(MemoryBroker):
        consumer_timeout = 0.5

    class Plugin:
        @hookimpl
        def microkit_transports(self) -> TransportSpec:
            return TransportSpec("impatient", Kind(0), broker=Impatient.from_url, schemes=("impatient",))

    settings = {"broker": "impatient://", "consumer_timeout": setting, "max_workers": 1, "prefetch_factor": 2}
    app, done, gate = App(plugins=[Plugin()], settings={"workers": settings}), list[int](), anyio.Event()

    @app.on(Event("a", "b"))
    async def slow(payload: int) -> None:
        await (anyio.sleep(1.6) if payload == 1 else gate.wait())
        done.append(payload)

    async with serving(app) as service:
        await service.publish("a", "b", 1, message_id="m1")
        await service.publish("a", "b", 2, message_id="m2")  # the time that it waits for the worker counts
        if setting is None:
            await until(lambda: re.search(r"has been working on message m2 for [1-9]", caplog.text))
        else:
            await until(lambda: done == [1])
            await anyio.sleep(0.2)
            assert "has been working" not in caplog.text
        gate.set()
        await until(lambda: done == [1, 2])


@pytest.mark.anyio
@pytest.mark.feature("FX-32")
async def test_a_handler_that_blocks_the_event_loop_is_named(
    make_app: MakeApp, serving: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app, done = make_app(loop_block_warning=0.1), list[int]()

    def told() -> bool:
        return ".blocking (a/b), at " in caplog.text

    @app.on(Event("a", "b"))
    async def blocking(payload: int) -> None:
        block(told, 1)
        done.append(payload)

    async with serving(app) as service:
        while not told() and len(done) < 60:  # a machine that stood still has been reported instead
            await anyio.sleep(0.1)
            before = len(done)
            await service.publish("a", "b", before)
            await until(lambda before=before: len(done) > before)
    assert "the event loop has been blocked" in caplog.text
    assert told()
    assert "test_consumers.py" in caplog.text


@pytest.mark.anyio
@pytest.mark.feature("FX-32")
async def test_handlers_of_other_kinds_that_block_the_event_loop_are_named_once_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = App(settings={"workers": {"loop_block_warning": 0.1}})

    def told() -> int:
        return caplog.text.count(".report (GET /report), at ")

    def compute() -> None:
        before = told()
        block(lambda: told() > before, 1)
        time.sleep(0.3)

    @app.get("/report")
    async def report() -> str:
        compute()
        return "done"

    async with app.started():
        for times in (1, 2):
            with anyio.fail_after(60):
                while told() < times:  # a machine that stood still has been reported instead
                    await anyio.sleep(0.1)
                    await app.handle(Request("GET", "/report"))
            assert told() == times


@pytest.mark.anyio
@pytest.mark.feature("FX-32")
async def test_the_event_loop_is_not_watched_unless_that_is_switched_on(until: Any) -> None:
    def watched() -> bool:
        return "microkit-watch" in {each.name for each in threading.enumerate()}

    await until(lambda: not watched())  # the thread of another test may be about to end
    async with App().started():
        assert not watched()
    async with App(settings={"workers": {"loop_block_warning": 0.01}}).started():
        assert watched()
    await until(lambda: not watched())


class Unreachable(MemoryBroker):
    """A broker that is there at the nth attempt."""

    attempts = 0
    there_at = 10**9

    async def connect(self) -> None:
        type(self).attempts += 1
        if self.attempts < self.there_at:
            raise StartupError("Nobody listens at nowhere:1.")
        await super().connect()


def unreachable(there_at: int) -> tuple[type[Unreachable], Any]:
    made = type("Made", (Unreachable,), {"there_at": there_at})

    class Plugin:
        from microkit import hookimpl

        @hookimpl
        def microkit_transports(self) -> list[TransportSpec]:
            from microkit import Kind

            return [TransportSpec("nowhere", Kind.MESSAGE, broker=lambda url: made(), schemes=("nowhere",))]

    return made, Plugin()


@pytest.mark.anyio
@pytest.mark.guarantee("G2")
async def test_a_broker_that_cannot_be_reached_is_a_clear_error_after_some_attempts(serving: Any) -> None:
    made, plugin = unreachable(10**9)
    app = App(plugins=[plugin], settings={"workers": {"broker": "nowhere://x", "connect_patience": 1}})
    app.on(Event("a", "b"))(lambda payload: None)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with serving(app):
            pass
    text = str(alone(caught.value))
    assert "To wait longer than 1 seconds" in text
    assert "Nobody listens at nowhere:1." in text
    assert "connect_patience" in text
    assert 1 < made.attempts < 20


@pytest.mark.anyio
@pytest.mark.guarantee("G2")
async def test_a_broker_that_will_never_be_there_is_not_waited_for(serving: Any, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database" * 100)
    for path, reason in (("nowhere/jobs.db", "its folder has to exist"), ("text.db", "is no SQLite database")):
        app = App(settings={"workers": {"broker": f"sqlite:///{tmp_path}/{path}", "connect_patience": 3600}})
        app.on(Event("a", "b"))(lambda payload: None)
        with anyio.fail_after(60), pytest.raises(BaseExceptionGroup) as caught:
            async with serving(app):
                pass
        text = str(alone(caught.value))
        assert reason in text
        assert "connect_patience" not in text


@pytest.mark.anyio
async def test_a_broker_that_comes_late_is_waited_for_as_long_as_it_takes(serving: Any, until: Any) -> None:
    made, plugin = unreachable(3)
    app, seen = App(plugins=[plugin], settings={"workers": {"broker": "nowhere://x", "connect_patience": -1}}), []

    @app.on(Event("a", "b"))
    async def handle(payload: int) -> None:
        seen.append(payload)

    async with serving(app) as service:
        await service.publish("a", "b", 1)
        await until(lambda: seen)
    assert made.attempts == 3


@pytest.mark.anyio
async def test_an_unknown_scheme_is_told_at_once(serving: Any) -> None:
    app = App(settings={"workers": {"broker": "memry://"}})
    app.on(Event("a", "b"))(lambda payload: None)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with serving(app):
            pass
    assert "Did you mean 'memory'" in str(alone(caught.value))


@pytest.mark.anyio
@pytest.mark.feature("FX-07")
async def test_a_broker_in_memory_is_refused_for_several_processes() -> None:
    app = App()
    app.on(Event("a", "b"))(lambda payload: None)
    app.runtime.processes = 2
    host = Host(app)
    host._worker = None
    with pytest.raises(BaseExceptionGroup) as caught:
        await host.serve()
    assert "lives in the memory of one process" in str(alone(caught.value))


@pytest.mark.anyio
async def test_an_application_without_consumers_needs_no_broker() -> None:
    made, plugin = unreachable(10**9)
    app = App(plugins=[plugin], settings={"workers": {"broker": "nowhere://x"}})
    async with app.started():
        pass
    assert made.attempts == 0


@pytest.mark.anyio
@pytest.mark.feature("F002-41")
@pytest.mark.guarantee("G5")
async def test_a_failing_commit_is_a_failed_message(make_app: MakeApp, serving: Any) -> None:
    from microkit import Depends

    app = make_app()

    async def transaction() -> Any:
        yield
        raise ConnectionError("the commit failed")

    def handle(payload: int, held: Annotated[None, Depends(transaction)]) -> None: ...

    app.include(RunnerContext([Route(handle, EventListener("a", "b"))], "thread"))
    async with serving(app) as service:
        await service.publish("a", "b", 1)
        assert (await service.dead_one()).reason == "ConnectionError: INTERNAL after attempt 1"


@pytest.mark.anyio
async def test_a_broker_is_a_dependency(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, seen = make_app(), list[Any]()

    @app.on(Event("a", "b"))
    async def handle(payload: int, broker: Broker) -> None:
        await broker.publish("a", "c", OutgoingMessage(b"2"))

    @app.on(Event("a", "c"))
    async def then(payload: int) -> None:
        seen.append(payload)

    async with serving(app) as service:
        await service.publish("a", "b", 1)
        await until(lambda: seen == [2])
        await until(lambda: pools_of(app).default.handled == 2)
