"""`Depends`: nested, shared, of every kind of function, and taking call data like a handler."""

from __future__ import annotations

import functools
import threading
from typing import Annotated, Any

import pytest

from microkit import App, Depends, Event, Header, Message, NotFound, Procedure, Query, Request, ValidationError, inject

pytestmark = pytest.mark.anyio


@pytest.mark.feature("F001-20")
@pytest.mark.feature("F003-21")
async def test_a_default_and_an_annotation_inject_the_result(app: App, get: Any) -> None:
    async def two() -> int:
        return 2

    @app.get("/")
    async def handler(a: int = Depends(lambda: 1), b: Annotated[int, Depends(two)] = 0) -> list[int]:
        return [a, b]

    async with app.started():
        assert await get(app) == [1, 2]


@pytest.mark.feature("F001-21")
@pytest.mark.feature("F001-25")
async def test_dependencies_take_call_data_to_any_depth(app: App, get: Any) -> None:
    def page(page: int = 1) -> int:
        return page

    async def user(id: int, request: Request, page: int = Depends(page)) -> list[Any]:
        return [id, request.method, page]

    def wrapped(user: list[Any] = Depends(user), agent: Annotated[str, Header()] = "none") -> list[Any]:
        return [*user, agent]

    @app.get("/users/{id:int}")
    async def handler(found: Annotated[list[Any], Depends(wrapped)], request: Request) -> list[Any]:
        return [*found, request.path]

    async with app.started():
        assert await get(app, "/users/7?page=3") == [7, "GET", 3, "none", "/users/7"]
        assert await get(app, "/users/7?page=x") == 422


@pytest.mark.feature("F001-22")
@pytest.mark.guarantee("G5")
async def test_a_dependency_runs_once_per_call(app: App, get: Any) -> None:
    runs: list[str] = []

    def base() -> object:
        runs.append("base")
        return object()

    def left(value: object = Depends(base)) -> object:
        return value

    @app.get("/")
    async def handler(
        a: object = Depends(base), b: object = Depends(left), own: object = Depends(base, use_cache=False)
    ) -> list[bool]:
        return [a is b, a is own]

    async with app.started():
        assert await get(app) == [True, False]
        assert runs == ["base", "base"]
        assert await get(app) == [True, False]
        assert len(runs) == 4


@pytest.mark.feature("F001-22")
async def test_a_dependency_that_returns_none_runs_once_too(app: App, get: Any) -> None:
    runs: list[int] = []

    def nothing() -> None:
        runs.append(1)

    @app.get("/")
    async def handler(a: None = Depends(nothing), b: None = Depends(nothing)) -> list[Any]:
        return [a, b]

    async with app.started():
        assert await get(app) == [None, None]
    assert runs == [1]


@pytest.mark.feature("F001-23")
async def test_every_kind_of_function_is_a_dependency(app: App, get: Any) -> None:
    log: list[str] = []

    def gen() -> Any:
        log.append("+gen")
        yield "gen"
        log.append("-gen")

    async def agen(before: str = Depends(gen)) -> Any:
        log.append("+agen")
        yield f"{before}>agen"
        log.append("-agen")

    def threaded(before: str = Depends(agen)) -> Any:
        log.append("+thread")
        yield [before, threading.current_thread() is threading.main_thread()]
        log.append("-thread")

    @app.get("/")
    async def handler(value: list[Any] = Depends(threaded, thread=True)) -> list[Any]:
        log.append("handler")
        return value

    async with app.started():
        assert await get(app) == ["gen>agen", False]
        assert log == ["+gen", "+agen", "+thread", "handler", "-thread", "-agen", "-gen"]


async def test_sync_dependencies_run_on_the_event_loop_unless_told(app: App, get: Any) -> None:
    def where() -> int:
        return threading.get_ident()

    @app.get("/")
    async def handler(inline: int = Depends(where), off: int = Depends(where, thread=True)) -> list[bool]:
        return [inline == threading.get_ident(), off == threading.get_ident()]

    async with app.started():
        assert await get(app) == [True, False]


class Callable_:
    async def __call__(self, q: int = 5) -> int:
        return q + 1

    def method(self, q: int = 5) -> int:
        return q + 2


def add(q: int, more: int = 0, *, name: str = "n") -> str:
    return f"{name}{q + more}"


async def test_callable_objects_methods_and_partials_are_dependencies(app: App, get: Any) -> None:
    tool = Callable_()

    @app.get("/")
    async def handler(
        a: int = Depends(tool),
        b: int = Depends(tool.method),
        c: str = Depends(functools.partial(add, more=10, name="p")),
        d: str = Depends(functools.partial(add, 100)),
    ) -> list[Any]:
        return [a, b, c, d]

    async with app.started():
        assert await get(app, "/?q=1") == [2, 3, "p11", "n100"]
        assert await get(app, "/?q=1&more=7&name=evil") == [2, 3, "p11", "evil107"]


def logged(func: Any) -> Any:
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


async def test_decorated_functions_keep_their_kind(app: App, get: Any) -> None:
    left: list[str] = []

    @logged
    async def coroutine(q: int) -> int:
        return q

    @logged
    async def agen(q: int) -> Any:
        yield q + 1
        left.append("agen")

    @logged
    def gen(q: int) -> Any:
        yield q + 2
        left.append("gen")

    @app.get("/")
    @logged
    async def handler(
        a: int = Depends(coroutine), b: int = Depends(agen), c: int = Depends(gen), d: int = Depends(logged(lambda: 9))
    ) -> list[int]:
        return [a, b, c, d]

    async with app.started():
        assert await get(app, "/?q=1") == [1, 2, 3, 9]
    assert left == ["gen", "agen"]


