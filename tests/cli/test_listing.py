"""`routes`, `plugins` and `doctor`: what is there, what is broken, and that listing goes on without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Project

_SHOP = """
from microkit import App, Call, Event, Every, Procedure, Router

app = App(name="shop", timeout=5)

@app.add_middleware
async def trace(call: Call, call_next):
    return await call_next(call)

@app.get("/users/{id:int}")
async def get_user(id: int): ...

@app.on(Procedure("orders.create"))
@app.route("/orders", ["POST", "PUT"], timeout=1.5, name="orders")
def create(): ...

@app.on(Event("shop", "placed", batch=True))
async def placed(payloads: list[int]): ...

@app.every(10, name="poll")
async def poll(tick): ...

@app.websocket("/ws")
async def ws(ws): ...

admin = Router("/admin")

@admin.get("/x")
async def x(): ...

app.include(admin)
"""
_BROKEN = "raise RuntimeError('half installed')\n"
_OLD = "from microkit import PluginInfo\nmicrokit_plugin_info = PluginInfo(kernel='<0.2')\n"
_AUTOMATIC = """
from microkit import MiddlewareSpec, PluginInfo, hookimpl

async def stamp(request, call_next):
    reply = await call_next(request)
    reply.headers["x-stamp"] = "yes"
    return reply

@hookimpl
def microkit_middleware(app):
    return MiddlewareSpec(stamp, automatic=True)
