"""Start-up in order, shutdown in reverse, and the same when a step fails."""

from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, Depends, MicrokitError, PluginInfo, Provider, StartupError, hookimpl
from microkit.observe import Observer

pytestmark = [pytest.mark.anyio, pytest.mark.guarantee("G1")]

STEPS = ("configure", "service a", "service b", "startup 1", "startup 2", "plugin one", "plugin two", "lifespan")


class Boom(Exception):
    """What a failing step raises."""


def build(log: list[str], failing: str = "", failing_stop: str = "") -> App:
    """An app that logs every step, and fails at one."""

    def start(name: str) -> None:
        if name == failing:
            raise Boom("broken on purpose")
        log.append(name)

    def stop(name: str) -> None:
        log.append(f"-{name}")
        if name == failing_stop:
            raise Boom("broken on purpose")

    class Plugin:
        def __init__(self, name: str) -> None:
            self.name = name
            self.microkit_plugin_info = PluginInfo(name)

        @hookimpl
        def microkit_configure(self, app: App) -> None:
            if self.name == "one":
                start("configure")

        @hookimpl
        def microkit_lifespan(self, app: App) -> Any:
            @asynccontextmanager
            async def lifespan():
                start(f"plugin {self.name}")
                yield
                stop(f"plugin {self.name}")

            return lifespan()

    class A:
        def __init__(self) -> None:
            start("service a")

        async def aclose(self) -> None:
            stop("service a")

    class B:
        def __init__(self, a: A) -> None:
            start("service b")

        def close(self) -> None:
            stop("service b")

    class Unused:
        def __init__(self) -> None:
            log.append("unused service")

    async def lifespan(app: App):
        start("lifespan")
        yield {"pool": "open"}
        stop("lifespan")

    app = App(
        plugins=[Plugin("one"), Plugin("two")],
        discover=False,
        lifespan=lifespan,
        service_providers=[[A, B, Unused]],
        on_startup=[lambda: start("startup 1")],
        on_shutdown=[lambda: stop("startup 1")],
    )

    @app.on_startup
    async def second() -> None:
        start("startup 2")

    @app.on_shutdown
    async def second_down() -> None:
        stop("startup 2")

    @app.get("/")
    async def root(b: B) -> str:
        return "here"

    return app


@pytest.mark.feature("F001-33")
@pytest.mark.feature("F003-04")
@pytest.mark.feature("F000-03")
async def test_everything_starts_in_order_and_stops_in_reverse() -> None:
    log: list[str] = []
    app = build(log)
    async with app.started():
        assert log == list(STEPS)
        assert app.runtime.state == {"pool": "open"}
        log.clear()
    assert log == [f"-{step}" for step in reversed(STEPS) if step != "configure"]


@pytest.mark.parametrize("failing", STEPS)
@pytest.mark.guarantee("G2")
async def test_what_was_started_is_torn_down_when_a_later_step_fails(failing: str) -> None:
    log: list[str] = []
    app = build(log, failing)
    with pytest.raises(MicrokitError) as caught:
        async with app.started():
            raise AssertionError("start-up must not succeed")
    assert "broken on purpose" in str(caught.value)
    if failing not in ("configure",):
        assert isinstance(caught.value, StartupError)
    started = [step for step in log if not step.startswith("-")]
    assert started == list(STEPS[: STEPS.index(failing)])
    stopped = [step[1:] for step in log if step.startswith("-")]
    contexts = [step for step in started if step not in ("configure", "startup 1", "startup 2")]
    assert [step for step in stopped if not step.startswith("startup")] == contexts[::-1]
    # Shutdown hooks are no pairs of start-up hooks: all run once the first start-up hook had its turn.
    hooks = [step for step in stopped if step.startswith("startup")]
    assert hooks == (["startup 2", "startup 1"] if STEPS.index(failing) >= STEPS.index("startup 1") else [])


@pytest.mark.parametrize("failing", ["service a", "service b", "startup 1", "startup 2", "plugin one", "lifespan"])
async def test_a_failing_shutdown_step_stops_no_other(failing: str) -> None:
    log: list[str] = []
    app = build(log, failing_stop=failing)
    with pytest.raises(Boom):
        async with app.started():
            log.clear()
    assert log == [f"-{step}" for step in reversed(STEPS) if step != "configure"]


