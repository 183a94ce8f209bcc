"""What plugins contribute takes effect: codecs, stores, renderers, providers, middleware, executors, routers."""

from typing import Any

import pytest

from microkit import (
    App,
    ConfigurationError,
    Event,
    InMemorySessionBackend,
    MiddlewareSpec,
    PluginError,
    PluginInfo,
    Procedure,
    Provider,
    Request,
    Response,
    RouterSpec,
    RpcRequest,
    hookimpl,
)
from microkit.codecs import CodecSpec
from microkit.executor import ExecutorSpec
from microkit.inprocess import Publisher
from microkit.observe import Observer
from microkit.renderers import RendererSpec
from microkit.session import SessionBackendSpec
from microkit.settlement import State

pytestmark = [pytest.mark.anyio, pytest.mark.feature("FC-02")]


class Point:
    """A type that only the plugin can send."""

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y


class OffMap(Exception):
    """An exception that only the plugin knows a reply for."""


class Plugin:
    """Contributes one of everything that applications use."""

    microkit_plugin_info = PluginInfo("extra")

    @hookimpl
    def microkit_codecs(self) -> CodecSpec:
        return CodecSpec("text/csv", lambda value: ",".join(value).encode(), lambda data: data.decode().split(","))

    @hookimpl
    def microkit_session_backends(self) -> SessionBackendSpec:
        return SessionBackendSpec("small", lambda url: InMemorySessionBackend(max_sessions=int(url.partition("//")[2])))

    @hookimpl
    def microkit_renderers(self) -> list[RendererSpec]:
        return [
            RendererSpec(Point, lambda point: Response(f"{point.x}/{point.y}")),
            RendererSpec(OffMap, lambda exc: Response("off the map", 451)),
        ]

    @hookimpl
    def microkit_providers(self, app: App) -> list[Provider]:
        return [Provider("scale", value=10), Provider("kept", value="the plugin's")]

    @hookimpl
    def microkit_middleware(self, app: App) -> MiddlewareSpec:
        async def stamp(request: Request, call_next: Any) -> Any:
            reply = await call_next(request)
            reply.headers["x-stamp"] = "extra"
            return reply

        return MiddlewareSpec(stamp, automatic=True)

    @hookimpl
    def microkit_executors(self) -> ExecutorSpec:
        def doubled(func: Any) -> Any:
            async def run(*args: Any) -> Any:
                return func(*args) * 2

            return run

        return ExecutorSpec("twice", doubled)

    @hookimpl
    def microkit_routers(self) -> RouterSpec:
        class Only:
            def __init__(self, entries: Any) -> None:
                self.target = next(entry.target for entry in entries if entry.pattern.text == "/only")

            def match(self, method: str, segments: Any) -> Any:
                return self.target, ()

            def allowed(self, segments: Any) -> set[str]:
                return set()

        return RouterSpec("only", Only)


def application(**options: Any) -> App:
    app = App(plugins=[Plugin()], discover=False, settings={"app": {"log_level": "CRITICAL"}}, **options)
    app.registry.add(Provider("kept", value="the app's"))
    return app


async def test_renderers_and_middleware_of_a_plugin() -> None:
    app = application()

    @app.get("/point")
    async def point(scale, kept) -> Point:
        return Point(scale, 2)

    @app.get("/off")
    async def off() -> None:
        raise OffMap("secret")

    async with app.started():
        reply = await app.handle(Request("GET", "/point"))
        assert (reply.body, reply.headers["x-stamp"]) == (b"10/2", "extra")
        gone = await app.handle(Request("GET", "/off"))
        assert (gone.http_status, gone.body) == (451, b"off the map")
        assert isinstance(gone.error, OffMap)
        missing = await app.handle(Request("GET", "/nowhere"))
        assert (missing.http_status, missing.headers["x-stamp"]) == (404, "extra")


async def test_the_applications_own_services_come_before_a_plugins() -> None:
    app = application()

    @app.get("/")
    async def root(kept) -> str:
        return kept

    async with app.started():
        assert (await app.handle(Request("GET", "/"))).body == b"the app's"


