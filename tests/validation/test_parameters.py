"""Typed parameters without any plugin."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from annotated_types import Gt

from microkit import (
    App,
    Body,
    Cookie,
    Depends,
    Event,
    Every,
    Header,
    Procedure,
    Query,
    Reply,
    Request,
    ResolutionError,
    StatusCode,
    ValidationError,
)
from microkit.call import RpcRequest
from microkit.dispatch import handle_tick
from microkit.inprocess import Publisher

JSON = {"content-type": "application/json"}


class Sort(Enum):
    ASC = "asc"
    DESC = "desc"


@dataclass
class Item:
    name: str
    price: float = 0.0


@dataclass
class Place:
    city: str


class Service:
    pass


@pytest.fixture
def app() -> App:
    return App(plugins=[], discover=False)


async def send(app: App, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    """Status and decoded body; a problem is cut down to its places."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    head = headers if headers is not None else JSON if body is not None else {}
    reply: Reply = await app.handle(Request(method, url, head, raw))
    assert isinstance(reply.body, bytes)
    decoded = json.loads(reply.body) if reply.body else None
    if reply.http_status == 422:
        return 422, {".".join(map(str, each["loc"])): each["msg"] for each in decoded["errors"]}
    return (reply.http_status, decoded) if reply.http_status < 400 else reply.http_status


@pytest.mark.feature("F001-43")
async def test_path_query_header_and_cookie_are_converted(app: App) -> None:
    @app.get("/items/{id}")
    async def read(
        id: UUID,
        page: int = 1,
        tags: list[str] = [],  # noqa: B006
        sort: Sort | None = None,
        ids: Annotated[set[int] | None, Query(alias="id[]")] = None,
        x_depth: Annotated[int, Header()] = 0,
        session: Annotated[int | None, Cookie()] = None,
    ) -> Any:
        return [id.int, page, tags, sort, sorted(ids or []), x_depth, session]

    url = f"/items/{UUID(int=7)}"
    assert await send(app, "GET", url) == (200, [7, 1, [], None, [], 0, None])
    query = "?page=2&tags=a&tags=b&sort=desc&id[]=3&id[]=4"
    found = await send(app, "GET", url + query, headers={"X-Depth": "5", "cookie": "session=6"})
    assert found == (200, [7, 2, ["a", "b"], "desc", [3, 4], 5, 6])


@pytest.mark.feature("F001-43")
@pytest.mark.feature("F001-47")
async def test_every_invalid_place_is_in_one_reply(app: App) -> None:
    def limit(limit: int) -> int:
        return limit

    @app.post("/items/{id}")
    async def create(
        id: UUID,
        item: Item,
        page: int,
        limit: Annotated[int, Depends(limit)],
        numbers: list[int],
        x_depth: Annotated[int, Header()],
        session: Annotated[int, Cookie()],
    ) -> None: ...

    headers = {**JSON, "x-depth": "x", "cookie": "session=x"}
    assert await send(app, "POST", "/items/5?page=x&limit=x&numbers=1&numbers=x", {"price": "x"}, headers) == (
        422,
        {
            "path.id": "must be a UUID",
            "body.name": "is missing",
            "body.price": "must be a finite number",
            "query.page": "must be an integer",
            "query.limit": "must be an integer",
            "query.numbers.1": "must be an integer",
            "header.x-depth": "must be an integer",
            "cookie.session": "must be an integer",
        },
    )
    assert (await send(app, "POST", "/items/5", {"name": "x"}))[1]["query.page"] == "is missing"


@pytest.mark.feature("F001-47")
@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (JSON, {"name": "x"}, 200),
        ({"content-type": "application/vnd.api+json; charset=utf-8"}, {"name": "x"}, 200),
        ({}, {"name": "x"}, 415),
        ({"content-type": "text/plain;x=application/json"}, {"name": "x"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, b"name=x", 415),
        (JSON, b"", 400),
        (JSON, b"{", 400),
        (JSON, b'{"name": "x"} x', 400),
        (JSON, b'\xef\xbb\xbf{"name": "x"}', 400),
        (JSON, b'{"name": "x", "price": NaN}', 400),
        (JSON, b'{"name": "\\ud800"}', 400),
        (JSON, b"[" * 100_000, 400),
        (JSON, b'{"name": "x", "price": ' + b"9" * 5000 + b"}", 400),
        (JSON, b"[]", 422),
        (JSON, b"null", 422),
    ],
    ids=lambda value: f"{str(value)[:40]}-{len(value)}" if isinstance(value, bytes) else str(value),
)
async def test_what_a_body_must_be(app: App, headers: dict[str, str], body: Any, status: int) -> None:
    @app.post("/")
    async def create(item: Item) -> Item:
        return item

    found = await send(app, "POST", "/", body, headers)
    assert (found if isinstance(found, int) else found[0]) == status