async def test_keyword_only_and_positional_only_parameters(app: App, get: Any) -> None:
    @app.get("/{a}")
    async def handler(a: str, /, b: int, *, c: int = 3, d: int = Depends(lambda: 4)) -> list[Any]:
        return [a, b, c, d]

    async with app.started():
        assert await get(app, "/x?b=2") == ["x", 2, 3, 4]


@pytest.mark.feature("F000-25")
async def test_undeclared_query_keys_never_reach_a_handler(app: App, get: Any) -> None:
    @app.get("/")
    async def handler(a: int = 1, **others: Any) -> list[Any]:
        return [a, others]

    @app.get("/all")
    async def all_of_it(*args: Any, **others: Any) -> list[Any]:
        return [list(args), others]

    async with app.started():
        assert await get(app, "/?a=2&b=3&others=4") == [2, {}]
        assert await get(app, "/all?b=3") == [[], {}]


class Filter:
    def __init__(self, limit: int = 10, page: Annotated[int, Query()] = 1) -> None:
        self.limit, self.page = limit, page


@pytest.mark.feature("F000-25")
async def test_constructors_take_query_values_only_where_they_are_marked(app: App, get: Any) -> None:
    @app.get("/")
    async def handler(found: Annotated[Filter, Depends()]) -> list[int]:
        return [found.limit, found.page]

    async with app.started():
        assert await get(app, "/?limit=9999&page=2") == [10, 2]


class Producer:
    sent: list[Any]

    def __init__(self) -> None:
        self.sent = []


@pytest.mark.feature("F002-31")
@pytest.mark.feature("F002-33")
@pytest.mark.feature("F002-06")
async def test_inject_passes_by_name_beside_the_payload(app: App, get: Any) -> None:
    seen: list[Any] = []

    @app.on(Event("shop", "placed"))
    @inject(producer=Depends(Producer))
    @inject(name=lambda: "n")
    async def placed(payload: Any, producer: Producer, name: str, extra: int = Depends(lambda: 7)) -> None:
        seen.append((payload, type(producer), name, extra))

    @app.on(Procedure("a.kw"))
    @inject(producer=Producer)
    async def keywords(a: int, **kwargs: Any) -> Any:
        return [a, sorted(kwargs)]

    async with app.started():
        from microkit.dispatch import run

        message = Message(payload={"id": 1}, source="shop", name="placed")
        message.app, message.plan = app, app.table.events["shop", "placed"][0]

        async def deliver(reply: Any) -> None:
            assert reply.error is None

        await run(message, deliver)
        assert seen == [({"id": 1}, Producer, "n", 7)]
        assert await app.call("a.kw", 1, x=2) == [1, ["producer", "x"]]


@pytest.mark.feature("F002-32")
async def test_class_attributes_are_dependencies_of_the_instance(app: App, get: Any) -> None:
    class Marked:
        def __microkit_depends__(self) -> Depends:
            return Depends(lambda: "converted")

    class Base:
        producer = Depends(Producer)

    class Target(Base):
        name = Depends(lambda: "target")
        other = Marked()

    @app.get("/")
    async def handler(target: Annotated[Target, Depends()], same: Annotated[Producer, Depends()]) -> list[Any]:
        return [target.producer is same, target.name, target.other]

    async with app.started():
        assert await get(app) == [True, "target", "converted"]


# -- procedures --------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F002-06")
async def test_a_procedure_takes_its_arguments_by_position_and_name(app: App) -> None:
    runs: list[Any] = []

    def plain() -> None:
        runs.append("plain")

    def named(b: int = 0) -> int:
        return b * 10

    async def middleware(call: Any, call_next: Any, done: None = Depends(plain)) -> Any:
        return await call_next(call)

    app.add_middleware(middleware)

    @app.on(Procedure("a.f"))
    async def f(a: int, done: Annotated[None, Depends(plain)], n: Annotated[int, Depends(named)], c: int = 3) -> Any:
        return [a, n, c]

    @app.on(Procedure("a.all"))
    async def all_of_it(a: Any, *args: Any, k: int = 1, **kwargs: Any) -> Any:
        return [a, list(args), k, kwargs]

    @app.on(Procedure("a.none"))
    async def none(done: Annotated[None, Depends(plain)]) -> str:
        return "none"

    async with app.started():
        assert await app.call("a.f", 1, 2) == [1, 0, 2]
        assert await app.call("a.f", 1, b=5, c=4) == [1, 50, 4]
        assert await app.call("a.all", 1, 2, 3, k=4, z=5) == [1, [2, 3], 4, {"z": 5}]
        assert await app.call("a.none") == "none"
        for name, args, kwargs in (("a.f", (1, 2, 3), {}), ("a.f", (1,), {"x": 1}), ("a.none", (1,), {})):
            with pytest.raises(ValidationError):
                await app.call(name, *args, **kwargs)


async def test_the_same_dependency_serves_every_kind_of_call(app: App, get: Any) -> None:
    async def tenant(headers: Annotated[str, Header(alias="tenant")] = "none") -> str:
        return headers

    @app.get("/")
    @app.on(Procedure("a.b"))
    async def both(tenant: Annotated[str, Depends(tenant)]) -> str:
        if tenant == "gone":
            raise NotFound("no tenant")
        return tenant

    async with app.started():
        assert (await app.handle(Request("GET", "/", {"tenant": "t"}))).body == b"t"
        assert (await app.handle(Request("GET", "/", {"tenant": "gone"}))).http_status == 404
        assert await app.call("a.b") == "none"
