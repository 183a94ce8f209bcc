"""Every figure of every kind of call, read from the text that Prometheus would read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from microkit import (
    App,
    BackgroundTasks,
    Batch,
    Event,
    Every,
    Message,
    NotFound,
    Procedure,
    Request,
    Response,
    Router,
    StreamingResponse,
    WebSocket,
)
from microkit_testkit import ConnectionCut, HandshakeRejected, TestClient

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F002-23"), pytest.mark.feature("FX-26")]

Read = Callable[[App], Any]


def quiet(app: App) -> TestClient:
    """A client that gives the reply for what the application raises."""
    return TestClient(app, raise_server_exceptions=False)


async def test_http_requests_are_counted_by_their_class(app: App, page: Read) -> None:
    @app.get("/users/{id}")
    async def user(id: str) -> Response:
        if id == "broken":
            raise ValueError("broken on purpose")
        return Response(b"", int(id))

    async with quiet(app) as client:
        for id in ("200", "204", "302", "404", "409", "503", "broken"):
            await client.get(f"/users/{id}")
        text = (await client.get("/metrics")).text
    found = page(app)
    route = {"kind": "http", "route": "GET /users/{id}"}
    assert [found.value("tasks_total", status=each, **route) for each in ("2xx", "3xx", "4xx", "5xx")] == [2, 1, 2, 2]
    assert found.value("failed_tasks_total", **route) == 2
    assert found.value("tasks_number", **route) == 0
    assert found.value("task_duration_seconds_count", **route) == 7
    assert found.value("task_duration_seconds_bucket", le="+Inf", **route) == 7
    assert 0 < (found.value("task_duration_seconds_sum", **route) or 0) < 60
    # The page counts itself as one that is in flight.
    assert type(found)(text).value("tasks_number", route="GET /metrics") == 1


async def test_a_status_outside_of_all_classes_makes_no_label_of_its_own(app: App, page: Read) -> None:
    @app.get("/{code:int}")
    async def answer(code: int) -> int:
        return code

    async def strange(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        reply.http_status = request.path_params["code"]
        return reply

    app.add_middleware(strange)
    async with quiet(app) as client:
        for code in range(600, 700):
            await client.get(f"/{code}")
    assert page(app).value("tasks_total", route="GET /{code:int}", status="other") == 100


async def test_head_counts_for_its_route(app: App, page: Read) -> None:
    @app.get("/")
    async def hello() -> str:
        return "hello"

    async with TestClient(app) as client:
        await client.head("/")
        await client.get("/")
    assert page(app).value("tasks_total", route="GET /", status="2xx") == 2


async def test_calls_are_in_flight_until_they_end(app: App, page: Read) -> None:
    begun, go_on = anyio.Semaphore(0), anyio.Event()

    @app.get("/")
    async def slow() -> str:
        begun.release()
        await go_on.wait()
        return "done"

    async with TestClient(app) as client, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(client.get, "/")
        for _ in range(3):
            await begun.acquire()
        assert page(app).value("tasks_number", route="GET /") == 3
        go_on.set()
    assert page(app).value("tasks_number", route="GET /") == 0
    assert page(app).value("tasks_total", route="GET /", status="2xx") == 3


async def test_a_cancelled_call_is_not_in_flight_any_more(app: App, page: Read) -> None:
    begun = anyio.Event()

    @app.get("/")
    async def slow() -> None:
        begun.set()
        await anyio.sleep_forever()

    async with TestClient(app) as client, anyio.create_task_group() as group:
        group.start_soon(client.get, "/")
        await begun.wait()
        group.cancel_scope.cancel()
    found = page(app)
    assert found.value("tasks_number", route="GET /") == 0
    assert found.value("tasks_total", route="GET /", status="4xx") == 1
    assert found.value("failed_tasks_total", route="GET /") == 0


async def test_a_stream_is_in_flight_to_its_end_and_fails_if_it_breaks(app: App, page: Read) -> None:
    @app.get("/{outcome}")
    async def stream(outcome: str) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            assert page(app).value("tasks_number", route="GET /{outcome}") == 1
            if outcome == "breaks":
                raise ValueError("broken on purpose")

        return StreamingResponse(pieces())

    async with quiet(app) as client:
        await client.get("/ends")
        with pytest.raises(ConnectionCut):
            await client.get("/breaks")
    found = page(app)
    assert found.value("tasks_number", route="GET /{outcome}") == 0
    assert found.value("tasks_total", route="GET /{outcome}", status="2xx") == 1
    assert found.value("failed_tasks_total", route="GET /{outcome}") == 1


async def test_sockets_that_are_open_are_counted(app: App, page: Read) -> None:
    denied = anyio.Event()

    @app.websocket("/chat/{room}")
    async def chat(ws: WebSocket, room: str) -> None:
        if room == "closed":
            denied.set()
            raise NotFound("There is no such room.")
        await ws.accept()
        async for text in ws:
            if text == "fail":
                raise ValueError("broken on purpose")

    route = {"route": "WEBSOCKET /chat/{room}"}
    async with quiet(app) as client:
        async with client.websocket("/chat/a"), client.websocket("/chat/b") as other:
            assert page(app).value("ws_active_connections", **route) == 2
            assert page(app).value("tasks_number", kind="socket", **route) == 2
            await other.send_text("fail")
            await client.settle()
            assert page(app).value("ws_active_connections", **route) == 1
        with pytest.raises(HandshakeRejected):
            async with client.websocket("/chat/closed"):
                pass
    found = page(app)
    assert found.value("ws_active_connections", **route) == 0
    assert found.value("tasks_number", kind="socket", **route) == 0
    assert found.value("failed_tasks_total", kind="socket", **route) == 1
    assert found.value("tasks_total", kind="socket", status="NOT_FOUND", **route) == 1


async def test_procedures_are_counted_by_status(app: App, page: Read) -> None:
    @app.on(Procedure("users.get"))
    async def get(id: int) -> int:
        if id == 2:
            raise NotFound("nobody")
        return 1 // id

    async with quiet(app) as client:
        for id in (1, 0, 2):
            try:
                await client.rpc("users.get", id)
            except Exception:
                pass
    found, route = page(app), {"kind": "rpc", "route": "users.get"}
    assert [found.value("tasks_total", status=each, **route) for each in ("OK", "INTERNAL", "NOT_FOUND")] == [1, 1, 1]
    assert found.value("failed_tasks_total", **route) == 1


async def test_messages_are_counted_with_retries_dead_letters_and_lag(app: App, page: Read) -> None:
    @app.on(Event("shop", "sold"))
    async def sold(payload: str) -> None:
        if payload != "good":
            raise ValueError("broken on purpose") if payload == "bad" else NotFound("nothing to do with it")

    async with quiet(app) as client:
        await client.publish("shop", "sold", "good")
        retried = await client.publish("shop", "sold", "bad")
        await retried.redeliver()
        await client.publish("shop", "sold", "dead")
        (plan,) = app.table.events["shop", "sold"]
        old = Message(b'"good"', published_at=app.clock.now() - 40.0)
        ahead = Message(b'"good"', published_at=app.clock.now() + 40.0)  # another machine's clock
        await client.publisher.deliver(plan, [old, ahead, Message(b'"good"')])
    found, route = page(app), {"kind": "message", "route": "shop/sold"}
    assert found.value("tasks_total", status="OK", **route) == 4
    assert found.value("failed_tasks_total", **route) == 3
    states = {each: found.value("settled_messages_total", state=each, **route) for each in ("acked", "retried", "dead")}
    assert states == {"acked": 4, "retried": 2, "dead": 1}
    assert found.value("task_retries_total", **route) == 1
    assert found.value("task_lag_seconds_sum", **route) == pytest.approx(40.0, abs=1.0)
    assert found.value("task_lag_seconds_bucket", le="60.0", **route) == 5  # two of seven did not say when
    assert found.value("task_lag_seconds_bucket", le="30.0", **route) == 4
    assert found.value("tasks_number", **route) == 0


async def test_a_message_that_is_cancelled_is_returned(app: App, page: Read) -> None:
    begun = anyio.Event()

    @app.on(Event("shop", "sold"))
    async def sold(payload: str) -> None:
        begun.set()
        await anyio.sleep_forever()

    async with TestClient(app) as client, anyio.create_task_group() as group:
        group.start_soon(client.publish, "shop", "sold", "x")
        await begun.wait()
        group.cancel_scope.cancel()
    found = page(app)
    assert found.value("settled_messages_total", state="returned") == 1
    assert found.value("tasks_total", kind="message", status="CANCELLED") == 1
    assert found.value("tasks_number", kind="message") == 0


async def test_each_message_of_a_batch_is_settled_on_its_own(app: App, page: Read) -> None:
    @app.on(Event("shop", "sold", batch=True))
    async def sold(batch: Batch) -> None:
        first, second, third = batch
        async with first:
            pass
        await second.ack()
        await third.reject("unwanted")

    async with TestClient(app) as client:
        await client.batch("shop", "sold", [1, 2, 3])
    found, route = page(app), {"kind": "batch", "route": "shop/sold[]"}
    assert found.value("tasks_total", status="OK", **route) == 1
    assert found.value("settled_messages_total", state="acked", **route) == 2
    assert found.value("settled_messages_total", state="dead", **route) == 1
    assert found.value("task_lag_seconds_count", **route) == 3


async def test_ticks_are_counted_by_the_name_of_their_schedule(app: App, page: Read) -> None:
    @app.on(Every(3600))
    async def clean() -> None:
        pass

    @app.on(Every(3600))
    async def fail() -> None:
        raise ValueError("broken on purpose")

    async with quiet(app) as client:
        await client.tick("clean", at=client.clock.now() - 7.0)
        await client.tick("fail")
    found = page(app)
    assert found.value("tasks_total", kind="tick", route="clean", status="OK") == 1
    assert found.value("task_lag_seconds_sum", kind="tick", route="clean") == 7.0
    assert found.value("failed_tasks_total", kind="tick", route="fail") == 1


async def test_failures_of_background_tasks_are_counted(app: App, page: Read) -> None:
    async def fail() -> None:
        raise ValueError("broken on purpose")

    @app.get("/")
    async def hello(tasks: BackgroundTasks) -> str:
        tasks.add(fail)
        tasks.add(fail)
        return "hello"

    async with TestClient(app) as client:
        await client.get("/")
    assert page(app).value("failed_background_tasks_total", route="GET /") == 2
    assert page(app).value("tasks_total", route="GET /", status="2xx") == 1


async def test_the_context_is_that_of_the_plan_else_the_group_else_the_plugin(make_app: Any, page: Read) -> None:
    from microkit import hookimpl

    class Workers:
        @hookimpl
        def microkit_modify_plan(self, plan: Any) -> None:
            if plan.address == "shop/sold":
                plan.context = "orders"

    app = make_app(Workers())
    group = Router("/api")

    @group.get("/users")
    async def users() -> str:
        return ""

    @app.on(Event("shop", "sold"))
    async def sold(payload: int) -> None:
        pass

    app.include(group)
    async with TestClient(app) as client:
        await client.get("/api/users")
        await client.publish("shop", "sold", 1)
        await client.get("/metrics")
    found = page(app)
    assert found.value("tasks_total", context="/api", route="GET /api/users") == 1
    assert found.value("tasks_total", context="orders", route="shop/sold") == 1
    assert found.value("tasks_total", context="metrics", route="GET /metrics") == 1


async def test_handlers_of_one_event_have_figures_of_their_own(app: App, page: Read) -> None:
    @app.on(Event("shop", "sold"))
    async def ship(payload: int) -> None:
        pass

    @app.on(Event("shop", "sold"))
    async def bill(payload: int) -> None:
        raise ValueError("broken on purpose")

    async with quiet(app) as client:
        await client.publish("shop", "sold", 1)
    assert page(app).value("failed_tasks_total", route="shop/sold ship") == 0
    assert page(app).value("failed_tasks_total", route="shop/sold bill") == 1


async def test_an_override_keeps_the_figures_and_no_old_plan(app: App, page: Read) -> None:
    import gc
    import weakref

    from microkit import Depends
    from microkit_metrics import Metrics

    def one() -> int:
        return 1

    @app.get("/")
    async def hello(number: int = Depends(one)) -> int:
        return number

    async with TestClient(app) as client:
        await client.get("/")
        old = weakref.ref(next(plan for plan in app.table.plans if plan.address == "GET /"))
        with client.override(one, lambda: 2):
            await client.get("/")
        await client.get("/")
        gc.collect()
        assert old() is None
    assert page(app).value("tasks_total", route="GET /", status="2xx") == 3
    assert len({series.labels for series in Metrics.of(app).series}) == len(Metrics.of(app).series)