@pytest.mark.feature("F001-47")
async def test_two_models_share_one_object_and_embed_takes_a_key(app: App) -> None:
    @app.post("/two")
    async def two(item: Item, place: Place) -> Any:
        return [item, place]

    @app.post("/one")
    async def one(
        item: Annotated[Item, Body(embed=True, alias="thing")], n: Annotated[int, Body(embed=True)] = 3
    ) -> Any:
        return [item, n]

    both = {"item": {"name": "a"}, "place": {"city": "b"}}
    assert await send(app, "POST", "/two", both) == (200, [{"name": "a", "price": 0.0}, {"city": "b"}])
    assert await send(app, "POST", "/two", {"item": {}}) == (
        422,
        {"body.item.name": "is missing", "body.place": "is missing"},
    )
    assert await send(app, "POST", "/two", []) == (422, {"body": "must be an object"})
    assert await send(app, "POST", "/one", {"thing": {"name": "a"}}) == (200, [{"name": "a", "price": 0.0}, 3])
    assert (await send(app, "POST", "/one", {"thing": {"name": "a"}, "n": "4"}))[1] == {"body.n": "must be an integer"}


@pytest.mark.feature("F001-47")
async def test_a_body_with_a_default_may_be_left_out(app: App) -> None:
    @app.post("/")
    async def create(item: Item | None = None) -> Any:
        return "none" if item is None else item.name

    @app.post("/scalar")
    async def scalar(count: Annotated[int | None, Body()]) -> Any:
        return [count]

    for body, headers in ((None, {}), (b"", JSON), (b"null", JSON)):
        reply = await app.handle(Request("POST", "/", headers, body or b""))
        assert (reply.http_status, reply.body) == (200, b"none")
    assert await send(app, "POST", "/scalar", 5) == (200, [5])
    assert await send(app, "POST", "/scalar", b"null", JSON) == (200, [None])
    assert await send(app, "POST", "/scalar", "5") == (422, {"body": "must be an integer, or must be null"})


@pytest.mark.feature("F003-13")
async def test_arguments_of_a_procedure(app: App) -> None:
    @app.on(Procedure("math.add"))
    async def add(a: int, b: int = 2, *, when: datetime | None = None) -> Any:
        return [a, b, when]

    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert await app.call("math.add", 1) == [1, 2, None]
    assert await app.call("math.add", a=1, b=3, when=noon) == [1, 3, noon]
    raw = b'{"a": 1, "when": "2026-01-02T12:00:00Z"}'
    assert (await app.handle(RpcRequest("math.add", raw=raw))).payload == [1, 2, noon]
    assert (await app.handle(RpcRequest("math.add", raw=b"[1, 5]"))).payload == [1, 5, None]
    for kwargs, places in (
        ({"a": "1", "b": True}, [["arguments", "a"], ["arguments", "b"]]),
        ({}, [["arguments", "a"]]),
        ({"a": 1, "c": 2}, [["arguments", "c"]]),
    ):
        with pytest.raises(ValidationError) as caught:
            await app.call("math.add", **kwargs)
        assert caught.value.status is StatusCode.INVALID_ARGUMENT
        assert [each["loc"] for each in caught.value.errors] == places
    assert (await app.handle(RpcRequest("math.add", raw=b"{"))).status is StatusCode.INVALID_ARGUMENT


@pytest.mark.feature("F003-12")
async def test_a_dataclass_is_a_payload(app: App) -> None:
    @app.on(Procedure("items.create"))
    async def create(item: Item) -> Any:
        return item

    assert await app.call("items.create", name="x") == Item("x")
    assert await app.call("items.create", {"name": "x"}) == Item("x")
    assert await app.call("items.create", item=Item("x")) == Item("x")
    assert await app.call("items.create", item={"name": "x"}) == Item("x")
    assert (await app.handle(RpcRequest("items.create", raw=b'{"name": "x"}'))).payload == Item("x")
    error = (await app.handle(RpcRequest("items.create", raw=b'{"name": 1}'))).error
    assert isinstance(error, ValidationError)
    assert error.errors == [{"loc": ["payload", "name"], "msg": "must be a string", "type": "str"}]


