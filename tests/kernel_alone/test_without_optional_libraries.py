"""The kernel in an interpreter where no optional library can be imported."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.feature("F004-24")

HIDE = """
import sys

HIDDEN = {"orjson", "uvicorn", "hypercorn", "uvloop", "pydantic", "jinja2", "multipart", "watchfiles", "trio"}

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def run(source: str) -> subprocess.CompletedProcess[str]:
    """Run a program that cannot see any optional library."""
    program = HIDE + textwrap.dedent(source)
    return subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)


def test_http_rpc_sockets_messages_and_timers_work() -> None:
    done = run(
        """
        import asyncio
        from datetime import UTC, datetime
        from typing import Annotated
        from microkit import App, BackgroundTasks, Depends, Event, Every, Procedure, Request, Tick, WebSocket
        from microkit.dispatch import handle_tick
        from microkit.inprocess import Publisher

        app = App(plugins=[], discover=False)

        async def database():
            yield "db"

        @app.post("/echo/{number:int}")
        async def echo(number: int, request: Request, db: Annotated[str, Depends(database)]) -> dict:
            return {"number": number, "body": await request.json(), "db": db}

        @app.on(Procedure("math.add"))
        async def add(a: int, b: int) -> int:
            return a + b

        @app.on(Event("shop", "sold"))
        async def sold(order: dict) -> None:
            print("sold", order)

        @app.on(Every(10), name="poll")
        async def poll(tick: Tick) -> None:
            print("tick", tick.name)

        @app.websocket("/ws")
        async def chat(ws: WebSocket) -> None:
            await ws.accept()
            await ws.send_text(await ws.receive_text())

        async def asgi(scope, *events):
            told, sent = list(events), []
            async def receive():
                return told.pop(0) if told else await asyncio.Event().wait()
            async def send(event):
                sent.append(event)
            await app({"query_string": b"", "headers": [], "asgi": {"version": "3.0"}, **scope}, receive, send)
            return sent

        async def main():
            async with app.started():
                sent = await asgi(
                    {"type": "http", "method": "POST", "path": "/echo/7",
                     "headers": [(b"content-type", b"application/json")]},
                    {"type": "http.request", "body": b'{"a": [1, 2.5, "\\xc3\\xbc"]}', "more_body": False},
                )
                print(sent[0]["status"], sent[1]["body"].decode())
                print(await app.call("math.add", 1, 2))
                await Publisher(app).publish("shop", "sold", {"id": 1})
                await handle_tick(app, "poll", datetime.now(UTC), datetime.now(UTC))
                sent = await asgi(
                    {"type": "websocket", "path": "/ws", "subprotocols": []},
                    {"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"},
                )
                print([event["type"] for event in sent], sent[1]["text"])

        asyncio.run(main())
        assert not HIDDEN & set(sys.modules)
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        '200 {"number":7,"body":{"a":[1,2.5,"ü"]},"db":"db"}',
        "3",
        "sold {'id': 1}",
        "tick poll",
        "['websocket.accept', 'websocket.send', 'websocket.close'] hi",
    ]


def test_a_server_is_missed_only_when_one_is_asked_for() -> None:
    done = run(
        """
        from microkit import App
        app = App(plugins=[], discover=False)
        app.get("/")(lambda: "hello")
        print("built", len(app.table.plans) > 0)
        app.run()
        """
    )
    assert done.stdout.startswith("built True")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "HTTP needs a plugin such as microkit-serve" in line


def test_an_installed_server_plugin_names_the_library_that_it_misses() -> None:
    pytest.importorskip("microkit_serve")
    done = run(
        """
        from microkit import App
        app = App(plugins=["microkit_serve.plugin"], discover=False)
        app.get("/")(lambda: "hello")
        print("built", len(app.table.plans) > 0)
        app.run(port=0)
        """
    )
    assert done.stdout.startswith("built True")
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line.startswith("microkit: ")]
    assert "`pip install uvicorn`" in line
    assert "Traceback" not in done.stderr


def test_models_are_missed_only_where_a_handler_takes_one() -> None:
    done = run(
        """
        import asyncio
        from microkit import App, MicrokitError
        app = App(plugins=[], discover=False)

        @app.get("/")
        async def plain(limit: int = 3) -> dict:
            return {"limit": limit}

        app.table
        print("built")

        class Order:
            def __init__(self, **values): ...

        @app.post("/orders")
        async def create(order: Order) -> str:
            return "created"

        try:
            app.table
        except MicrokitError as error:
            print(error)
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("built\n")
    told = done.stdout.removeprefix("built\n")
    assert "order" in told
    assert "Order" in told


def test_forms_are_missed_only_where_they_are_read() -> None:
    done = run(
        """
        from microkit import App, Form, MicrokitError, Request
        app = App(plugins=[], discover=False)

        @app.post("/form")
        async def form(name: str = Form()) -> str:
            return name

        try:
            app.table
        except MicrokitError as error:
            print(error)
        """
    )
    assert done.returncode == 0, done.stderr
    assert "install microkit-web for forms" in done.stdout


@pytest.mark.parametrize("library", ["trio"])
def test_a_backend_that_is_not_installed_is_named_with_its_remedy(library: str) -> None:
    done = run(
        f"""
        from microkit import App
        app = App(plugins=[], discover=False)

        @app.every(10)
        async def poll() -> None: ...

        app.run(backend="{library}")
        """
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "pip install 'microkit[trio]'" in line
