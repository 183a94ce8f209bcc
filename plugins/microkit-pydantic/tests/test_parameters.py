"""Typed parameters and bodies of HTTP with pydantic."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pydantic.dataclasses
import pytest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, SecretStr, Strict, field_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

import microkit_pydantic
import microkit_pydantic.plugin
from microkit import App, Body, Cookie, Header, NotFound, Query, Reply, Request, ResolutionError

JSON = {"content-type": "application/json"}
Positive = Annotated[int, Field(gt=0)]


class Color(Enum):
    RED = "red"


class Line(BaseModel):
    sku: str
    count: Positive = 1


class Order(BaseModel):
    id: UUID
    lines: list[Line]
    day: date | None = None
    color: Color = Color.RED
    data: bytes = b""
    price: Decimal = Decimal(0)
    customer: str = Field("", alias="customerName")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Tags(RootModel[list[str]]):
    pass


class Point(TypedDict):
    x: int
    y: int


class Pair(NamedTuple):
    left: int
    right: str


@dataclasses.dataclass
class Plain:
    n: int


@pydantic.dataclasses.dataclass
class Checked:
    n: Positive


@pytest.fixture
def app() -> App:
    return App(plugins=[microkit_pydantic.plugin], discover=False)


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
async def test_constraints_and_types_of_pydantic_in_text(app: App) -> None:
    @app.get("/{id:int}/{name}")
    async def read(
        id: Positive,
        name: Annotated[str, Field(max_length=3)],
        ip: IPv4Address,
        page: Positive = 1,
        ids: list[Positive] = [],  # noqa: B006
        tags: Annotated[list[str] | None, Field(max_length=1)] = None,
        x_depth: Annotated[Positive | None, Header()] = None,
        session: Annotated[SecretStr, Cookie()] = SecretStr(""),
        plain: int = 0,
    ) -> Any:
        return [id, name, str(ip), page, ids, tags, x_depth, session.get_secret_value(), plain]

    found = await send(app, "GET", "/1/abc?ip=127.0.0.1")
    assert found == (200, [1, "abc", "127.0.0.1", 1, [], None, None, "", 0])
    url = "/1/abc?ip=127.0.0.1&page=2&ids=3&ids=4&tags=a&plain=5"
    found = await send(app, "GET", url, headers={"x-depth": "6", "cookie": "session=s"})
    assert found == (200, [1, "abc", "127.0.0.1", 2, [3, 4], ["a"], 6, "s", 5])
    url = "/0/abcd?ip=x&page=0&ids=1&ids=-1&tags=a&tags=b&plain=1_0"
    status, places = await send(app, "GET", url, headers={"x-depth": "x"})
    assert (status, set(places)) == (
        422,
        {
            "path.id",
            "path.name",
            "query.ip",
            "query.page",
            "query.ids.1",
            "query.tags",
            "header.x-depth",
            "query.plain",
        },
    )
    assert places["query.page"] == "Input should be greater than 0"
    assert places["query.plain"] == "must be an integer"  # the kernel's own, plugin or not


@pytest.mark.feature("F001-47")
async def test_a_model_is_validated_strictly_from_json(app: App) -> None:
    @app.post("/orders")
    async def create(order: Order) -> Any:
        return [type(order).__name__, order.model_dump(mode="json", by_alias=True)]

    document = {
        "id": str(UUID(int=7)),
        "lines": [{"sku": "a"}],
        "day": "2026-01-02",
        "color": "red",
        "data": "é",
        "price": "1.10",
        "customerName": "x",
    }
    status, (name, found) = await send(app, "POST", "/orders", document)
    assert (status, name) == (200, "Order")
    assert found == {**document, "lines": [{"sku": "a", "count": 1}]}
    wrong = {"id": "7", "lines": [{"sku": 1}, {"count": "1"}, 3], "day": "x", "color": "blue", "customerName": 5}
    assert await send(app, "POST", "/orders", wrong) == (
        422,
        {
            "body.id": "must be a UUID",
            "body.lines.0.sku": "Input should be a valid string",
            "body.lines.1.sku": "is missing",
            "body.lines.1.count": "Input should be a valid integer",
            "body.lines.2": "must be an object",
            "body.day": "must be an ISO 8601 date",
            "body.color": "Input should be 'red'",
            "body.customerName": "Input should be a valid string",
        },
    )


@pytest.mark.feature("F001-47")
@pytest.mark.parametrize(
    ("tp", "good", "expected", "bad", "place"),
    [
        (Point, {"x": 1, "y": 2}, {"x": 1, "y": 2}, {"x": 1}, "body.y"),
        (Pair, [1, "a"], [1, "a"], ["x", "a"], "body.0"),
        (Plain, {"n": 1}, {"n": 1}, {"n": "1"}, "body.n"),
        (Checked, {"n": 1}, {"n": 1}, {"n": 0}, "body.n"),
        (Tags, ["a"], ["a"], ["a", 1], "body.1"),
        (dict[str, Line], {"k": {"sku": "a"}}, {"k": {"sku": "a", "count": 1}}, {"k": {}}, "body.k.sku"),
        (dict[Positive, int], {"1": 2}, {"1": 2}, {"0": 2}, "body.0"),
        (list[list[int]], [[1]], [[1]], [[1, "2"]], "body.0.1"),
        (tuple[int, Line], [1, {"sku": "a"}], [1, {"sku": "a", "count": 1}], [1, {}], "body.1.sku"),
        (Cat | Dog, {"kind": "dog", "name": "x"}, {"kind": "dog", "name": "x"}, {"kind": "dog"}, "body.name"),
        (
            Annotated[Cat | Dog, Field(discriminator="kind")],
            {"kind": "cat", "lives": 9},
            {"kind": "cat", "lives": 9},
            {"kind": "cat"},
            "body.lives",
        ),
        (Annotated[int, Body(), Field(gt=0)], 1, 1, 0, "body"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_every_kind_of_body(app: App, tp: Any, good: Any, expected: Any, bad: Any, place: str) -> None:
    async def echo(value: Any) -> Any:
        return {"value": value}

    echo.__annotations__["value"] = tp
    app.post("/")(echo)
    assert await send(app, "POST", "/", good) == (200, {"value": expected})
    status, places = await send(app, "POST", "/", bad)
    assert status == 422
    assert place in places


@pytest.mark.feature("F001-47")
@pytest.mark.feature("FX-24")
@pytest.mark.guarantee("G10")
@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (JSON, b'{"sku": "x"}', 200),
        (JSON, b'{"sku": "NaN Infinity"}', 200),
        (JSON, b'{"sku": "x", "sku": "y"}', 200),
        ({}, b'{"sku": "x"}', 415),
        ({"content-type": "text/plain;x=application/json"}, b'{"sku": "x"}', 415),
        (JSON, b"", 400),
        (JSON, b"{", 400),
        (JSON, b'{"sku": "x"} x', 400),
        (JSON, b'\xef\xbb\xbf{"sku": "x"}', 400),
        (JSON, b'{"sku": "x", "count": NaN}', 400),
        (JSON, b'{"sku": "x", "more": Infinity}', 400),
        (JSON, b'{"sku": "\\ud800"}', 400),
        (JSON, b'{"sku": "\xff"}', 400),
        (JSON, b'{"sku": "x", "count": ' + b"9" * 5000 + b"}", 400),
        (JSON, b"[" * 100_000, 400),
        (JSON, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
        (JSON, b"[]", 422),
        (JSON, b"null", 422),
        (JSON, b'{"sku": "x", "count": ' + b"9" * 4000 + b"}", 200),
    ],
    ids=lambda value: f"{value[:30]!r}-{len(value)}" if isinstance(value, bytes) else str(value),
)
async def test_what_a_body_must_be(app: App, headers: dict[str, str], body: bytes, status: int) -> None:
    @app.post("/")
    async def create(line: Line) -> str:
        return line.sku

    assert (await app.handle(Request("POST", "/", headers, body))).http_status == status


@pytest.mark.feature("F001-47")
async def test_all_places_are_in_one_reply_the_body_included(app: App) -> None:
    @app.post("/{id}")
    async def create(id: UUID, page: Positive, line: Line, x_depth: Annotated[Positive, Header()]) -> None: ...

    status, places = await send(app, "POST", "/x?page=0", {"count": 0}, {**JSON, "x-depth": "0"})
    assert (status, set(places)) == (422, {"path.id", "query.page", "body.sku", "body.count", "header.x-depth"})


@pytest.mark.feature("F001-47")
async def test_two_models_embedding_and_defaults(app: App) -> None:
    @app.post("/two")
    async def two(line: Line, order: Order) -> Any:
        return [line.sku, str(order.id)]

    @app.post("/one")
    async def one(line: Annotated[Line | None, Body(None, embed=True, alias="it")]) -> Any:
        return [line]

    order = {"id": str(UUID(int=7)), "lines": [], "day": "2026-01-02"}
    assert await send(app, "POST", "/two", {"line": {"sku": "a"}, "order": order}) == (200, ["a", order["id"]])
    status, places = await send(app, "POST", "/two", {"line": {"sku": 1}, "order": {**order, "lines": ["x"]}})
    assert (status, set(places)) == (422, {"body.line.sku", "body.order.lines.0"})
    assert await send(app, "POST", "/one", {"it": {"sku": "a"}}) == (200, [{"sku": "a", "count": 1}])
    assert await send(app, "POST", "/one", {}) == await send(app, "POST", "/one") == (200, [None])


class Account(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    secret: Annotated[str, BeforeValidator(lambda value: value.strip("") if len(value) < 9 else 1 / 0)] = ""
    amount: int = 0

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == "custom":
            raise PydanticCustomError("taken", "this name is taken")
        if value == "public":
            raise NotFound("no such name")
        assert value != "assert", "internal text"
        return str(int(value))


@pytest.mark.guarantee("G9")
async def test_nothing_internal_is_in_an_error(app: App) -> None:
    @app.post("/")
    async def create(account: Account | Annotated[Cat | Dog, Field(discriminator="kind")]) -> str:
        return account.model_dump_json()

    @app.post("/account")
    async def account(account: Account) -> str:
        return account.name

    sent = {"name": "hunter2", "amount": "hunter2", "hunter" * 50: 1, "kind": "hunter2"}
    for path in ("/", "/account"):
        reply = await app.handle(Request("POST", path, JSON, json.dumps(sent).encode()))
        assert reply.http_status == 422
        assert isinstance(reply.body, bytes)
        for word in (b"hunter2", b"Account", b"Cat", b"pydantic", b"function", b"internal", b"http", b"hunter" * 20):
            assert word not in reply.body
    assert await send(app, "POST", "/account", {"name": "assert"}) == (422, {"body.name": "is not valid"})
    assert await send(app, "POST", "/account", {"name": "x"}) == (422, {"body.name": "is not valid"})
    assert await send(app, "POST", "/account", {"name": "custom"}) == (422, {"body.name": "this name is taken"})
    assert await send(app, "POST", "/account", {"name": "public"}) == 404
    assert await send(app, "POST", "/account", {"name": "1", "secret": "x" * 9}) == 500


@pytest.mark.guarantee("G10")
async def test_the_number_of_problems_is_bounded(app: App) -> None:
    @app.post("/")
    async def create(lines: list[Line]) -> None: ...

    assert len((await send(app, "POST", "/", [1] * 500))[1]) == 100
    assert await send(app, "POST", "/", [1] * 50_000) == (422, {"body": "has 50000 problems"})


class Broken(BaseModel):
    later: NoSuchName  # type: ignore[name-defined]  # noqa: F821


class Service:
    pass


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (Broken, "pydantic cannot validate .*Broken.*NoSuchName"),
        (Annotated[Line, Query()], "more than a single query value"),
        (Annotated[Service, Field(gt=0)], "pydantic cannot validate"),
        (list[Service], "Nothing fills"),
        (dict[str, Service], "Nothing fills"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_validated_fails_at_start_up(app: App, annotation: Any, why: str) -> None:
    async def read(value: Any) -> None: ...

    read.__annotations__["value"] = annotation
    app.post("/")(read)
    with pytest.raises(ResolutionError, match=why) as caught:
        app.build()
    assert "test_parameters.py:" in str(caught.value)


async def test_metadata_of_others_leaves_scalars_to_the_kernel(app: App) -> None:
    @app.get("/")
    async def read(n: Annotated[int, "documentation"], strict: Annotated[int, Strict()] = 0) -> Any:
        return n

    assert (await send(app, "GET", "/?n=x"))[1] == {"query.n": "must be an integer"}
    assert (await send(app, "GET", "/?n=1&strict=1"))[0] == 422


async def test_the_validator_can_be_given_by_code() -> None:
    app = App(plugins=[], discover=False, validator=microkit_pydantic.VALIDATOR)

    @app.post("/")
    async def create(line: Line) -> int:
        return line.count

    assert await send(app, "POST", "/", {"sku": "a", "count": 3}) == (200, 3)
