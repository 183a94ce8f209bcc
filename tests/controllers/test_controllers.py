"""Controllers: classes whose methods are marked with routes, without an app at hand."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from microkit import (
    App,
    ConfigurationError,
    Depends,
    Event,
    Procedure,
    Provider,
    Request,
    delete,
    get,
    inject,
    on,
    patch,
    post,
    put,
    route,
    tag,
)

pytestmark = pytest.mark.anyio


class Repo:
    name = "repo"


async def ask(app: App, url: str, method: str = "GET") -> Any:
    reply = await app.handle(Request(method, url))
    return json.loads(reply.body) if reply.http_status == 200 else reply  # type: ignore[arg-type]


@tag("controller")
class Some:
    def __init__(self, repo: Repo, debug: bool = False) -> None:
        self.repo, self.debug = repo, debug

    @route("/some/{key}")
    async def some(self, key: str, request: Request, extra: Repo, q: int = 0) -> list[Any]:
        return [self.repo is extra, key, request.method, q, self.debug]

    @get("/verbs")
    def read(self) -> str:
        return "read"

    @post("/verbs")
    @put("/verbs")
    async def write(self) -> list[str]:
        return ["write"]

    @patch("/verbs/{id:int}")
    @delete("/verbs/{id:int}")
    async def change(self, id: int, request: Request) -> list[Any]:
        return [request.method, id]

    async def unmarked(self) -> None: ...


@pytest.mark.feature("F000-22")
@pytest.mark.feature("F000-25")
async def test_a_tagged_service_brings_its_routes() -> None:
    app = App(plugins=[], discover=False, service_providers=[[Repo, Some]])
    async with app.started():
        assert await ask(app, "/some/k?q=2&debug=true") == [True, "k", "GET", 2, False]
        assert (await ask(app, "/unmarked")).http_status == 404


@pytest.mark.feature("F000-23")
async def test_a_route_without_methods_answers_all_and_verbs_narrow_it() -> None:
    app = App(plugins=[], discover=False, service_providers=[[Repo]])
    assert app.include(Some) is Some
    async with app.started():
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            assert (await ask(app, "/some/k", method))[2] == method
        assert (await app.handle(Request("GET", "/verbs"))).body == b"read"
        assert await ask(app, "/verbs", "POST") == await ask(app, "/verbs", "PUT") == ["write"]
        assert await ask(app, "/verbs/3", "PATCH") == ["PATCH", 3]
        refused = await ask(app, "/verbs", "DELETE")
        assert refused.http_status == 405
        assert set(refused.headers["allow"].split(", ")) >= {"GET", "HEAD", "POST", "PUT"}


@pytest.mark.feature("F000-24")
async def test_route_text_is_literal_and_twins_fail() -> None:
    class Literal:
        @get("/a.b")
        async def dotted(self) -> int:
            return 1

    app = App(plugins=[], discover=False)
    app.include(Literal)
    async with app.started():
        assert await ask(app, "/a.b") == 1
        assert (await ask(app, "/aXb")).http_status == 404

    class Twins:
        @route("/same/{a}")
        async def first(self, a: str) -> None: ...

        @post("/same/{b}")
        async def second(self, b: str) -> None: ...

    twins = App(plugins=[], discover=False)
    twins.include(Twins)
    with pytest.raises(ConfigurationError, match=r"(?s)first.*second"):
        twins.build()


async def test_an_instance_is_used_as_it_is() -> None:
    class Counter:
        def __init__(self, start: int) -> None:
            self.value = start

        @post("/count")
        async def count(self, by: int = 1) -> int:
            self.value += by
            return self.value

    app = App(plugins=[], discover=False)
    app.include(Counter(10))
    async with app.started():
        assert [await ask(app, "/count?by=5", "POST"), await ask(app, "/count", "POST")] == [15, 16]


async def test_a_class_is_made_per_call_unless_it_is_a_longer_service() -> None:
    class Fresh:
        @get("/fresh")
        async def fresh(self, request: Request) -> bool:
            seen = getattr(self, "seen", False)
            self.seen = True
            return seen

    class Kept(Fresh):
        @get("/kept")
        async def kept(self, request: Request) -> bool:
            return await self.fresh(request)

        @get("/moved")
        async def fresh(self, request: Request) -> bool:
            return await super().fresh(request)

    app = App(plugins=[], discover=False)
    app.registry.add(Provider(Kept, scope="app"))
    app.include(Fresh)
    app.include(Kept)
    async with app.started():
        assert [await ask(app, "/fresh"), await ask(app, "/fresh")] == [False, False]
        assert [await ask(app, "/kept"), await ask(app, "/moved")] == [False, True]


async def test_two_methods_of_one_name_are_both_bound() -> None:
    def noted(func: Any) -> Any:
        @functools.wraps(func)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return ["noted", await func(*args, **kwargs)]

        return wrapper

    class Twice:
        @get("/first")
        async def show(self) -> int:
            return 1

        @get("/second")
        async def show(self) -> int:  # noqa: F811
            return 2

        @noted
        @get("/third")
        async def other(self) -> int:
            return 3

    app = App(plugins=[], discover=False)
    app.include(Twice)
    async with app.started():
        assert [await ask(app, f"/{name}") for name in ("first", "second", "third")] == [1, 2, ["noted", 3]]


async def test_an_overriding_method_decides_for_its_class() -> None:
    class Base:
        @get("/base")
        async def show(self) -> int:
            return 1

    class Silent(Base):
        async def show(self) -> int:
            return 2

    app = App(plugins=[], discover=False)
    app.include(Silent)
    with pytest.raises(ConfigurationError, match="found nothing"):
        app.build()


@pytest.mark.feature("F002-31")
@pytest.mark.feature("F002-32")
async def test_methods_of_every_kind_with_injected_arguments() -> None:
    class Worker:
        repo = Depends(Repo)

        @on(Procedure("worker.add"))
        @inject(more=lambda: 100)
        async def add(self, a: int, b: int = 0, *rest: int, more: int) -> list[Any]:
            return [a, b, list(rest), more, self.repo.name]

        @on(Event("shop", "placed"))
        async def placed(self, payload: Any) -> None: ...

    app = App(plugins=[], discover=False)
    app.include(Worker)
    async with app.started():
        assert await app.call("worker.add", 1, 2, 3) == [1, 2, [3], 100, "repo"]
        assert await app.call("worker.add", a=1) == [1, 0, [], 100, "repo"]
        assert ("shop", "placed") in app.table.events


async def test_a_marked_function_is_included_alone() -> None:
    @get("/alone")
    async def alone() -> int:
        return 1

    app = App(plugins=[], discover=False)
    app.include(alone, prefix="/v1")
    async with app.started():
        assert await ask(app, "/v1/alone") == 1
