"""`microkit call`: one endpoint in process, after start-up and with shutdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Project

_SHOP = """
from dataclasses import dataclass
from datetime import date
from microkit import *

app = App(name="shop")
log = []

@dataclass
class Order:
    id: int
    note: str = ""

@app.on_startup
async def up(): log.append("up")

@app.on_shutdown
async def down(): print("down after", *log)

@app.add_middleware
async def trace(call: Call, call_next):
    log.append(call.address)
    return await call_next(call)

@app.get("/users/{id:int}", name="user")
async def get_user(id: int, page: int = 1): return {"id": id, "page": page, "up": "up" in log}

@app.post("/orders")
def make(order: Order): return Response(b'{"made": %d}' % order.id, 201, media_type="application/json")

@app.delete("/orders")
async def remove(): return None

@app.get("/text")
async def text(): return "plain"

@app.get("/lines")
async def lines():
    async def produce():
        yield "one\\n"
        yield "two\\n"
    return StreamingResponse(produce())

@app.get("/moved")
async def moved(): return RedirectResponse("/text")

@app.get("/boom")
async def boom(): raise KeyError("inner detail")

@app.get("/teapot")
async def teapot(): raise HTTPException(418, "short and stout")

@app.on(Procedure("orders.create"))
async def create(id: int, note: str = "-", *, day: date | None = None): return Order(id, note)

@app.on(Procedure("orders.count"))
async def count(n: int):
    for i in range(n):
        yield i

@app.on(Procedure("orders.odd"))
async def odd(): return object()

@app.on(Event("shop", "placed"))
async def placed(order: Order, message: Message):
    if order.id < 0:
        raise ValueError("negative")
    if order.id == 0:
        await message.reject("zero")
    return order.id

@app.on(Event("shop", "many", batch=True))
async def many(orders: list[Order]): return len(orders)

@app.every(10, name="poll")
async def poll(tick: Tick): return tick.name

@app.every(10, name="bad")
async def bad(tick: Tick): raise LookupError("no table")

@app.websocket("/ws")
async def socket(ws): ...
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.write("shop.py", _SHOP)
    return project


def _result(project: Project, *argv: str) -> Any:
    """The printed result; the line that the shutdown hook prints comes before it."""
    result = project.run("call", "shop:app", *argv)
    assert (result.code, result.err) == (0, "")
    shutdown, _, printed = result.out.partition("\n")
    assert shutdown.startswith("down after up ")
    import json

    return json.loads(printed)


@pytest.mark.feature("FX-05")
@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["user", "--arg", "id=7"], {"id": 7, "page": 1, "up": True}),
        (["get_user", "--arg", "id=7", "--arg", "page=2"], {"id": 7, "page": 2, "up": True}),
        (["shop.get_user", "--arg", "id=7"], {"id": 7, "page": 1, "up": True}),
        (["GET /users/{id:int}", "--arg", "id=7"], {"id": 7, "page": 1, "up": True}),
        (["GET /users/8?page=3"], {"id": 8, "page": 3, "up": True}),
        (["get /users/8", "--arg", "page=4"], {"id": 8, "page": 4, "up": True}),
        (["/text"], "plain"),
        (["lines"], "one\ntwo\n"),
        (["moved"], {"status": 302, "location": "/text"}),
        (["POST /orders", "--json", '{"id": 3}'], {"made": 3}),
        (["DELETE /orders"], None),
        (["orders.create", "--arg", "id=4", "--arg", "note=red pen"], {"id": 4, "note": "red pen"}),
        (["orders.create", "--json", '{"id": 4}', "--arg", 'note="5"'], {"id": 4, "note": "5"}),
        (["orders.create", "--json", "[4, 'x']".replace("'", '"')], {"id": 4, "note": "x"}),
        (["orders.count", "--arg", "n=3"], [0, 1, 2]),
        (["shop/placed", "--arg", "id=9"], 9),
        (["placed", "--json", '{"id": 8}'], 8),
        (["shop/many[]", "--json", '[{"id": 1}, {"id": 2}]'], 2),
        (["poll"], "poll"),
    ],
)
def test_an_endpoint_of_any_kind_runs_and_its_result_is_printed(shop: Project, argv: list[str], expected: Any) -> None:
    assert _result(shop, *argv) == expected


def test_middleware_takes_part(shop: Project) -> None:
    out = shop.run("call", "shop:app", "orders.create", "--arg", "id=1").out
    assert out.splitlines()[0] == "down after up orders.create"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_runs_on_both_backends(shop: Project, backend: str) -> None:
    assert _result(shop, "poll", "--backend", backend) == "poll"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["get_usr"],
            ["no endpoint 'get_usr'", "Did you mean 'shop.get_user'?", "GET /users/{id:int}", "microkit routes"],
        ),
        (["GET /nothing"], ["no endpoint 'GET /nothing'"]),
        (["user"], ["--arg id=VALUE"]),
        (["user", "--arg", "id=x"], ["'id' takes int, not 'x'"]),
        (["user", "--arg", "id=1", "--arg", "page=x"], ["422 (INVALID_ARGUMENT)", "query.page must be"]),
        (["make", "--json", "{"], ["--json is not valid JSON"]),
        (["make", "--json", "{}"], ["422", "id"]),
        (["make"], ["POST /orders answered 415"]),
        (["teapot"], ["418", "short and stout"]),
        (["boom"], ["GET /boom failed: KeyError: 'inner detail'", "in boom)"]),
        (["orders.create", "--arg", "idd=1"], ["INVALID_ARGUMENT", "arguments.idd is not known"]),
        (["orders.create", "--json", "[1]", "--arg", "id=1"], ["no JSON object"]),
        (["orders.odd"], ["object, which has no JSON form"]),
        (["placed", "--arg", "id=-1"], ["ValueError: negative", "in placed)", "the message retried"]),
        (["placed", "--arg", "id=0"], ["shop/placed ran.", "the message dead: zero"]),
        (["bad"], ["The schedule bad failed: LookupError: no table"]),
        (["WEBSOCKET /ws"], ["WEBSOCKET /ws takes a whole connection"]),
    ],
)
def test_a_failure_is_one_paragraph(shop: Project, argv: list[str], said: list[str]) -> None:
    paragraph = shop.run("call", "shop:app", *argv).paragraph
    for words in said:
        assert words in paragraph


def test_a_failure_of_start_up_names_the_step_and_the_line(project: Project) -> None:
    project.write(
        "shop.py",
        """\
        from microkit import App
        app = App()
        @app.on_startup
        async def connect():
            raise ConnectionError("refused")
        @app.get("/x")
        async def x(): return 1
        """,
    )
    paragraph = project.run("call", "shop:app", "x").paragraph
    assert "Start-up failed in the start-up hook shop.connect" in paragraph
    assert "ConnectionError: refused (shop.py:5 in connect)" in paragraph
