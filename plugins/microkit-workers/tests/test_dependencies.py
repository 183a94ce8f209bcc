"""Dependencies of the seed: hooks, producers, proxies, the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from microkit import App, ConfigurationError, Event, Message, PublicError, StatusCode, inject
from microkit_workers import (
    Config,
    Dependency,
    EventListener,
    Producer,
    Route,
    RPCListener,
    RPCProxyProvider,
    Runner,
    RunnerContext,
    TimeEntrypoint,
)

MakeApp = Callable[..., App]
ORDER = EventListener("shop", "order")


class Noting(Dependency):
    def __init__(self, log: list[Any], fail: bool = False) -> None:
        self.log = log
        self.fail = fail

    def setup_dependency(self, worker: Any) -> None:
        self.log.append(("setup", worker.payload))

    async def get_dependency(self, worker: Any) -> str:
        return f"for {worker.payload}"

    def after_call(self, worker: Any, result: Any, exc: BaseException | None) -> None:
        self.log.append(("after", worker.payload, result, type(exc)))
        if self.fail:
            raise RuntimeError("the hook failed")


@pytest.mark.anyio
@pytest.mark.feature("F002-31")
@pytest.mark.feature("F002-33")
@pytest.mark.feature("F002-34")
@pytest.mark.parametrize("mode", ["async", "thread"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_hooks_of_a_dependency_surround_the_call(
    make_app: MakeApp, serving: Any, until: Any, mode: str, is_async: bool
) -> None:
    app, log = make_app(), list[Any]()

    @inject(noting=Noting(log))
    def handle(payload: int, noting: str) -> int:
        log.append(noting)
        return 10 // payload

    @inject(noting=Noting(log))
    async def handle_async(payload: int, noting: str) -> int:
        log.append(noting)
        return 10 // payload

    app.include(RunnerContext([Route(handle_async if is_async else handle, ORDER)], mode, 1))
    async with serving(app) as service:
        await service.publish("shop", "order", 5)
        await service.publish("shop", "order", 0)
        await until(lambda: len(log) == 6)
    assert log == [
        ("setup", 5),
        "for 5",
        ("after", 5, 2, type(None)),
        ("setup", 0),
        "for 0",
        ("after", 0, None, ZeroDivisionError),
    ]


@pytest.mark.anyio
@pytest.mark.feature("F002-32")
@pytest.mark.feature("F002-34")
async def test_a_failing_after_call_hook_makes_the_call_fail(make_app: MakeApp, serving: Any) -> None:
    app, log = make_app(), list[Any]()

    class Target:
        noting = Noting(log, fail=True)

        def __call__(self, payload: int) -> None:
            log.append(self.noting)

    app.include(RunnerContext([Route(Target, ORDER)], "thread"))
    async with serving(app) as service:
        await service.publish("shop", "order", 1)
        assert (await service.dead_one()).reason == "RuntimeError: INTERNAL after attempt 1"
    assert log == [("setup", 1), "for 1", ("after", 1, None, type(None))]


@pytest.mark.anyio
@pytest.mark.feature("F002-35")
@pytest.mark.feature("F002-20")
async def test_a_producer_publishes_as_its_service_and_waits_for_the_broker(
    make_app: MakeApp, serving: Any, until: Any
) -> None:
    app, seen = make_app(), list[Any]()

    class Target:
        producer = Producer()
        other = Producer("other")
        hasty = Producer(confirm_publish=False)

        def sync(self, payload: int) -> None:
            assert self.producer("done", {"by": "sync"}) is None
            self.other("done", {"by": "other"})
            self.hasty("done", {"by": "hasty"})

        async def coroutine(self, payload: int) -> None:
            await self.producer("done", {"by": "awaited"})
            self.producer("done", {"by": "not awaited"})

    def done(payload: dict[str, str], message: Message) -> None:
        seen.append((message.source, payload["by"], bool(message.message_id)))

    routes = [Route(Target, ORDER, method_name=name) for name in ("sync", "coroutine")]
    routes += [Route(done, EventListener(source, "done"), metric_label=source) for source in ("svc", "other")]
    app.include(RunnerContext(routes, "thread"))
    async with serving(app) as service:
        await service.publish("shop", "order", 1)
        await until(lambda: len(seen) == 5)
    expected = [("other", "other", True), *(("svc", by, True) for by in ("awaited", "hasty", "not awaited", "sync"))]
    assert sorted(seen) == expected


@pytest.mark.anyio
@pytest.mark.feature("F002-35")
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_cannot_be_published_makes_the_call_fail(
    make_app: MakeApp, serving: Any, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    app = make_app()

    @inject(producer=Producer())
    def handle(payload: int, producer: Any) -> None:
        producer("done", 1)

    @inject(producer=Producer())
    async def handle_async(payload: int, producer: Any) -> None:
        producer("done", 1)  # not even awaited

    app.include(RunnerContext([Route(handle_async if is_async else handle, ORDER)], "thread"))
    async with serving(app) as service:
        publish = service.broker.publish

        async def refuse(source: str, event: str, message: Any) -> None:
            if event == "done":
                raise PublicError("The broker is full.", status=StatusCode.UNAVAILABLE)
            await publish(source, event, message)

        monkeypatch.setattr(service.broker, "publish", refuse)
        await service.publish("shop", "order", 1)
        letter = await service.dead_one()
    # What a teardown fails with is no answer of the handler, so its text is not public any more.
    assert letter.reason.startswith("PublicError: " + ("INTERNAL" if is_async else "UNAVAILABLE"))


@pytest.mark.anyio
async def test_a_payload_that_has_no_json_form_fails_clearly(make_app: MakeApp, serving: Any) -> None:
    app = make_app()

    @inject(producer=Producer())
    def handle(payload: int, producer: Any) -> None:
        producer("done", object())

    app.include(RunnerContext([Route(handle, ORDER)], "thread"))
    async with serving(app) as service:
        await service.publish("shop", "order", 1)
        assert (await service.dead_one()).reason.startswith("TypeError")


def add(a: int, b: int = 1, *args: int, **kwargs: int) -> int:
    """Adds."""
    return a + b + sum(args) + sum(kwargs.values())


class Calculator:
    def times(self, a: int, b: int) -> int:
        return a * b


def broken(x: int) -> None:
    raise KeyError("secret")


RPC_ROUTES = [Route(add, RPCListener()), Route(Calculator, RPCListener(), method_name="times"),
              Route(broken, RPCListener())]  # fmt: skip


@pytest.mark.anyio
@pytest.mark.feature("F002-06")
@pytest.mark.feature("F002-28")
@pytest.mark.feature("F002-42")
@pytest.mark.feature("F002-43")
@pytest.mark.feature("F002-48")
async def test_a_proxy_in_a_thread_calls_waits_and_looks_around(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, seen = make_app(), list[Any]()

    @inject(svc=RPCProxyProvider("svc"))
    def call(reference: Any, svc: Any) -> None:
        future = svc.add.call_async(1, b=2, c=3)
        seen.append(svc.add(1, 2, 3, d=4))
        seen.append(svc.Calculator.times(3, 4))
        seen.append(future.result(timeout=60))
        seen.append(future.done())
        seen.append(sorted(svc.targets))
        seen.append(svc.add.info)

    app.include(RunnerContext([*RPC_ROUTES, Route(call, TimeEntrypoint(60, immediate=True))], "thread", 4))
    async with serving(app):
        await until(lambda: len(seen) == 6)
    assert seen[:5] == [10, 12, 6, True, ["Calculator.times", "add", "broken"]]
    assert (seen[5].name, seen[5].args, seen[5].doc) == ("add", ("a", "b"), "Adds.")


@pytest.mark.anyio
@pytest.mark.feature("F002-42")
@pytest.mark.feature("F002-44")
@pytest.mark.feature("F002-45")
async def test_a_proxy_in_a_coroutine_is_awaited_and_its_errors_are_typed(
    make_app: MakeApp, serving: Any, until: Any
) -> None:
    app, seen = make_app(), list[Any]()

    async def status(awaitable: Any) -> Any:
        try:
            return await awaitable
        except PublicError as exc:
            return exc.status, str(exc)

    @inject(svc=RPCProxyProvider("svc"), nobody=RPCProxyProvider("nobody", timeout=5))
    async def call(reference: Any, svc: Any, nobody: Any) -> None:
        future = svc.add.call_async(2)
        seen.append(await svc.add(1))
        with pytest.raises(RuntimeError, match="await the future"):
            svc.add.call_async(1).result()
        seen.append(await future)
        seen.append(len(await svc.targets))
        for failing in (svc.broken(1), svc.nothing(1), nobody.add(1), nobody.add.call_async(1), svc.add("x")):
            seen.append(await status(failing))

    app.include(RunnerContext([*RPC_ROUTES, Route(call, TimeEntrypoint(60, immediate=True))], "async", 4))
    async with serving(app):
        await until(lambda: len(seen) == 8)
    assert seen[:3] == [2, 3, 3]
    assert [each[0] for each in seen[3:]] == [
        StatusCode.INTERNAL,
        StatusCode.NOT_FOUND,
        StatusCode.NOT_FOUND,
        StatusCode.NOT_FOUND,
        StatusCode.INVALID_ARGUMENT,
    ]
    assert "secret" not in seen[3][1]


@pytest.mark.anyio
@pytest.mark.feature("F002-44")
async def test_a_call_waits_no_longer_than_its_timeout(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, seen = make_app(app={"shutdown_timeout": 0.2}), list[Any]()

    async def slow() -> None:
        await anyio.sleep_forever()

    @inject(svc=RPCProxyProvider("svc", timeout=0.2))
    def call(reference: Any, svc: Any) -> None:
        future = svc.slow.call_async()
        with pytest.raises(TimeoutError):
            future.result(timeout=0.01)
        try:
            svc.slow()
        except PublicError as exc:
            seen.append(exc.status)

    app.include(
        RunnerContext([Route(slow, RPCListener()), Route(call, TimeEntrypoint(60, immediate=True))], "thread", 4)
    )
    async with serving(app):
        await until(lambda: seen)
    assert seen == [StatusCode.DEADLINE_EXCEEDED]


@pytest.mark.anyio
@pytest.mark.feature("F002-34")
async def test_the_configuration_is_a_dependency(serving: Any, until: Any) -> None:
    seen = list[Any]()

    class Target:
        config = Config()

        def __call__(self, payload: int) -> None:
            seen.append(self.config)

    runner = Runner([Route(Target, ORDER)], {"SERVICE_NAME": "shop2", "MAX_WORKERS": 2, "COLOUR": "red"})
    async with serving(runner.app) as service:
        await service.publish("shop", "order", 1)
        await until(lambda: seen)
    assert (seen[0]["SERVICE_NAME"], seen[0]["MAX_WORKERS"], seen[0]["COLOUR"]) == ("shop2", 2, "red")


@pytest.mark.parametrize(("key", "meant"), [("AMQP_URL", "AMQP_URI"), ("WORKERS_MODE", "WORKER_MODE")])
def test_a_misspelt_key_of_the_configuration_is_not_taken_for_the_user_s_own(key: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"key '{key}', which nobody reads, and which looks like '{meant}'"):
        Runner([], {key: "amqp://localhost"})


@pytest.mark.anyio
async def test_a_plain_application_has_a_configuration_too(make_app: MakeApp, serving: Any, until: Any) -> None:
    app, seen = make_app(max_workers=3), list[Any]()

    @app.on(Event("shop", "order"))
    @inject(config=Config())
    async def handle(payload: int, config: Any) -> None:
        seen.append(config)

    async with serving(app) as service:
        await service.publish("shop", "order", 1)
        await until(lambda: seen)
    assert seen[0]["SERVICE_NAME"] == "svc"
    assert seen[0]["MAX_WORKERS"] == 3
