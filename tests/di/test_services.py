"""Services: autowired classes, providers, tags, the registry and the container."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from microkit import (
    App,
    ConfigurationError,
    Depends,
    Provider,
    Request,
    ResolutionError,
    Tagged,
    TaggedServices,
    tag,
)
from tests.di.services import (
    Clock,
    Mailer,
    Page,
    Repo,
    Services,
    Settings,
    SqlStore,
    Store,
    User,
    Where,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def app() -> App:
    Repo.built = 0
    return App(plugins=[], discover=False, service_providers=(each for each in [Services()]))


@pytest.mark.feature("F000-01")
@pytest.mark.feature("F000-03")
@pytest.mark.feature("F000-48")
async def test_classes_are_built_from_their_constructors_once_per_scope(app: App, get: Any) -> None:
    @app.get("/")
    async def handler(repo: Repo, page: Page, size: int = 1) -> list[Any]:
        return [repo is page.repo, repo.settings.url, repo.size, page.where.path]

    @app.get("/again")
    async def again(repo: Repo) -> int:
        return repo.built

    async with app.started():
        assert await get(app, "/?size=9") == [True, "sqlite", 5, "/"]
        assert await get(app, "/again") == 1


@pytest.mark.feature("F000-03")
@pytest.mark.guarantee("G1")
async def test_nothing_is_built_that_no_call_asks_for(app: App, get: Any) -> None:
    @app.get("/")
    async def handler() -> int:
        return Repo.built

    async with app.started():
        assert await get(app) == 0
        await app.container.get(Repo)
        assert await get(app) == 1


@pytest.mark.feature("F000-06")
async def test_protocols_abstract_and_generic_bases_find_their_service(app: App, get: Any) -> None:
    @app.get("/")
    async def handler(
        mailer: Mailer,
        clock: Clock,
        users: Store[User],
        middle: SqlStore[int],
        maybe: Settings | None,
        absent: Where | None,
        noted: Annotated[Settings, "a note"],
    ) -> list[Any]:
        assert absent is not None
        return [
            mailer.send("me"),
            clock.now(),
            await users.all(),
            await middle.all(),
            maybe is noted,
            absent.path,
        ]

    async with app.started():
        assert await get(app) == ["smtp:me", 42, ["UserStore"], ["IntStore"], True, "/"]


class Unknown: ...


@pytest.mark.feature("F000-05")
@pytest.mark.feature("F000-06")
async def test_optional_services_that_are_missing_are_none_or_the_default(app: App, get: Any) -> None:
    marker = Unknown()

    class Holder:
        def __init__(self, a: Unknown | None, b: Unknown = marker) -> None:
            self.values = [a, b]

    app.registry.add(Provider(Holder))

    @app.get("/")
    async def handler(holder: Holder) -> list[bool]:
        return [holder.values[0] is None, holder.values[1] is marker]

    async with app.started():
        assert await get(app) == [True, True]


class Config(dict[str, Any]): ...


async def test_built_in_types_never_mean_a_service_that_derives_from_them(app: App, get: Any) -> None:
    app.registry.add(Provider(Config, value=Config(secret="s")))

    @app.post("/")
    async def handler(body: dict[str, Any], config: Config) -> list[Any]:
        return [body, config["secret"]]

    async with app.started():
        reply = await app.handle(Request("POST", "/", {"content-type": "application/json"}, b'{"a": 1}'))
        assert reply.body == b'[{"a":1},"s"]'


@pytest.mark.feature("F000-02")
async def test_factories_take_the_container_or_injected_parameters(app: App, get: Any) -> None:
    class A: ...

    class B: ...

    class C: ...

    class D: ...

    made = D()

    async def make_b(container) -> B:  # type: ignore[no-untyped-def]
        b = B()
        b.a = await container.get(A)  # type: ignore[attr-defined]
        return b

    def make_c(a: A, settings: Settings) -> C:
        c = C()
        c.held = (a, settings)  # type: ignore[attr-defined]
        return c

    app.registry.add_services([(A, lambda c: A()), (B, make_b), (C, make_c), (D, made)])

    @app.get("/")
    async def handler(a: A, b: B, c: C, d: D) -> list[bool]:
        return [b.a is a, c.held[0] is a, d is made]  # type: ignore[attr-defined]

    async with app.started():
        assert await get(app) == [True, True, True]


def test_what_services_yields_must_have_a_known_shape(app: App) -> None:
    with pytest.raises(ConfigurationError, match="yield a class"):
        app.registry.add_services([42])
    with pytest.raises(ConfigurationError, match="neither a factory nor a value"):
        Provider("name")


@pytest.mark.feature("F001-28")
async def test_named_services_live_as_long_as_registered(app: App, get: Any) -> None:
    app.registry.register("pool", object)
    app.registry.register("session", object, scope="call")

    @app.get("/")
    async def handler(
        greeting: str,
        pool: object = Depends("pool"),
        session: object = Depends("session"),
        same: object = Depends("session"),
        own: object = Depends("session", use_cache=False),
        text: str = Depends("greeting"),
    ) -> list[Any]:
        return [id(pool), id(session), session is same, session is own, text]

    async with app.started():
        assert await get(app) == 422  # a typed parameter is never found by its name
        first, second = await get(app, "/?greeting=x"), await get(app, "/?greeting=x")
        assert first[0] == second[0]
        assert first[2:] == [True, False, "hello"]


async def test_bare_parameters_are_found_by_name(app: App, get: Any) -> None:
    @app.get("/")
    async def handler(greeting, q) -> list[Any]:  # type: ignore[no-untyped-def]
        return [greeting, q]

    async with app.started():
        assert await get(app, "/?q=1&greeting=no") == ["hello", "1"]


@pytest.mark.feature("F001-29")
@pytest.mark.guarantee("G1")
async def test_hooks_run_in_order_of_dependency_and_reverse(app: App, get: Any) -> None:
    log: list[str] = []

    def pool() -> Any:
        log.append("pool")
        return "pool"

    async def started() -> None:
        log.append("start cache")

    async def stopped(cache: Any) -> None:
        log.append(f"stop {cache}")

    app.registry.register(
        "cache",
        lambda pool=Depends("pool"): f"cache of {pool}",
        on_startup=started,
        on_shutdown=stopped,
    )
    app.registry.register(
        "pool", pool, on_startup=lambda: log.append("start pool"), on_shutdown=lambda each: log.append(f"stop {each}")
    )
    app.registry.add(Provider("value", value="v", on_shutdown=lambda each: log.append(f"stop {each}")))
    app.registry.register("unused", pool, on_startup=lambda: log.append("never"))

    @app.get("/")
    async def handler(cache: str = Depends("cache"), value: str = Depends("value")) -> list[str]:
        return [cache, value]

    async with app.started():
        assert log == ["start pool", "pool", "start cache"]
        assert await get(app) == ["cache of pool", "v"]
        log.clear()
    assert log == ["stop v", "stop cache of pool", "stop pool"]


def test_hooks_need_the_app_scope(app: App, get: Any) -> None:
    with pytest.raises(ConfigurationError, match="scope 'app'"):
        app.registry.register("x", object, scope="call", on_startup=print)
    with pytest.raises(ConfigurationError, match="There is no scope 'week'"):
        app.registry.register("x", object, scope="week")


# -- tags --------------------------------------------------------------------------------------------------------------


@tag("plugin")
@tag("fast")
class One:
    built = 0

    def __init__(self) -> None:
        type(self).built += 1


@tag("plugin")
class Two(One): ...


class Three: ...


@pytest.mark.feature("F000-07")
def test_tags_stack_and_change_nothing_else() -> None:
    def f() -> int:
        return 1

    assert tag("a")(f) is f
    assert Provider("f", f).tags == ("a",)
    assert Provider(One).tags == ("plugin", "fast")
    assert Provider(Two).tags == ("plugin",)


@pytest.mark.feature("F000-08")
async def test_a_tag_is_a_lazy_collection_in_order(app: App, get: Any) -> None:
    One.built = Two.built = 0
    app.registry.add_services(
        [One, Two, Provider(Three, tags=("plugin",)), Provider("text", value=5, tags=("plugin",))]
    )

    class Host:
        def __init__(self, plugins: Annotated[TaggedServices, Tagged("plugin")]) -> None:
            self.plugins = plugins

    app.registry.add(Provider(Host, scope="app"))

    @app.get("/")
    async def handler(host: Host, plugins: Annotated[TaggedServices, Tagged("plugin")], one: One) -> list[Any]:
        first = [len(plugins), Two.built]
        found = [each async for each in host.plugins]
        return [*first, [type(each).__name__ for each in found], found[0] is one, plugins.keys[-1]]

    async with app.started():
        assert await get(app) == [4, 0, ["One", "Two", "Three", "int"], True, "text"]


async def test_what_a_collection_holds_is_checked_at_start_up(app: App) -> None:
    app.registry.add(Provider(Where, tags=("t",)))

    class Host:
        def __init__(self, items: Annotated[TaggedServices, Tagged("t")]) -> None: ...

    app.registry.add(Provider(Host, scope="app"))

    @app.get("/")
    async def handler(host: Host) -> None: ...

    with pytest.raises(ResolutionError, match=r"collection of 't'.*holds .*Where"):
        app.build()


async def test_a_collection_may_hold_who_asks_for_it(app: App, get: Any) -> None:
    class Dispatcher:
        def __init__(self, listeners: Annotated[TaggedServices, Tagged("listener")]) -> None:
            self.listeners = listeners

    @tag("listener")
    class Listener:
        def __init__(self, dispatcher: Dispatcher) -> None:
            self.dispatcher = dispatcher

    app.registry.add_services([Dispatcher, Listener])

    @app.get("/")
    async def handler(dispatcher: Dispatcher) -> list[bool]:
        return [each.dispatcher is dispatcher async for each in dispatcher.listeners]

    async with app.started():
        assert await get(app) == [True]