"""


def _by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


@pytest.mark.feature("FX-05")
@pytest.mark.feature("F003-50")
def test_routes_lists_bindings_of_all_kinds(project: Project) -> None:
    project.write("shop.py", _SHOP)
    rows = project.run("routes", "shop:app", "--json").json
    assert [(row["kind"], row["address"], row["endpoint"]) for row in rows] == [
        ("HTTP", "GET /users/{id:int}", "shop.get_user"),
        ("HTTP", "POST|PUT /orders", "shop.create"),
        ("RPC", "orders.create", "shop.create"),
        ("BATCH", "shop/placed[]", "shop.placed"),
        ("TICK", "every 10s", "shop.poll"),
        ("SOCKET", "WEBSOCKET /ws", "shop.ws"),
        ("HTTP", "GET /admin/x", "shop.x"),
    ]
    user, orders, *_, admin = rows
    assert user["location"] == f"{project.folder / 'shop.py'}:10"
    assert user["middleware"] == ["shop.trace"]
    assert (user["executor"], user["timeout"], user["group"]) == ("event loop", 5, "/")
    assert (orders["executor"], orders["timeout"], orders["name"]) == ("thread", 1.5, "orders")
    assert (orders["methods"], orders["path"]) == (["POST", "PUT"], "/orders")
    assert (admin["group"], admin["path"]) == ("/admin", "/admin/x")


def test_routes_prints_a_table(project: Project) -> None:
    project.write("shop.py", _SHOP)
    lines = project.run("routes", "shop:app").out.splitlines()
    assert lines[0].split()[:4] == ["KIND", "ADDRESS", "NAME", "ENDPOINT"]
    assert len(lines) == 8
    column = lines[0].index("ENDPOINT")
    assert all(line[column:].startswith("shop.") for line in lines[1:])


def test_an_application_without_bindings_says_so(project: Project) -> None:
    project.write("shop.py", "from microkit import App\napp = App(name='bare')")
    assert project.run("routes", "shop:app").out == "The application 'bare' has no bindings.\n"


@pytest.mark.parametrize(
    ("binding", "said"),
    [
        ("@app.get('/x')\nasync def x(y: complex): ...", "y: complex"),
        # Its results would have no reader: it would be acked without having run.
        ("@app.on(Event('a', 'b'))\nasync def x(y): yield 1", "is a generator"),
        ("@app.every(3)\ndef x(): yield 1", "is a generator"),
    ],
)
def test_what_cannot_be_built_is_one_paragraph(project: Project, binding: str, said: str) -> None:
    project.write("shop.py", f"from microkit import App, Event\napp = App()\n{binding}")
    paragraph = project.run("routes", "shop:app").paragraph
    assert said in paragraph
    assert "shop.py:3" in paragraph


@pytest.mark.feature("FC-07")
@pytest.mark.feature("FX-05")
def test_listing_goes_on_with_broken_plugins_and_serving_does_not(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("shop.py", "from microkit import App\napp = App()\n@app.get('/x')\nasync def x(): return 1")
    project.install("broken", _BROKEN)
    project.install("old", _OLD)
    monkeypatch.setenv("MICROKIT_PLUGINS", "broken,old")
    for argv in (["plugins"], ["plugins", "shop:app"]):
        found = _by_name(project.run(*argv, "--json").json)
        assert {name: row["state"] for name, row in found.items()} == {
            "kernel": "active",
            "broken": "failed",
            "old": "incompatible",
        }
        assert found["broken"]["error"] == "RuntimeError: half installed"
        assert found["broken"]["version"] == "1.2.3"
        assert "needs microkit <0.2" in found["old"]["error"]
        text = project.run(*argv)
        assert text.code == 0
        assert "RuntimeError: half installed" in text.out
    for argv in (["routes", "shop:app"], ["explain", "shop:app", "x"]):
        result = project.run(*argv)
        assert result.code == 0
        assert "warning: Plugin 'broken' (thing-broken) is failed: RuntimeError: half installed." in result.err
        assert "GET /x" in result.out
    paragraph = project.run("call", "shop:app", "x").paragraph
    assert "2 plugins cannot be used" in paragraph
    assert "-p no:broken" in paragraph
    assert project.run("call", "shop:app", "x", "-p", "no:broken", "-p", "no:old").json == 1


@pytest.mark.feature("FC-07")
def test_plugins_lists_what_fails_in_a_hook(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("shop.py", "from microkit import App\napp = App()")
    project.install("late", "from microkit import hookimpl\n@hookimpl\ndef microkit_routers():\n    return 1 / 0\n")
    monkeypatch.setenv("MICROKIT_PLUGINS", "late")
    for argv in (["plugins"], ["plugins", "shop:app"]):
        row = _by_name(project.run(*argv, "--json").json)["late"]
        assert row["state"] == "failed"
        assert "microkit_routers" in row["error"]
        assert "thing_late.py:2" in row["error"]


def test_plugins_are_listed_when_settings_are_wrong(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("shop.py", "from microkit import App\napp = App()")
    monkeypatch.setenv("MICROKIT_APP__LOG_LEVLE", "INFO")
    result = project.run("plugins", "shop:app")
    assert result.code == 0
    assert "kernel" in result.out
    assert "MICROKIT_APP__LOG_LEVLE" in result.err


@pytest.mark.feature("FC-09")
def test_plugins_lists_what_each_gives_and_what_is_automatic(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("shop.py", "from microkit import App\napp = App()\n@app.get('/x')\nasync def x(): return 1")
    project.install("stamper", _AUTOMATIC)
    project.install("quiet", _AUTOMATIC.replace(", automatic=True", ""))
    project.install("router", "from microkit import *\n@hookimpl\ndef microkit_routers():\n"
                    "    return RouterSpec('fancy', lambda entries: None)\n")  # fmt: skip
    monkeypatch.setenv("MICROKIT_PLUGINS", "stamper,quiet,router")
    found = _by_name(project.run("plugins", "shop:app", "--json").json)
    assert found["stamper"]["automatic"] == ["thing_stamper.stamp"]
    assert found["quiet"]["automatic"] == []
    assert found["router"]["automatic"] == []
    assert found["router"]["contributed"]["microkit_routers"] == ["fancy"]
    assert found["kernel"]["contributed"]["microkit_executors"] == ["thread", "inline"]
    assert found["kernel"]["contributed"]["microkit_triggers"] == [
        "Route",
        "SocketRoute",
        "Procedure",
        "Event",
        "Every",
    ]
    table = project.run("plugins", "shop:app").out
    assert "thing_stamper.stamp" in table
    assert "routers: fancy" in table
    # Only the automatic middleware is in the plan.
    [row] = project.run("routes", "shop:app", "--json").json
    assert row["middleware"] == ["thing_stamper.stamp"]


@pytest.mark.feature("FX-05")
def test_doctor_passes_on_a_sound_installation(project: Project) -> None:
    project.write("shop.py", _SHOP)
    result = project.run("doctor", "shop:app")
    assert result.code == 0
    lines = {line.split()[1]: line for line in result.out.splitlines() if line.startswith("ok")}
    assert "asyncio" in lines["anyio"]
    assert "'shop'" in lines["application"]
    assert {"python", "settings", "build", "plugin", "microkit", "json"} <= lines.keys()
    assert "FAIL" not in result.out
    assert "FAIL" not in project.run("doctor").out


@pytest.mark.feature("FC-07")
@pytest.mark.parametrize(
    ("module", "environment", "said"),
    [
        ("raise OSError('no')", {}, ["application", "Importing 'shop' failed: OSError: no"]),
        (_SHOP, {"MICROKIT_APP__LOG_LEVLE": "1"}, ["settings", "MICROKIT_APP__LOG_LEVLE", "Did you mean"]),
        (_SHOP + "@app.get('/y')\ndef y(z: complex): ...", {}, ["build", "z: complex"]),
        (_SHOP, {"MICROKIT_PLUGINS": "broken"}, ["plugin broken", "half installed. Repair", "-p no:broken"]),
        (_SHOP, {"MICROKIT_PLUGINS": "old"}, ["plugin old", "incompatible"]),
        (_SHOP, {"MICROKIT_PLUGINS": "stone,tree"}, ["usable backends", "no installed backend"]),
    ],
)
def test_doctor_names_what_is_wrong(
    project: Project, monkeypatch: pytest.MonkeyPatch, module: str, environment: dict[str, str], said: list[str]
) -> None:
    project.write("shop.py", module)
    project.install("broken", _BROKEN)
    project.install("old", _OLD)
    info = "from microkit import PluginInfo\nmicrokit_plugin_info = PluginInfo(backends=('{}',))\n"
    project.install("stone", info.format("asyncio"))
    project.install("tree", info.format("trio"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = project.run("doctor", "shop:app")
    assert result.code == 1
    [line] = [line for line in result.out.splitlines() if line.startswith("FAIL")]
    for words in said:
        assert words in line
    assert "1 of " in result.out
    assert result.err == ""


def test_doctor_without_an_application_checks_settings_too(project: Project) -> None:
    project.write("microkit.toml", "[app]\nlog_level = 3\n")
    result = project.run("doctor")
    assert result.code == 1
    assert "log_level" in result.out
