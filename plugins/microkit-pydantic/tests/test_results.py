"""Results are validated and filtered by the handler's annotation."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

import microkit_pydantic.plugin
from microkit import App, JsonResponse, Procedure, PublicError, Request, Response, StatusCode


class User(BaseModel):
    id: int
    name: str = Field(alias="userName", validation_alias="name")


class Secret(User):
    password: str = "hunter2"


class Point(TypedDict):
    x: int


@dataclasses.dataclass
class Plain:
    n: int


class Row:
    """What an ORM gives."""

    def __init__(self) -> None:
        self.id, self.name, self.password = 1, "a", "hunter2"


@pytest.fixture
def app() -> App:
    return App(plugins=[microkit_pydantic.plugin], discover=False)


def returning(app: App, annotation: Any, result: Any, *, sync: bool = False) -> None:
    async def handler() -> Any:
        return result

    def inline() -> Any:
        return result

    chosen = inline if sync else handler
    chosen.__annotations__["return"] = annotation
    app.get("/")(chosen)


USER = {"id": 1, "userName": "a"}


@pytest.mark.feature("F001-47")
@pytest.mark.parametrize("sync", [False, True], ids=["async", "thread"])
@pytest.mark.parametrize(
    ("annotation", "result", "status", "expected"),
    [
        (User, User(id=1, name="a"), 200, USER),
        (User, Secret(id=1, name="a"), 200, USER),
        (User, {"id": 1, "name": "a", "password": "hunter2"}, 200, USER),
        (User, Row(), 200, USER),
        (User, (201, Row()), 201, USER),
        (tuple[int, User], (201, Row()), 201, USER),
        (list[User], [Row(), {"id": 1, "name": "a"}], 200, [USER, USER]),
        (dict[str, User], {"k": Row()}, 200, {"k": USER}),
        (User | None, None, 204, None),
        (User | Response, JsonResponse([1], 202), 202, [1]),
        (User | Response, Row(), 200, USER),
        (Point, {"x": 1, "y": 2}, 200, {"x": 1}),
        (Plain, Plain(1), 200, {"n": 1}),
        (list[Plain], [{"n": 1}], 200, [{"n": 1}]),
        (Any, User(id=1, name="a"), 200, USER),
        (Any, (202, User(id=1, name="a")), 202, USER),
        (Any, [User(id=1, name="a")], 200, [USER]),
        (dict[str, int], {"a": "not checked"}, 200, {"a": "not checked"}),
    ],
    ids=lambda value: str(value)[:40].split(" object at")[0],
)
async def test_results_by_annotation(
    app: App, annotation: Any, result: Any, status: int, expected: Any, sync: bool
) -> None:
    returning(app, annotation, result, sync=sync)
    reply = await app.handle(Request("GET", "/"))
    assert isinstance(reply.body, bytes)
    assert (reply.http_status, json.loads(reply.body) if reply.body else None) == (status, expected)
    if reply.body:
        assert reply.headers["content-type"] == "application/json"


def changed() -> User:
    user = User(id=1, name="a")
    user.id = "hunter2"  # type: ignore[assignment]
    return user


@pytest.mark.feature("F001-47")
@pytest.mark.guarantee("G9")
@pytest.mark.parametrize(
    ("annotation", "result", "place"),
    [
        (User, {"id": "hunter2", "name": "a"}, "id: "),
        (User, None, "it: must be an object"),
        (list[User], [Row(), {"name": "hunter2"}], "1.id: is missing"),
        (Point, {}, "x: is missing"),
        (User, changed(), "cannot be serialized"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_an_invalid_result_is_a_logged_500(
    app: App, annotation: Any, result: Any, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    returning(app, annotation, result)
    with caplog.at_level(logging.ERROR):
        reply = await app.handle(Request("GET", "/"))
    assert reply.http_status == 500
    assert isinstance(reply.body, bytes)
    assert b"is missing" not in reply.body
    (record,) = caplog.records
    assert record.exc_info is not None
    text = str(record.exc_info[1])
    assert place in text
    assert "test_results.py:" in text
    assert "hunter2" not in caplog.text


async def test_a_validation_error_of_the_service_itself_is_no_422(app: App) -> None:
    @app.get("/")
    async def fails() -> User:
        return User.model_validate({"id": "x"})

    assert (await app.handle(Request("GET", "/"))).http_status == 500


@pytest.mark.feature("F001-47")
async def test_results_of_procedures_stay_values(app: App) -> None:
    @app.on(Procedure("users.get"))
    async def get(id: int) -> User:
        return {"id": id, "name": "a"} if id else {}  # type: ignore[return-value]

    @app.on(Procedure("users.all"))
    async def everything() -> AsyncIterator[User]:
        yield User(id=1, name="a")

    assert await app.call("users.get", 1) == User(id=1, name="a")
    with pytest.raises(PublicError) as caught:
        await app.call("users.get", 0)
    assert caught.value.status is StatusCode.INTERNAL
    assert [each async for each in await app.call("users.all")] == [User(id=1, name="a")]
