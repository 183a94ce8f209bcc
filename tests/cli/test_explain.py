"""`microkit explain`: the compiled plan, and who contributed each part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Project

_SHOP = """
from typing import Annotated
from microkit import *

app = App(name="shop", timeout=5)

class Settings: ...

def session():
    yield 1

async def user(db: Annotated[int, Depends(session, thread=True)], token: Annotated[str, Header()] = ""):
    yield token

async def mail():
    yield 2

async def audit():
    yield 3

app.registry.add(Provider(Settings, scope="app"))

@app.add_middleware
async def trace(call: Call, call_next, log: Annotated[int, Depends(audit)]):
    return await call_next(call)

@app.get("/users/{id:int}")
def get_user(
    id: int,
    flag: "Flag",
    settings: Settings,
    who: Annotated[str, Depends(user)],
    post: Annotated[int, Depends(mail, scope="background")],
    *,
    page: int | None = None,
): ...

class Flag: ...

class Orders:
    def __init__(self, settings: Settings): ...
    @route("/orders")
    async def list(self, page: int = 1): ...

app.include(Orders)

@app.on(Procedure("orders.create"))
async def create(id: int, *args, note: str = ""): ...

def policy(message, reply): ...

@app.on(Event("shop", "placed"), retry=policy)
async def placed(order: dict): ...

@app.every(10, name="poll")
async def poll(tick: Tick): ...
"""
_FLAGS = """
from microkit import hookimpl
from microkit.binding import Binder
from microkit.executor import THREAD, ExecutorSpec
from microkit.inspect import Section

@hookimpl
def microkit_bind_parameter(parameter):
    if getattr(parameter.annotation, "__name__", "") == "Flag":
        return Binder(lambda call: True, "feature flag")

@hookimpl
def microkit_executors():
    return ExecutorSpec("pool", THREAD.wrap)

@hookimpl
def microkit_inspect(info):
    yield Section("Flags", ({"flag": "dark", "for": info.name},))
"""


@pytest.fixture
def shop(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write("shop.py", _SHOP)
    project.install("flags", _FLAGS)
    monkeypatch.setenv("MICROKIT_PLUGINS", "flags")
    return project


def _plan(shop: Project, endpoint: str) -> dict[str, Any]:
    return shop.run("explain", "shop:app", endpoint, "--json").json


@pytest.mark.feature("FX-04")
def test_a_plan_names_every_part_and_its_plugin(shop: Project) -> None:
    plan = _plan(shop, "get_user")
    assert plan["binding"]["address"] == "GET /users/{id:int}"
    assert (plan["binding"]["executor"], plan["binding"]["timeout"]) == ("thread", 5)
    assert {(part["role"], part["name"]): part["plugin"] for part in plan["parts"]} == {
        ("trigger", "Route"): "kernel",
        ("router", "linear"): "kernel",
        ("executor", "thread"): "kernel",
    }
    [layer] = plan["layers"]
    assert (layer["name"], layer["plugin"], layer["injected"]) == ("shop.trace", "application", ["shop.audit"])
    assert layer["location"].endswith("shop.py:23")
    parameters = [(each["name"], each["source"], each["plugin"]) for each in plan["parameters"]]
    assert parameters == [
        ("id", "path id", "kernel"),
        ("flag", "feature flag", "flags"),
        ("settings", "shop.Settings", "application"),
        ("who", "shop.user", "application"),
        ("post", "shop.mail", "application"),
        ("page", "query page: int (kernel)", "kernel"),
    ]


@pytest.mark.feature("FX-04")
def test_a_plan_names_scopes_dependencies_and_the_order_of_teardown(shop: Project) -> None:
    plan = _plan(shop, "GET /users/7")
    steps = {each["label"]: each for each in plan["steps"]}
    assert steps["shop.user"]["needs"] == ["shop.session", "header token: str (kernel)"]
    assert (steps["shop.user"]["mode"], steps["shop.user"]["teardown"]) == ("async generator", True)
    assert steps["shop.session"]["mode"] == "generator in a thread"
    assert {label: steps[label]["scope"] for label in ("shop.session", "shop.Settings", "shop.mail", "path id")} == {
        "shop.session": "call",
        "shop.Settings": "app",
        "shop.mail": "background",
        "path id": "call",
    }
    order = list(steps)
    assert order.index("shop.session") < order.index("shop.user")
    assert plan["teardown"] == ["shop.user", "shop.session", "shop.audit", "shop.mail (after the background tasks)"]


@pytest.mark.feature("FX-04")
@pytest.mark.parametrize(
    ("endpoint", "kind", "delivery"),
    [
        ("orders.create", "RPC", "payload or stream"),
        ("shop/placed", "MESSAGE", "settled: ack, or on failure by shop.policy"),
        ("poll", "TICK", "log"),
        ("* /orders", "HTTP", "status, headers"),
    ],
)
def test_every_kind_can_be_explained(shop: Project, endpoint: str, kind: str, delivery: str) -> None:
    plan = _plan(shop, endpoint)
    assert plan["binding"]["kind"] == kind
    assert plan["delivery"].startswith(delivery)


def test_parameters_of_methods_and_of_procedures_are_told_from_what_stands_before_them(shop: Project) -> None:
    assert [(each["name"], each["source"]) for each in _plan(shop, "/orders")["parameters"]] == [
        ("page", "query page: int (kernel)")
    ]
    assert [(each["name"], each["source"]) for each in _plan(shop, "orders.create")["parameters"]] == [
        ("id", "arguments id: int (kernel)"),
        ("note", "arguments note: str (kernel)"),
    ]


@pytest.mark.feature("FX-04")
def test_the_text_has_all_of_it(shop: Project) -> None:
    text = shop.run("explain", "shop:app", "get_user").out
    for words in ("GET /users/{id:int} (get_user)", "deadline  5 s", "executor  thread", "shop.trace", "feature flag"):
        assert words in text
    assert "query page: int (kernel)" in text
    assert "Teardown" in text
    assert text.index("1  shop.user") < text.index("2  shop.session")


def test_without_an_endpoint_everything_is_shown(shop: Project) -> None:
    text = shop.run("explain", "shop:app").out
    for words in ("shop (version 1)", "GET /users/{id:int}", "shop.Settings", "linear", "timers", "log_level", "dark"):
        assert words in text
    info = shop.run("explain", "shop:app", "--json").json
    assert info["sections"] == [{"title": "Flags", "rows": [{"flag": "dark", "for": "shop"}]}]
    assert {each["name"] for each in info["bindings"]} == {"get_user", "list", "create", "placed", "poll"}
    assert info["runtime"]["usable"] == ["asyncio", "trio"]


def test_an_unknown_endpoint_is_one_paragraph_with_the_nearest_name(shop: Project) -> None:
    paragraph = shop.run("explain", "shop:app", "orders.crate").paragraph
    assert "no endpoint 'orders.crate'. Did you mean 'orders.create'?" in paragraph


def test_the_code_that_was_written_for_an_endpoint_can_be_read(shop: Project) -> None:
    source = shop.run("explain", "shop:app", "get_user", "--source").out
    assert source.startswith("async def core(call):")
    compile(source, "core", "exec")
