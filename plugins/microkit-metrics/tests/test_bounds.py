"""What no caller can do: add series, put a text of theirs on the page, break a call by way of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from microkit import App, Event, PublicError, Request
from microkit.observe import Observer
from microkit_metrics import Metrics
from microkit_testkit import HandshakeRejected, TestClient

pytestmark = pytest.mark.anyio

Read = Callable[[App], Any]


@pytest.mark.feature("F002-23")
async def test_ten_thousand_paths_without_a_route_are_one_series(app: App, page: Read) -> None:
    @app.get("/known")
    async def known() -> str:
        return ""

    async with app.started():
        before = len(Metrics.of(app).series)
        for number in range(10_000):
            await app.handle(Request("GET", f"/nothing/{number}"))
        assert len(Metrics.of(app).series) == before + 1
    found = page(app)
    assert found.value("tasks_total", kind="http", route="unmatched", status="4xx") == 10_000
    assert "/nothing" not in found.text


@pytest.mark.feature("F002-23")
async def test_values_of_paths_methods_and_sockets_make_no_labels(app: App, page: Read) -> None:
    @app.get("/users/{id}")
    async def user(id: str) -> str:
        return id

    async with TestClient(app) as client:
        for number in range(50):
            await client.get(f"/users/{number}")
            await client.request(f"METHOD{number}", "/users/1")
            with pytest.raises(HandshakeRejected):
                async with client.websocket(f"/nowhere/{number}"):
                    pass
    routes = {(each["kind"], each["route"]) for each in page(app).labels("tasks_number")}
    assert routes == {("http", "GET /users/{id}"), ("http", "unmatched"), ("socket", "unmatched")}


@pytest.mark.guarantee("G9")
async def test_nothing_that_a_caller_sends_and_no_exception_is_on_the_page(app: App) -> None:
    secret = "hunter2"

    @app.get("/users/{id}")
    async def user(id: str) -> str:
        raise ValueError(f"{secret} {id}")

    @app.on(Event("shop", "sold"))
    async def sold(payload: str) -> None:
        raise PublicError(payload)

    async with TestClient(app, raise_server_exceptions=False) as client:
        await client.get(f"/users/{secret}?token={secret}", headers={"authorization": secret, "host": secret})
        await client.get(f"/{secret}")
        await client.publish("shop", "sold", secret, headers={"key": secret}, message_id=secret)
        for accept in ("", "application/openmetrics-text; version=1.0.0"):
            response = await client.get("/metrics", headers={"accept": accept})
            assert response.status_code == 200
            assert secret not in response.text + str(response.headers)


async def test_two_applications_do_not_clash(make_app: Any, page: Read) -> None:
    apps = [make_app(name=name) for name in ("one", "two")]
    for app in apps:
        Counter("orders", "Orders.", registry=Metrics.of(app).registry).inc()
    async with TestClient(apps[0]) as first, TestClient(apps[1]) as second:
        await first.get("/nowhere")
        pages = [(await client.get("/metrics")).text for client in (first, second)]
    found = [type(page(apps[0]))(text) for text in pages]
    assert [each.value("tasks_total", route="unmatched") for each in found] == [1, None]
    assert [each.value("orders_total") for each in found] == [1, 1]
    assert [each.value("service_info", service=name) for each, name in zip(found, ("one", "two"), strict=True)] == [
        1,
        1,
    ]


async def test_the_metrics_of_an_application_are_injected(app: App) -> None:
    @app.get("/")
    async def hello(metrics: Metrics) -> bool:
        return metrics is Metrics.of(app)

    async with TestClient(app) as client:
        assert (await client.get("/")).json() is True


async def test_metrics_can_be_injected_where_nothing_is_counted(make_app: Any) -> None:
    app = make_app(path=None)

    @app.get("/")
    async def hello(metrics: Metrics) -> str:
        return metrics.render()[0].decode()

    async with TestClient(app) as client:
        assert "service_info" in (await client.get("/")).text
    assert app.observers == ()


async def test_a_collector_that_fails_costs_the_page_and_no_call(app: App, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Collector):
        def collect(self) -> Any:
            yield GaugeMetricFamily("before", "")
            raise LookupError("hunter2")

        def describe(self) -> list[Any]:
            return []

    @app.get("/")
    async def hello() -> str:
        return "hello"

    Metrics.of(app).registry.register(Broken())
    async with TestClient(app, raise_server_exceptions=False) as client:
        assert (await client.get("/")).text == "hello"
        response = await client.get("/metrics")
        assert response.status_code == 500
        assert "hunter2" not in response.text
        assert (await client.get("/")).text == "hello"
    assert "hunter2" in caplog.text


async def test_a_collector_that_is_slow_does_not_hold_up_calls(app: App) -> None:
    import threading

    asked, go_on = threading.Event(), threading.Event()

    class Slow(Collector):
        def collect(self) -> Any:
            asked.set()
            assert go_on.wait(60)
            return []

        def describe(self) -> list[Any]:
            return []

    @app.get("/")
    async def hello() -> str:
        return "hello"

    Metrics.of(app).registry.register(Slow())
    async with TestClient(app) as client, anyio.create_task_group() as group:
        group.start_soon(client.get, "/metrics")
        assert await anyio.to_thread.run_sync(asked.wait, 60)
        assert (await client.get("/")).text == "hello"
        go_on.set()


async def test_a_collector_that_hangs_keeps_one_thread(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    import microkit_metrics.metrics as module

    monkeypatch.setattr(module, "_PATIENCE", 0.02)
    entered, go_on = [], threading.Event()

    class Hanging(Collector):
        def collect(self) -> Any:
            entered.append(1)
            assert go_on.wait(60)
            return []

        def describe(self) -> list[Any]:
            return []

    Metrics.of(app).registry.register(Hanging())
    async with TestClient(app, raise_server_exceptions=False) as client:
        with anyio.move_on_after(0.1):
            await client.get("/metrics")
        assert [(await client.get("/metrics")).status_code for _ in range(3)] == [500] * 3
        assert len(entered) == 1
        go_on.set()


async def test_a_background_task_after_one_that_broke_an_observer_runs(make_app: Any) -> None:
    from microkit import BackgroundTasks, hookimpl

    class Broken(Observer):
        def task_failed(self, call: Any, exc: Exception) -> None:
            raise LookupError("an observer that is broken on purpose")

    class Plugin:
        @hookimpl
        def microkit_observers(self, app: App) -> Observer:
            return Broken()

    app, ran = make_app(Plugin()), []

    async def fail() -> None:
        raise ValueError("broken on purpose")

    @app.get("/")
    async def hello(tasks: BackgroundTasks) -> str:
        tasks.add(fail)
        tasks.add(ran.append, "second")
        return "hello"

    async with TestClient(app) as client:
        await client.get("/")
    assert ran == ["second"]
