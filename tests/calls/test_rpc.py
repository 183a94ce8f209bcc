"""Procedures, called in process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from microkit import App, Depends, NotFound, Procedure, PublicError, RpcRequest, StatusCode, ValidationError
from microkit_testkit import TestClient

pytestmark = [pytest.mark.anyio, pytest.mark.feature("FX-02")]


@dataclass
class Rename:
    id: int
    name: str = "nobody"


@pytest.fixture
def app() -> App:
    return App(discover=False)


async def refused(client: TestClient, name: str, *args: Any, **kwargs: Any) -> list[tuple[Any, str]]:
    """The problems of a call with arguments that do not fit."""
    with pytest.raises(ValidationError) as caught:
        await client.rpc(name, *args, **kwargs)
    assert caught.value.status is StatusCode.INVALID_ARGUMENT
    return [(error["loc"][-1], error["type"]) for error in caught.value.errors]


async def test_arguments_come_by_position_and_by_name(app: App) -> None:
    @app.on(Procedure("math.power"))
    async def power(base: int, exponent: int = 2, *, plus: int = 0) -> int:
        return base**exponent + plus

    async with TestClient(app) as client:
        assert await client.rpc.math.power(3) == 9
        assert await client.rpc.math.power(3, 3) == 27
        assert await client.rpc.math.power(exponent=3, base=2, plus=1) == 9
        assert await refused(client, "math.power") == [("base", "missing")]
        assert await refused(client, "math.power", 1, 2, 3) == [("arguments", "too_many")]
        assert await refused(client, "math.power", 1, base=2) == [("base", "duplicate")]
        assert await refused(client, "math.power", 1, other=2) == [("other", "unknown")]
        assert [place for place, _ in await refused(client, "math.power", "one", "two")] == ["base", "exponent"]


async def test_variadic_parameters_take_the_rest(app: App) -> None:
    @app.on(Procedure("any.thing"))
    async def thing(first: int, *rest: int, **named: str) -> list[Any]:
        return [first, rest, named]

    async with TestClient(app) as client:
        assert await client.rpc.any.thing(1, 2, 3, a="b") == [1, (2, 3), {"a": "b"}]
        assert await client.rpc.any.thing(1) == [1, (), {}]


async def test_variadic_keywords_take_nothing_that_is_injected(app: App) -> None:
    def database() -> str:
        return "ours"

    class Things:
        async def thing(self, db: Annotated[str, Depends(database)], **named: Any) -> Any:
            return [db, named]

    app.on(Procedure("a.thing"))(Things().thing)
    async with TestClient(app) as client:
        assert await client.rpc.a.thing(x=1) == ["ours", {"x": 1}]
        assert await refused(client, "a.thing", db="theirs") == [("db", "unknown")]
        reply = await app.handle(RpcRequest("a.thing", kwargs={"self": 1}))
        assert isinstance(reply.error, ValidationError)


async def test_a_single_model_is_the_whole_payload(app: App) -> None:
    @app.on(Procedure("users.rename"))
    async def rename(payload: Rename) -> str:
        return f"{payload.id} {payload.name}"

    async with TestClient(app) as client:
        assert await client.rpc.users.rename(id=1, name="ann") == "1 ann"
        assert await client.rpc.users.rename({"id": 1}) == "1 nobody"
        assert await client.rpc.users.rename(Rename(2, "bob")) == "2 bob"
        assert await client.rpc.users.rename(payload=Rename(3)) == "3 nobody"
        assert await refused(client, "users.rename", id="x") != []


async def test_errors_are_typed_and_hide_what_is_not_public(app: App) -> None:
    @app.on(Procedure("users.get"))
    async def get(id: int) -> None:
        if id == 1:
            raise NotFound("no user 1")
        raise LookupError("the secret text")

    async with TestClient(app, raise_server_exceptions=False) as client:
        with pytest.raises(NotFound, match="no user 1") as caught:
            await client.rpc.users.get(1)
        assert caught.value.status is StatusCode.NOT_FOUND
        with pytest.raises(PublicError) as hidden:
            await client.rpc.users.get(2)
        assert hidden.value.status is StatusCode.INTERNAL
        assert "secret" not in f"{hidden.value} {hidden.value.detail} {hidden.value.details}"
        with pytest.raises(PublicError) as unknown:
            await client.rpc.users.nothing()
        assert unknown.value.status is StatusCode.NOT_FOUND


@pytest.mark.guarantee("G5")
async def test_a_stream_closes_its_scope_at_its_end_also_when_left_early(app: App) -> None:
    log: list[str] = []

    async def resource() -> AsyncIterator[str]:
        log.append("open")
        try:
            yield "row"
        finally:  # one that is cut short sees the cancellation, so that it does not commit
            log.append("closed")

    @app.on(Procedure("rows.all"))
    async def rows(row: Annotated[str, Depends(resource)]) -> AsyncIterator[str]:
        try:
            for i in range(3):
                yield f"{row} {i}"
        finally:
            log.append("left")

    async with TestClient(app) as client:
        assert [each async for each in await client.rpc.rows.all()] == ["row 0", "row 1", "row 2"]
        assert log == ["open", "left", "closed"]
        log.clear()
        stream = await client.rpc.rows.all()
        assert await anext(stream) == "row 0"
        assert log == ["open"]
        await stream.aclose()
        assert log == ["open", "left", "closed"]


async def test_a_stream_that_fails_raises_at_the_caller(app: App) -> None:
    @app.on(Procedure("rows.all"))
    async def rows() -> AsyncIterator[int]:
        yield 1
        raise NotFound("no more")

    async with TestClient(app) as client:
        stream = await client.rpc.rows.all()
        assert await anext(stream) == 1
        with pytest.raises(NotFound):
            await anext(stream)


async def test_metadata_and_the_request_view_reach_the_handler(app: App) -> None:
    @app.on(Procedure("a.b.c"))
    async def method(request: RpcRequest) -> list[Any]:
        return [request.service, request.method, request.metadata["trace"]]

    async with TestClient(app) as client:
        assert await client.rpc_with({"trace": "t1"}).a.b.c() == ["a.b", "c", "t1"]


async def test_the_app_calls_its_own_procedures(app: App) -> None:
    @app.on(Procedure("math.double"))
    async def double(x: int) -> int:
        return 2 * x

    @app.get("/double/{x}")
    async def page(x: int) -> dict[str, int]:
        return {"doubled": await app.call("math.double", x)}

    async with TestClient(app) as client:
        assert (await client.get("/double/4")).json() == {"doubled": 8}


@pytest.mark.guarantee("G5")
async def test_a_connection_scope_lives_as_long_as_its_connection(app: App) -> None:
    log: list[str] = []

    async def login() -> AsyncIterator[list[int]]:
        log.append("in")
        yield []
        log.append("out")

    @app.on(Procedure("counter.add"))
    async def add(n: int, kept: Annotated[list[int], Depends(login, scope="connection")]) -> int:
        kept.append(n)
        return sum(kept)

    async with TestClient(app) as client:
        async with app.connection() as one, app.connection() as two:
            assert [await one.call("counter.add", 1), await one.call("counter.add", 2)] == [1, 3]
            assert await two.call("counter.add", 5) == 5
            assert await client.rpc_with(connection=one).counter.add(3) == 6
            assert log == ["in", "in"]
        assert log == ["in", "in", "out", "out"]