async def test_a_codec_reads_messages_and_arguments() -> None:
    app = application()

    @app.on(Event("files", "row"))
    @app.on(Procedure("rows.count"))
    async def count(*row: str) -> int:
        return len(row)

    seen: list[Any] = []

    @app.on(Event("files", "line"))
    async def line(row: list[str]) -> None:
        seen.append(row)

    async with app.started():
        (outcome,) = await Publisher(app).publish("files", "line", body=b"a,b,c", content_type="text/csv")
        assert outcome.settlement.state is State.ACKED
        assert seen == [["a", "b", "c"]]
        request = RpcRequest("rows.count", raw=b"x,y", content_type="text/csv; charset=utf-8")
        assert (await app.handle(request)).payload == 2
        (outcome,) = await Publisher(app).publish("files", "line", body=b"a", content_type="text/unknown")
        assert outcome.settlement.state is State.DEAD


async def test_an_executor_is_chosen_by_name() -> None:
    app = application()

    @app.get("/", executor="twice")
    def root() -> str:
        return "ab"

    async with app.started():
        assert (await app.handle(Request("GET", "/"))).body == b"abab"

    wrong = application()
    wrong.get("/", executor="thrice")(root)
    with pytest.raises(ConfigurationError, match=r"'thrice'.*inline, thread, twice"):
        wrong.build()


async def test_a_router_is_chosen_by_name() -> None:
    app = application(router="only")

    @app.get("/only")
    async def only() -> str:
        return "everything"

    async with app.started():
        assert (await app.handle(Request("GET", "/some/where"))).body == b"everything"
    with pytest.raises(ConfigurationError, match=r"the router 'none'.*linear, only"):
        application(router="none").build()


@pytest.mark.feature("F004-29")
async def test_a_session_store_is_chosen_by_url() -> None:
    app = application(session_backend="small://1")
    app.build()
    backend = app.session_backend
    assert isinstance(backend, InMemorySessionBackend)
    await backend.save("one", {"n": 1}, 60)
    await backend.save("two", {"n": 2}, 60)
    assert await backend.load("one") == {}
    assert await backend.load("two") == {"n": 2}
    with pytest.raises(ConfigurationError, match=r"the session store 'redis'.*memory, small"):
        application(session_backend="redis://x").build()


@pytest.mark.feature("F004-29")
async def test_sessions_in_memory_expire_and_are_copies() -> None:
    now = [0.0]
    backend = InMemorySessionBackend(clock=lambda: now[0])
    data = {"cart": ["tea"]}
    await backend.save("id", data, 10)
    data["cart"].append("cup")
    loaded = await backend.load("id")
    assert loaded == {"cart": ["tea"]}
    loaded["cart"].clear()
    assert await backend.load("id") == {"cart": ["tea"]}
    now[0] = 10.0
    assert await backend.load("id") == {}
    await backend.save("id", {"x": 1}, 10)
    await backend.save("id", {}, 10)
    assert await backend.load("id") == {}


@pytest.mark.parametrize("hook", ["microkit_providers", "microkit_middleware", "microkit_observers"])
def test_a_contribution_of_another_kind_names_the_plugin(hook: str) -> None:
    class Wrong:
        microkit_plugin_info = PluginInfo("wrong")

    setattr(Wrong, hook, hookimpl(lambda self, app: [3]))
    with pytest.raises(PluginError, match=r"'wrong' contributes 3 where the kernel wants .*-p no:wrong"):
        App(plugins=[Wrong()], discover=False).build()


async def test_an_observer_that_fails_costs_nobody_a_reply(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Observer):
        def call_started(self, call: Any) -> None:
            raise ValueError("cannot see")

        def call_finished(self, call: Any, reply: Any, duration: float) -> None:
            raise ValueError("cannot count")

    class Watching:
        @hookimpl
        def microkit_observers(self, app: App) -> Observer:
            return Broken()

    app = App(plugins=[Watching()], discover=False)

    @app.get("/")
    async def root() -> str:
        return "here"

    async with app.started():
        assert (await app.handle(Request("GET", "/"))).body == b"here"
    assert caplog.text.count("an observer failed") == 2
