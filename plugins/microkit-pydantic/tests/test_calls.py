"""Payloads of procedures, events and batches."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

import microkit_pydantic.plugin
from microkit import App, Event, Procedure, StatusCode, ValidationError
from microkit.call import RpcRequest
from microkit.inprocess import Publisher

Positive = Annotated[int, Field(gt=0)]


class Rename(BaseModel):
    id: UUID
    name: str
    day: date | None = None


class Defaults(BaseModel):
    n: Positive = 1


@dataclasses.dataclass
class Plain:
    n: int


ID = UUID(int=7)


@pytest.fixture
def app() -> App:
    return App(plugins=[microkit_pydantic.plugin], discover=False)


async def problems(app: App, name: str, /, *args: Any, **kwargs: Any) -> list[list[Any]]:
    with pytest.raises(ValidationError) as caught:
        await app.call(name, *args, **kwargs)
    assert caught.value.status is StatusCode.INVALID_ARGUMENT
    return [each["loc"] for each in caught.value.errors]


@pytest.mark.feature("F003-12")
async def test_a_model_is_the_payload(app: App) -> None:
    @app.on(Procedure("users.rename"))
    async def rename(payload: Rename) -> Any:
        return payload

    wanted = Rename(id=ID, name="x", day=date(2026, 1, 2))
    assert await app.call("users.rename", wanted) is wanted
    assert await app.call("users.rename", payload=wanted) is wanted
    assert await app.call("users.rename", id=ID, name="x", day=date(2026, 1, 2)) == wanted
    # What a remote caller may send, a local one may as well.
    remote = {"id": str(ID), "name": "x", "day": "2026-01-02"}
    assert await app.call("users.rename", remote) == await app.call("users.rename", **remote) == wanted
    raw = wanted.model_dump_json().encode()
    assert (await app.handle(RpcRequest("users.rename", raw=raw))).payload == wanted
    assert await problems(app, "users.rename", id="7", name=5) == [["payload", "id"], ["payload", "name"]]
    assert await problems(app, "users.rename", payload={"id": str(ID)}) == [["payload", "name"]]
    reply = await app.handle(RpcRequest("users.rename", raw=b"{"))
    assert reply.status is StatusCode.INVALID_ARGUMENT


@pytest.mark.feature("F003-12")
@pytest.mark.parametrize("raw", [b"{}", b"", None])
async def test_an_empty_payload_of_defaults_is_valid(app: App, raw: bytes | None) -> None:
    @app.on(Procedure("a.b"))
    async def call(payload: Defaults) -> Any:
        return payload

    assert (await app.handle(RpcRequest("a.b", raw=raw))).payload == Defaults()


@pytest.mark.feature("F003-12")
async def test_a_dataclass_is_the_payload(app: App) -> None:
    @app.on(Procedure("a.b"))
    async def call(payload: Plain) -> Any:
        return payload

    given = Plain(1)
    assert await app.call("a.b", given) is given
    assert await app.call("a.b", n=1) == await app.call("a.b", {"n": 1}) == given
    assert await problems(app, "a.b", n="1") == [["payload", "n"]]


@pytest.mark.feature("F003-13")
async def test_several_arguments(app: App) -> None:
    @app.on(Procedure("a.b"))
    async def call(n: Positive, who: Rename, more: list[Positive] = []) -> Any:  # noqa: B006
        return [n, who.name, more]

    who = {"id": str(ID), "name": "x"}
    assert await app.call("a.b", 1, Rename(id=ID, name="x"), [2]) == [1, "x", [2]]
    assert await app.call("a.b", n=1, who=who) == [1, "x", []]
    raw = b'{"n": 1, "who": {"id": "%s", "name": "x"}}' % str(ID).encode()
    assert (await app.handle(RpcRequest("a.b", raw=raw))).payload == [1, "x", []]
    assert await problems(app, "a.b", n=0, who={**who, "name": 1}, more=[1, -1]) == [
        ["arguments", "n"],
        ["arguments", "who", "name"],
        ["arguments", "more", 1],
    ]


async def test_payloads_of_events(app: App) -> None:
    seen: list[Any] = []

    @app.on(Event("users", "renamed"))
    async def renamed(event: Rename) -> None:
        seen.append(event)

    @app.on(Event("users", "counted"))
    async def counted(n: Positive) -> None:
        seen.append(n)

    publisher = Publisher(app)
    await publisher.publish("users", "renamed", {"id": str(ID), "name": "x"})
    await publisher.publish("users", "counted", 3)
    assert seen == [Rename(id=ID, name="x"), 3]
    for name, payload in (("renamed", {"id": "7"}), ("counted", 0)):
        (outcome,) = await publisher.publish("users", name, payload)
        assert outcome.reply.status is StatusCode.INVALID_ARGUMENT
        assert outcome.delivery.answers[0].action == "store_dead"
    assert len(seen) == 2


async def test_a_batch_of_models(app: App) -> None:
    seen: list[Any] = []

    @app.on(Event("users", "renamed", batch=True))
    async def renamed(events: list[Rename]) -> None:
        seen.extend(events)

    await Publisher(app).publish_batch("users", "renamed", [{"id": str(ID), "name": "x"}] * 2)
    assert seen == [Rename(id=ID, name="x")] * 2
