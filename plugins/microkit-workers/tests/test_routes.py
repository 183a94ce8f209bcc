"""Routes: targets, translators, filters, worker classes, callbacks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest

from microkit import App, ConfigurationError, Depends, Event, Message, Reply, inject
from microkit.errors import alone
from microkit_workers import (
    AsyncBackOff,
    BackOffData,
    CallbackRoute,
    EventListener,
    JSONTranslator,
    Producer,
    QueueListener,
    Route,
    RPCListener,
    RunnerContext,
    TimeEntrypoint,
    Worker,
)
from microkit_workers.context import pools_of

MakeApp = Callable[..., App]
ORDER = EventListener("shop", "order")


@pytest.mark.anyio
@pytest.mark.feature("F002-04")
@pytest.mark.feature("F002-05")
async def test_targets_are_functions_classes_and_import_paths(
    make_app: MakeApp, serving: Any, until: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seed_tasks.py").write_text("seen = []\ndef task(payload):\n    seen.append(payload)\n")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("seed_tasks", None)
    seen = list[Any]()

    class Target:
        def __init__(self) -> None:
            self.made = True

        def run(self, payload: int) -> None:
            seen.append(("run", id(self), self.made))

        def __call__(self, payload: int) -> None:
            seen.append(("call", id(self), self.made))

    app = make_app()
    routes = [Route(Target, ORDER, method_name="run"), Route(Target, ORDER), Route("seed_tasks.task", ORDER)]
    app.include(RunnerContext(routes, "thread"))
    async with serving(app) as service:
        for number in (1, 2):
            await service.publish("shop", "order", number)
        tasks = importlib.import_module("seed_tasks")
        await until(lambda: len(seen) == 4 and len(tasks.seen) == 2)
    assert {each[0] for each in seen} == {"run", "call"}
    assert all(each[2] for each in seen)


@pytest.mark.feature("F002-04")
@pytest.mark.parametrize(
    ("target", "method", "message"),
    [
        ("nowhere.task", None, "cannot be imported: there is no module 'nowhere' on sys.path. Correct the path"),
        ("task", None, "is no import path"),
        ("json.dump", "run", "is no class"),
        ("json.dumb", None, "Did you mean 'dump'"),
        ("json.JSONEncoder", "encoed", "has no method 'encoed'"),
        ("json.JSONEncoder", None, "has no method '__call__'"),
        ("json.__doc__", None, "cannot be called"),
    ],
)
def test_a_target_that_cannot_be_fails_at_start_up(target: str, method: str | None, message: str) -> None:
    app = App(name="svc")
    app.include(RunnerContext([Route(target, ORDER, method_name=method)]))
    with pytest.raises(ConfigurationError, match=message):
        app.build()


@pytest.mark.anyio
@pytest.mark.feature("F002-12")
async def test_two_routes_on_one_event_each_get_every_message(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, seen = make_app(), list[str]()

    def one(payload: int) -> None:
        seen.append("one")

    def two(payload: int) -> None:
        seen.append("two")

    app.include(RunnerContext([Route(one, ORDER), Route(two, ORDER)]))
    async with serving(app) as service:
        for number in range(5):
            await service.publish("shop", "order", number)
        await until(lambda: len(seen) == 10)
    assert seen.count("one") == 5


@pytest.mark.anyio
@pytest.mark.feature("F002-12")
async def test_two_bindings_on_one_queue_fail_at_start_up(make_app: MakeApp, serving: Any) -> None:
    def one(payload: int) -> None: ...

    app = make_app()
    app.include(RunnerContext([Route(one, ORDER)]))
    app.include(RunnerContext([Route(one, ORDER)]))
    with pytest.raises(BaseExceptionGroup) as caught:
        async with serving(app):
            pass
    assert "Two bindings consume the queue 'shop.order__svc.one'" in str(alone(caught.value))


# -- translators, filters, workers -------------------------------------------------------------------------------------


class Double:
    def translate(self, message: Message) -> Any:
        return message.payload * 2


class Sum:
    async def translate(self, message: Message) -> Any:
        return sum(message.payload)


class Broken:
    def translate(self, message: Message) -> Any:
        raise RuntimeError("secret")


@pytest.mark.anyio
@pytest.mark.feature("F002-08")
@pytest.mark.feature("F002-09")
async def test_translators_form_a_chain(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, seen = make_app(), list[Any]()

    def handle(payload: int) -> None:
        seen.append(payload)

    app.include(RunnerContext([Route(handle, ORDER, translators=[JSONTranslator(), Double(), Sum()])]))
    async with serving(app) as service:
        await service.publish("shop", "order", body=b"[1, 2]", content_type="text/plain")
        await until(lambda: seen)
    assert seen == [6]


@pytest.mark.anyio
@pytest.mark.feature("F002-09")
async def test_the_message_of_a_raising_translator_is_dead(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, seen = make_app(), list[Any]()

    def handle(payload: int) -> None:
        seen.append(payload)

    route = Route(handle, ORDER, translators=[JSONTranslator(), Broken()], backoff=AsyncBackOff(0, 1))
    app.include(RunnerContext([route]))
    async with serving(app) as service:
        await service.publish("shop", "order", [1])
        letter = await service.dead_one()
        assert letter.reason == "the translator Broken raised RuntimeError"
        assert letter.message.body == b"[1]"
    assert seen == []


@pytest.mark.anyio
@pytest.mark.feature("F002-11")
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_filter_lets_only_some_messages_through(
    make_app: MakeApp, serving: Any, until: Any, is_async: bool
) -> None:
    app, seen = make_app(), list[Any]()

    def wanted(payload: Any) -> Any:
        return payload["key"] == "value"

    async def wanted_later(payload: Any) -> Any:
        return wanted(payload)

    def handle(payload: dict[str, Any]) -> None:
        seen.append(payload["n"])

    listener = EventListener("shop", "order", payload_filter=wanted_later if is_async else wanted)
    app.include(RunnerContext([Route(handle, listener, backoff=AsyncBackOff(0, 1))]))
    async with serving(app) as service:
        for number, payload in enumerate([{"key": "value"}, {"key": "other"}, {}, {"key": "value"}]):
            await service.publish("shop", "order", {**payload, "n": number})
        letter = await service.dead_one()  # the filter raised for the third one
        await until(lambda: len(seen) == 2)
        await service.drained("shop.order__svc.handle")
        assert pools_of(app).all()[0].filtered == 1
        assert len(await service.dead()) == 1
    assert sorted(seen) == [0, 3]
    assert letter.reason == "the filter raised KeyError"


@pytest.mark.anyio
@pytest.mark.feature("F002-10")
async def test_a_worker_class_acts_before_and_after(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, log = make_app(), list[Any]()

    class Noting(Worker):
        def before_call(self) -> None:
            log.append(("before", self.payload, self.target.rpartition(".")[2]))

        async def after_call(self, result: Any, exc: BaseException | None) -> None:
            log.append(("after", result, type(exc)))

    def handle(payload: int) -> int:
        log.append("call")
        return 10 // payload

    app.include(RunnerContext([Route(handle, ORDER, worker_class=Noting)], max_workers=1))
    async with serving(app) as service:
        await service.publish("shop", "order", 5)
        await service.publish("shop", "order", 0)
        await until(lambda: len(log) == 6)
    assert log == [
        ("before", 5, "handle"),
        "call",
        ("after", 2, type(None)),
        ("before", 0, "handle"),
        "call",
        ("after", None, ZeroDivisionError),
    ]


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (lambda f: Route(f, TimeEntrypoint(1), translators=[Double()]), "unknown option 'translators'"),
        (lambda f: Route(f, RPCListener(), backoff=AsyncBackOff()), "runs at most once"),
        (lambda f: Route(f, ORDER, worker_class=dict), "is no Worker"),
        (lambda f: Route(f, EventListener("a", "b", mode="some")), "must be one of pool, broadcast, singleton"),
    ],
)
@pytest.mark.anyio
async def test_options_without_a_meaning_fail_at_start_up(route: Any, message: str, serving: Any) -> None:
    app = App(name="svc")
    app.include(RunnerContext([route(lambda payload: None)]))
    with pytest.raises((ConfigurationError, BaseExceptionGroup)) as caught:
        async with serving(app):
            pass
    assert message in str(alone(caught.value))


# -- callbacks ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.feature("F002-07")
@pytest.mark.parametrize("mode", ["async", "thread"])
async def test_the_callback_comes_once_after_the_last_retry(
    make_app: MakeApp, serving: Any, until: Any, mode: str
) -> None:
    app, calls, attempts = make_app(), list[Any](), list[int]()

    @inject(producer=Producer(), retry=BackOffData())
    def fail(payload: Any, producer: Any, retry: Any) -> None:
        attempts.append(retry.number)
        raise KeyError("x")

    def failed(payload: Any, producer: Any, retry: Any) -> None:  # undecorated, as in the seed
        calls.append((payload, type(producer).__name__, retry.number))
        producer("gave_up", payload)

    def told(payload: Any) -> None:
        calls.append(payload)

    app.include(
        RunnerContext(
            [
                CallbackRoute(fail, callback_target=failed, entrypoint=ORDER, backoff=AsyncBackOff(2, 20)),
                Route(told, EventListener("svc", "gave_up")),
            ],
            mode,
            3,
        )
    )
    async with serving(app) as service:
        await service.publish("shop", "order", {"n": 1})
        await service.dead_one()
        await until(lambda: len(calls) == 2)
    assert attempts == [1, 2, 3]
    assert calls == [({"n": 1}, "EventProducer", 3), {"n": 1}]


@pytest.mark.anyio
@pytest.mark.feature("F002-07")
async def test_a_callback_gets_the_exception_and_what_it_names_of_the_target(
    make_app: MakeApp, serving: Any, until: Any
) -> None:
    app, calls, closed = make_app(), list[Any](), list[str]()

    async def session() -> Any:
        yield "session"
        closed.append("closed")

    class Target:
        producer = Producer()

        def run(self, payload: int, held: Annotated[str, Depends(session)]) -> None:
            raise KeyError(payload)

    async def failed(payload: int, held: str, error: KeyError, producer: Any, message: Message) -> None:
        calls.append((payload, held, error.args, type(producer).__name__, message.name))

    app.include(RunnerContext([CallbackRoute(Target, ORDER, callback_target=failed, method_name="run")], "thread"))
    async with serving(app) as service:
        await service.publish("shop", "order", 7)
        await until(lambda: calls)
    assert calls == [(7, "session", (7,), "EventProducer", "order")]
    assert closed == ["closed"]  # of the callback; that of the failed call was rolled back


@pytest.mark.anyio
@pytest.mark.feature("F002-07")
async def test_a_failing_callback_is_logged_and_not_repeated(
    make_app: MakeApp, serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app, calls = make_app(), list[int]()

    def fail(payload: int) -> None:
        raise KeyError

    def failed(payload: int) -> None:
        calls.append(payload)
        raise RuntimeError("the callback is broken, too")

    app.include(RunnerContext([CallbackRoute(fail, ORDER, callback_target=failed)]))
    async with serving(app) as service:
        await service.publish("shop", "order", 1)
        assert (await service.dead_one()).reason == "KeyError: INTERNAL after attempt 1"
        await service.drained("shop.order__svc.fail")
    assert calls == [1]
    assert "the callback" in caplog.text


@pytest.mark.anyio
@pytest.mark.feature("F002-07")
async def test_a_callback_of_a_timer(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, calls, runs = make_app(), list[Any](), list[Any]()

    def fail(reference: Any) -> None:
        runs.append(reference)
        raise KeyError("x")

    def failed(reference: Any, exception: Any) -> None:
        calls.append((reference, type(exception)))

    route = CallbackRoute(fail, TimeEntrypoint(0.05), callback_target=failed, backoff=AsyncBackOff(1, 10))
    app.include(RunnerContext([route], "thread"))
    async with serving(app):
        await until(lambda: calls)
    assert runs[:2] == [calls[0][0]] * 2
    assert calls[0][1] is KeyError


def test_a_callback_that_cannot_be_filled_fails_at_start_up() -> None:
    def fail(payload: int) -> None: ...

    def failed(payload: int, nobody_knows: Any) -> None: ...

    app = App(name="svc")
    app.include(RunnerContext([CallbackRoute(fail, ORDER, callback_target=failed)]))
    with pytest.raises(ConfigurationError, match="nobody_knows"):
        app.build()


# -- the same without routes -------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.feature("FX-02")
async def test_options_of_a_plain_binding_do_the_same(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, log = make_app(), list[Any]()

    def failed(payload: int) -> None:
        log.append(("failed", payload))

    @app.on(
        Event("shop", "order"),
        payload_filter=lambda payload: payload > 1,
        translators=[Double()],
        on_failure=failed,
        retry=AsyncBackOff(1, 1),
    )
    async def handle(payload: int) -> Reply | None:
        log.append(payload)
        raise KeyError

    async with serving(app) as service:
        await service.publish("shop", "order", 1)
        await service.publish("shop", "order", 2)
        await until(lambda: ("failed", 4) in log)
    assert log == [4, 4, ("failed", 4)]


@pytest.mark.anyio
@pytest.mark.feature("F002-27")
async def test_queue_listeners_and_modes(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, seen = make_app(), list[Any]()

    def queued(payload: int) -> None:
        seen.append(("queued", payload))

    def everywhere(payload: int) -> None:
        seen.append(("everywhere", payload))

    def single(payload: int) -> None:
        seen.append(("single", payload))

    routes = [
        Route(queued, QueueListener("shop.events", "order", queue_name="work")),
        Route(everywhere, EventListener("shop", "order", mode="broadcast")),
        Route(single, EventListener("shop", "order", mode="singleton")),
    ]
    app.include(RunnerContext(routes))
    async with serving(app) as service:
        from microkit.broker import OutgoingMessage

        await service.publish("shop", "order", 1)
        await service.broker.send("work", OutgoingMessage(b"2"))
        await service.broker.send("shop.order", OutgoingMessage(b"3"))
        await until(lambda: len(seen) == 5)
    assert sorted(seen) == [("everywhere", 1), ("queued", 1), ("queued", 2), ("single", 1), ("single", 3)]
