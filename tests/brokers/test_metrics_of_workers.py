"""What microkit-metrics shows of microkit-workers, over its page: neither of them knows the other."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from microkit import App, ConfigurationError, Event, Every
from microkit.broker import Broker, OutgoingMessage
from microkit.codecs import json_dumps
from microkit.host import Host
from microkit_metrics import Metrics
from microkit_workers import Backoff, Runner, RunnerContext

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F002-23")]
_PATIENCE = 15.0


class Service:
    """A running application with its figures on a port."""

    def __init__(self, app: App, port: int) -> None:
        self.app = app
        self.port = port

    async def publish(self, event: str, payload: Any, **options: Any) -> None:
        broker = await self.app.container.get(Broker)
        await broker.publish("web", event, OutgoingMessage(json_dumps(payload), **options))

    async def page(self) -> Callable[..., float | None]:
        """The figures: by name, and labels of which there must be one sample at most."""
        received = b""
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            await stream.send(b"GET /metrics HTTP/1.1\r\n\r\n")
            with contextlib.suppress(anyio.EndOfStream):
                while True:
                    received += await stream.receive()
        text = received.partition(b"\r\n\r\n")[2].decode()
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]

        def value(name: str, **labels: str) -> float | None:
            found = [each.value for each in samples if each.name == name and labels.items() <= each.labels.items()]
            assert len(found) <= 1, (name, labels)
            return found[0] if found else None

        return value

    async def until(self, name: str, expected: float, **labels: str) -> Callable[..., float | None]:
        """The figures, once one of them is as expected."""
        value = await self.page()
        with anyio.move_on_after(_PATIENCE):
            while value(name, **labels) != expected:
                await anyio.sleep(0.02)
                value = await self.page()
        assert value(name, **labels) == expected
        return value


@pytest.fixture
def serving(caplog: pytest.LogCaptureFixture) -> Callable[[App], Any]:
    """Runs an application with all of its ingresses."""

    @contextlib.asynccontextmanager
    async def serve(app: App) -> AsyncGenerator[Service]:
        caplog.set_level("INFO", "microkit.metrics")
        host = Host(app)
        async with anyio.create_task_group() as group:
            group.start_soon(host.serve)
            with anyio.fail_after(_PATIENCE):
                await host.opened.wait()
            found = re.search(r"http://[\d.]+:(\d+)/metrics", caplog.text)
            assert found is not None
            try:
                yield Service(app, int(found[1]))
            finally:
                host.stop()

    return serve


def shop(url: str) -> App:
    return App(name="shop", settings={"workers": {"broker": url}, "metrics": {"port": 0, "loop_interval": 0}})


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, tmp_path: Any) -> App:
    return shop("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db")


async def test_busy_and_available_workers_and_waiting_tasks(app: App, serving: Any) -> None:
    context, gate = RunnerContext([], "async", 2, "reports"), anyio.Event()

    @context.on(Event("web", "report"), prefetch=10)
    async def report(payload: int) -> None:
        await gate.wait()

    app.include(context)
    async with serving(app) as service:
        value = await service.page()
        about = {"max_workers": "2", "worker_mode": "async", "service": "shop"}
        assert value("service_info", context="reports", **about) == 1
        assert value("available_workers", context="reports") == 2
        assert value("available_workers", context="default") is None  # nothing uses it
        for number in range(5):
            await service.publish("report", number)
        value = await service.until("waiting_tasks", 3, context="reports")
        assert value("available_workers", context="reports") == 0
        assert value("busy_workers", context="reports") == 2
        assert value("tasks_number", kind="message", context="reports", route="web/report") == 2
        gate.set()
        value = await service.until("available_workers", 2, context="reports")
        assert value("waiting_tasks", context="reports") == 0
        assert value("tasks_total", context="reports", route="web/report", status="OK") == 5
        assert value("settled_messages_total", context="reports", route="web/report", state="acked") == 5


@pytest.mark.feature("FX-26")
async def test_retries_dead_letters_and_lag(app: App, serving: Any) -> None:
    context = RunnerContext([], "thread", 2, "shipping")

    @context.on(Event("web", "order"), retry=Backoff(2, 0.05))
    def ship(payload: Any) -> None:
        raise ConnectionError("no ship")

    @context.on(Event("web", "letter"), payload_filter=lambda payload: payload["wanted"])
    def post(payload: Any) -> None: ...

    @app.on(Event("web", "bill"))
    async def bill(payload: Any) -> None: ...

    app.include(context)
    async with serving(app) as service:
        await service.publish("order", 1)
        await service.publish("letter", {"wanted": True}, delay=0.2)
        await service.publish("letter", {})  # the filter raises
        order = {"kind": "message", "context": "shipping", "route": "web/order"}
        value = await service.until("settled_messages_total", 1, **order, state="dead")
        assert value("settled_messages_total", **order, state="retried") == 2
        assert value("task_retries_total", **order) == 2
        assert value("failed_tasks_total", **order) == 3
        assert value("task_lag_seconds_count", **order) == 3
        assert value("task_lag_seconds_bucket", **order, le="1.0") == 3
        letter = {"kind": "message", "context": "shipping", "route": "web/letter"}
        value = await service.until("settled_messages_total", 1, **letter, state="acked")
        assert value("settled_messages_total", **letter, state="dead") == 1
        assert value("task_lag_seconds_count", **letter) == 2
        sum_of_lags = value("task_lag_seconds_sum", **letter)
        assert sum_of_lags is not None
        assert sum_of_lags < 0.2  # the delay that was asked for is none
        await service.publish("bill", 1)
        value = await service.until("settled_messages_total", 1, context="default", route="web/bill", state="acked")
        assert value("available_workers", context="default") == 10


@pytest.mark.feature("FX-26")
async def test_messages_that_are_too_large_are_counted_as_dead(serving: Any) -> None:
    app = App(settings={"workers": {"max_message_size": 10}, "metrics": {"port": 0}})

    @app.on(Event("web", "bill"))
    async def bill(payload: str) -> None: ...

    async with serving(app) as service:
        await service.publish("bill", "x" * 100)
        await service.until("settled_messages_total", 1, kind="message", route="web/bill", state="dead")


@pytest.mark.feature("FX-26")
async def test_retries_of_timers_are_counted(serving: Any) -> None:
    app, attempts = shop("memory://"), list[int]()
    context = RunnerContext([], "async", 1, "night")

    @context.on(Every(3600, immediate=True), name="tidy_up", retry=Backoff(5, 0.01))
    async def tidy_up() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError

    app.include(context)
    async with serving(app) as service:
        tick = {"kind": "tick", "context": "night"}
        value = await service.until("tasks_total", 1, **tick, status="OK")
        assert value("task_retries_total", **tick) == 2
        assert value("failed_tasks_total", **tick) == 2
        assert value("task_lag_seconds_count", **tick) == 1
        assert value("available_workers", context="night") == 1


async def test_the_pools_of_a_second_start_replace_those_of_the_first() -> None:
    app, context = shop("memory://"), RunnerContext([], "thread", 3, "mails")
    context.on(Event("web", "mail"))(lambda payload: None)
    app.include(context)
    for number in (1, 2):
        async with app.started():
            text = Metrics.of(app).render()[0].decode()
            assert 'available_workers{context="mails"} 3.0' in text, number


@pytest.mark.feature("F002-22")
async def test_a_runner_serves_metrics_where_the_seeds_keys_say(serving: Any) -> None:
    context = RunnerContext([], "thread", 3, "mails")
    context.on(Event("web", "mail"))(lambda payload: None)
    config = {"ENABLE_METRICS": True, "METRICS": {"HOST": "127.0.0.1", "PORT": 0}}
    async with serving(Runner([context], config).app) as service:
        value = await service.page()
        assert value("available_workers", context="mails") == 3


@pytest.mark.feature("F002-22")
def test_a_runner_without_the_key_counts_nothing() -> None:
    app = Runner([], {"METRICS": {"PORT": 1}}).app
    app.build()
    assert (app.all_settings["metrics"].active, app.observers) == (False, ())


@pytest.mark.feature("F002-22")
def test_the_seeds_host_and_port_are_the_defaults() -> None:
    app = Runner([], {"ENABLE_METRICS": True}).app
    app.build()
    assert (app.all_settings["metrics"].host, app.all_settings["metrics"].port) == ("0.0.0.0", 8000)


@pytest.mark.feature("F002-22")
def test_without_the_plugin_the_error_names_it() -> None:
    import microkit_workers.plugin

    app = Runner([], {"ENABLE_METRICS": True}, plugins=[microkit_workers.plugin], discover=False).app
    with pytest.raises(ConfigurationError, match="Settings are given for 'metrics', but no active plugin"):
        app.build()