async def test_a_failed_start_can_be_repeated() -> None:
    attempts: list[int] = []
    app = App(plugins=[], discover=False)

    @app.on_startup
    def fragile() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise Boom("not yet")

    @app.get("/")
    async def root() -> str:
        return "here"

    with pytest.raises(StartupError, match=r"fragile.*not yet"):
        async with app.started():
            pass
    async with app.started():
        assert len(attempts) == 2


async def test_services_live_and_end_in_one_task() -> None:
    tasks: list[int] = []

    async def pool():
        tasks.append(anyio.get_current_task().id)
        async with anyio.create_task_group():  # would raise if it were left in another task
            yield "pool"
        tasks.append(anyio.get_current_task().id)

    app = App(plugins=[], discover=False)
    app.registry.add(Provider("lazy", pool, scope="app"))
    app.registry.add(Provider("eager", pool, scope="app"))

    @app.get("/")
    async def root(eager: str = Depends("eager")) -> str:
        return eager

    async with app.started():
        async with anyio.create_task_group() as group:  # asked for by other tasks, made by the owner
            for _ in range(3):
                group.start_soon(app.container.get, "lazy")
        assert len(tasks) == 2
    assert len(tasks) == 4
    assert len(set(tasks)) == 1


async def test_the_first_call_starts_an_app_that_nobody_started() -> None:
    from microkit import Request

    log: list[str] = []
    app = build(log)
    replies: list[Any] = []

    async def ask() -> None:
        replies.append(await app.handle(Request("GET", "/")))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
    assert log == list(STEPS)
    assert [reply.body for reply in replies] == [b"here"] * 5
    await app.runtime.stop()
    assert log[-1] == "-service a"


@pytest.mark.feature("F001-32")
@pytest.mark.guarantee("G7")
async def test_shutdown_waits_for_background_work_until_its_deadline() -> None:
    from microkit import BackgroundTasks, Request

    done: list[str] = []
    ended = anyio.Event()

    async def quick() -> None:
        await ended.wait()
        done.append("quick")

    async def endless() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            done.append("cancelled")

    app = App(plugins=[], discover=False, settings={"app": {"shutdown_timeout": 0.3, "log_level": "ERROR"}})

    @app.get("/quick")
    async def start_quick(tasks: BackgroundTasks) -> None:
        tasks.add(quick)

    @app.get("/endless")
    async def start_endless(tasks: BackgroundTasks) -> None:
        tasks.add(endless)

    async with anyio.create_task_group() as group:
        async with app.started():
            group.start_soon(app.handle, Request("GET", "/quick"))
            group.start_soon(app.handle, Request("GET", "/endless"))
            while len(app.runtime.background) < 2:
                await anyio.lowlevel.checkpoint()
            ended.set()
    assert sorted(done) == ["cancelled", "quick"]


@pytest.mark.guarantee("G9")
async def test_observers_see_calls_and_failed_tasks() -> None:
    from microkit import BackgroundTasks, Request

    seen: list[str] = []

    class Watching(Observer):
        def call_started(self, call: Any) -> None:
            seen.append(f"start {call.address}")

        def call_finished(self, call: Any, reply: Any, duration: float) -> None:
            assert duration >= 0
            seen.append(f"finish {reply.http_status}")

        def task_failed(self, call: Any, exc: Exception) -> None:
            seen.append(f"task {exc}")

    class Plugin:
        @hookimpl
        def microkit_observers(self, app: App) -> Any:
            return [Watching()]

    def broken() -> None:
        raise Boom("task")

    app = App(plugins=[Plugin()], discover=False, settings={"app": {"log_level": "CRITICAL"}})

    @app.get("/")
    async def root(tasks: BackgroundTasks) -> str:
        tasks.add(broken)
        return "x"

    async with app.started():
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request"}

        async def send(event: Any) -> None:
            sent.append(event)

        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        await app(scope, receive, send)
        await app.handle(Request("GET", "/"))
    assert seen == ["start GET /", "task task", "finish 200"] * 2
    assert sent[0]["status"] == 200
