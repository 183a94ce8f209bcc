"""What microkit-metrics shows of microkit-workers, over its page: neither of them knows the other."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from prometheus_client.parser import text_string_to_metric_families

from microkit import App, ConfigurationError, Event, Every
from microkit.broker import Broker, OutgoingMessage
from microkit.codecs import json_dumps
from microkit.host import Host
from microkit_metrics import Metrics
from microkit_workers import Backoff, Runner, RunnerContext
from tests.rabbitmq.node import Rabbit

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F002-23")]
_PATIENCE = 60.0


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
    workers = {"broker": url, "queue_interval": 0.2}
    return App(name="shop", settings={"workers": workers, "metrics": {"port": 0, "loop_interval": 0}})


@pytest.fixture(params=["memory", "sqlite", "amqp"])
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "amqp":
        return request.getfixturevalue("url")
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def app(broker_url: str) -> App:
    return shop(broker_url)


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
        await service.until("waiting_tasks", 3, context="reports")
        await service.until("tasks_number", 2, kind="message", context="reports", route="web/report")
        value = await service.until("busy_workers", 2, context="reports")
        assert value("available_workers", context="reports") == 0
        gate.set()
        await service.until("tasks_total", 5, context="reports", route="web/report", status="OK")
        await service.until("settled_messages_total", 5, context="reports", route="web/report", state="acked")
        value = await service.until("available_workers", 2, context="reports")
        assert value("waiting_tasks", context="reports") == 0


@pytest.mark.feature("FX-26")
async def test_retries_dead_letters_and_lag(app: App, serving: Any) -> None:
    context = RunnerContext([], "thread", 2, "shipping")

    @context.on(Event("web", "order"), retry=Backoff(2, 0.05))
    def ship(payload: Any) -> None:
        raise ConnectionError("no ship")

    posted: list[float] = []

    @context.on(Event("web", "letter"), payload_filter=lambda payload: payload["wanted"])
    def post(payload: Any) -> None:
        posted.append(time.time())

    @app.on(Event("web", "bill"))
    async def bill(payload: Any) -> None: ...

    app.include(context)
    async with serving(app) as service:
        await service.publish("order", 1)
        order = {"kind": "message", "context": "shipping", "route": "web/order"}
        await service.until("settled_messages_total", 1, **order, state="dead")
        await service.until("failed_tasks_total", 3, **order)
        value = await service.until("settled_messages_total", 2, **order, state="retried")
        assert value("task_retries_total", **order) == 2
        assert value("task_lag_seconds_count", **order) == 3
        assert value("task_lag_seconds_bucket", **order, le="60.0") == 3
        sent = time.time()
        await service.publish("letter", {"wanted": True}, delay=0.5)
        letter = {"kind": "message", "context": "shipping", "route": "web/letter"}
        value = await service.until("settled_messages_total", 1, **letter, state="acked")
        sum_of_lags = value("task_lag_seconds_sum", **letter)
        assert sum_of_lags is not None
        assert sum_of_lags < posted[0] - sent - 0.3  # the delay that was asked for is none
        await service.publish("letter", {})  # the filter raises
        value = await service.until("settled_messages_total", 1, **letter, state="dead")
        assert value("task_lag_seconds_count", **letter) == 2
        await service.publish("bill", 1)
        await service.until("settled_messages_total", 1, context="default", route="web/bill", state="acked")
        await service.until("available_workers", 10, context="default")


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
        await service.until("available_workers", 1, context="night")


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


MODES = """
from pathlib import Path
import os, time
from microkit import *
from microkit_workers import *

workers = {{"broker": {url!r}, "queue_interval": 0.2}}
app = App(name="shop", settings={{"workers": workers, "metrics": {{"port": 0, "loop_interval": 0}}}})
context = RunnerContext([], "{mode}", 2, "reports")

@context.on(Event("web", "report"), prefetch=5)
def report(payload: int):
    while not os.path.exists({gate!r}):
        time.sleep(0.01)

@context.on(Event("web", "order"), retry=Backoff(2, 0.05))
def ship(payload: int):
    raise ConnectionError("no ship")

app.include(context)
"""


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[str], App]]:
    """Imports an application as a module of its own, as child processes do."""
    names: list[str] = []
    sys.path.insert(0, str(tmp_path))

    def make(source: str) -> App:
        names.append(f"metrics_{abs(hash(str(tmp_path)))}")
        (tmp_path / f"{names[0]}.py").write_text(source)
        return importlib.import_module(names[0]).app

    yield make
    sys.path.remove(str(tmp_path))
    for each in names:
        sys.modules.pop(each, None)


@pytest.mark.feature("FX-26")
@pytest.mark.parametrize("mode", ["async", "thread", "process"])
async def test_all_figures_of_a_context_in_each_mode(
    mode: str, broker_url: str, load: Callable[[str], App], serving: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    app = load(MODES.format(url=broker_url, mode=mode, gate=str(gate)))
    pool = {"context": "reports"}
    report, order = ({"kind": "message", **pool, "route": f"web/{name}"} for name in ("report", "order"))
    async with serving(app) as service:
        for number in range(5):
            await service.publish("report", number)
        await service.until("waiting_tasks", 3, **pool)
        await service.until("tasks_number", 2, **report)
        value = await service.until("busy_workers", 2, **pool)
        assert value("service_info", **pool, worker_mode=mode, max_workers="2") == 1
        assert value("available_workers", **pool) == 0
        await service.until("queue_messages", 5, **report, state="unsettled")
        gate.touch()
        await service.until("settled_messages_total", 5, **report, state="acked")
        value = await service.until("tasks_total", 5, **report, status="OK")
        assert value("task_duration_seconds_count", **report) == 5
        assert value("tasks_number", **report) == 0
        await service.publish("order", 1)
        await service.until("settled_messages_total", 1, **order, state="dead")
        value = await service.until("failed_tasks_total", 3, **order)
        assert value("settled_messages_total", **order, state="retried") == 2
        assert value("task_retries_total", **order) == 2
        assert value("task_lag_seconds_count", **order) == 3
        value = await service.until("queue_messages", 1, **order, queue="web.order__shop.ship", state="dead")
        assert value("queue_messages", **order, state="ready") == 0
        value = await service.until("available_workers", 2, **pool)
        assert value("busy_workers", **pool) == 0


@pytest.mark.feature("FX-26")
async def test_dead_letters_that_rabbitmq_makes_are_seen(
    url: str, rabbit: Rabbit, vhost: str, serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app, gate = shop(url), anyio.Event()

    @app.on(Event("web", "order"), prefetch=1)
    async def ship(payload: Any) -> None:
        await gate.wait()

    queue = "web.order__shop.ship"
    async with serving(app) as service:
        await service.publish("order", 1)
        labels = {"kind": "message", "route": "web/order", "queue": queue}
        await service.until("queue_messages", 1, **labels, state="unsettled")
        body = {"routing_key": queue, "payload": "2", "payload_encoding": "string", "properties": {"expiration": "100"}}
        path = f"exchanges/{vhost}/amq.default/publish"
        assert (await anyio.to_thread.run_sync(rabbit.api, "POST", path, body))["routed"]
        value = await service.until("queue_messages", 1, **labels, state="dead")
        assert value("settled_messages_total", route="web/order", state="dead") is None
        gate.set()
        await service.until("settled_messages_total", 1, route="web/order", state="acked")
        broker = await app.container.get(Broker)
        assert [each.reason async for each in broker.dead_letters(queue)] == ["expired"]
    assert f"dead letters of {queue}: 1, 1 more than before" in caplog.text