@pytest.mark.feature("F003-12")
async def test_a_list_is_a_payload(app: App) -> None:
    @app.on(Procedure("items.all"))
    async def create(items: list[Item]) -> Any:
        return items

    assert await app.call("items.all", [Item("x"), {"name": "y"}]) == [Item("x"), Item("y")]
    assert await app.call("items.all", items=[{"name": "y"}]) == [Item("y")]
    assert (await app.handle(RpcRequest("items.all", raw=b'[{"name": "x"}]'))).payload == [Item("x")]


async def test_payloads_of_events_are_typed(app: App) -> None:
    seen: list[Any] = []

    @app.on(Event("shop", "sold"))
    async def sold(item: Item, x_tries: Annotated[int, Header(alias="x-tries")] = 0) -> None:
        seen.append((item, x_tries))

    publisher = Publisher(app)
    (good,) = await publisher.publish("shop", "sold", {"name": "x"}, headers={"x-tries": 3})
    (bad,) = await publisher.publish("shop", "sold", {"name": 1})
    (broken,) = await publisher.publish("shop", "sold", body=b"{")
    assert seen == [(Item("x"), 3)]
    assert [each.reply.status for each in (good, bad, broken)] == [
        StatusCode.OK,
        StatusCode.INVALID_ARGUMENT,
        StatusCode.INVALID_ARGUMENT,
    ]
    assert [each.delivery.answers[0].action for each in (good, bad, broken)] == ["ack", "store_dead", "store_dead"]


async def test_a_batch_names_the_message_that_does_not_fit(app: App) -> None:
    seen: list[Any] = []

    @app.on(Event("shop", "sold", batch=True))
    async def sold(items: list[Item]) -> None:
        seen.extend(items)

    publisher = Publisher(app)
    await publisher.publish_batch("shop", "sold", [{"name": "x"}, {"name": "y"}])
    assert seen == [Item("x"), Item("y")]
    outcomes = await publisher.publish_batch("shop", "sold", [{"name": "x"}, {"name": 1}])
    error = outcomes[0].reply.error
    assert isinstance(error, ValidationError)
    assert error.errors[0]["loc"] == ["payload", 1, "name"]


async def test_a_tick_gives_the_scheduled_time(app: App) -> None:
    seen: list[Any] = []

    @app.on(Every(1), name="typed")
    async def typed(due: datetime) -> None:
        seen.append(due)

    @app.on(Every(1), name="seconds")
    async def seconds(due: float) -> None:
        seen.append(due)

    due = datetime(2026, 1, 2, tzinfo=UTC)
    async with app.started():
        await handle_tick(app, "typed", due, due)
        await handle_tick(app, "seconds", due, due)
    assert seen == [due, due.timestamp()]


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (Annotated[int, Gt(0)], "no validator checks Gt.* install microkit-pydantic"),
        (list[Annotated[int, Gt(0)]], "no validator checks Gt"),
        (Annotated[Item, Query()], "is more than a single query value can be"),
        (list[Service], "Nothing fills"),
    ],
    ids=str,
)
def test_what_the_kernel_cannot_check_fails_at_start_up(app: App, annotation: Any, why: str) -> None:
    async def read(value: Any) -> None: ...

    read.__annotations__["value"] = annotation
    app.get("/")(read)
    with pytest.raises(ResolutionError, match=why) as caught:
        app.build()
    assert "test_parameters.py:" in str(caught.value)


def test_a_constraint_on_a_path_parameter_fails_too(app: App) -> None:
    @app.get("/{id:int}")
    async def read(id: Annotated[int, Gt(0)]) -> None: ...

    with pytest.raises(ResolutionError, match="no validator checks Gt"):
        app.build()


async def test_a_name_inside_of_annotated_is_resolved(app: App) -> None:
    async def read(page: Any, item: Any) -> Any:
        return [page, item]

    read.__annotations__ |= {"page": Annotated["int", Query()], "item": Annotated["Item | None", Body(None)]}
    app.post("/")(read)
    assert await send(app, "POST", "/?page=2", {"name": "x"}) == (200, [2, {"name": "x", "price": 0.0}])
