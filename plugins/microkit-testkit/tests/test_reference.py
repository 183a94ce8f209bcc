"""The reference plugin, end to end: every hook of the kernel does what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from microkit import App, Kind, Message, Request
from microkit.hookspecs import HOOKS, hookimpl
from microkit.inspect import inspect_app
from microkit.settlement import State
from microkit.transport import Process
from microkit_testkit import TestClient
from microkit_testkit.kit import Kit
from microkit_testkit.reference import Celsius, Counting, Signal, SignalNames, SignalQueue, SignalServer
from microkit_testkit.signals import Stored

pytestmark = pytest.mark.anyio
PLUGIN = "microkit_testkit.reference"


@pytest.fixture
def app(kit: Kit) -> App:
    return kit.app(PLUGIN, settings={"reference": {"header": "yes", "timeout": 0.05}})


@pytest.mark.feature("FX-29")
def test_it_implements_every_hook(app: App) -> None:
    record = next(each for each in app.plugins.records if each.name == "reference")
    assert set(record.hooks) == {*HOOKS, "microkit_reference_greetings"} - {"microkit_reference_greetings"}


async def test_it_changes_http_as_it_says(app: App) -> None:
    @app.get("/warm")
    async def warm(by: Celsius, names: SignalNames) -> Celsius:
        assert names == ("ping",)
        return Celsius(by.degrees + 1)

    @app.get("/{name:shout}")
    async def shout(name: str) -> str:
        return name

    @app.post("/lines", executor="reference")
    def lines() -> str:
        return "threaded"

    @app.on(Signal("ping"))
    async def ping(message: Message) -> None: ...

    async with TestClient(app) as client:
        response = await client.get("/warm?by=20")
        assert (response.text, response.headers["x-reference"]) == ("21 °C", "yes")
        assert (await client.get("/warm?by=-300")).status_code == 422
        assert (await client.get("/HELLO")).text == "hello"
        assert (await client.get("/hello")).status_code == 404
        assert (await client.post("/lines")).text == "threaded"
        counting = next(each for each in app.observers if isinstance(each, Counting))
        assert counting.finished[Kind.HTTP] == 5


@pytest.mark.feature("F004-17")
async def test_it_reads_forms_while_they_arrive(app: App) -> None:
    seen: list[object] = []

    @app.post("/upload")
    async def upload(request: Request) -> str:
        form = await request.form()
        assert await request.form() is form
        (file,) = form.files["report"]
        seen.extend([form.fields.pairs, file.filename, file.content_type])
        seen.append([piece async for piece in file.content])
        return "done"

    arrived = anyio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"title=Hel"
        yield b"lo\ntitle=\nreport@a/b.txt\nfirst\n"
        with anyio.fail_after(60):
            await arrived.wait()
        yield b"last"

    async def watch() -> None:
        while len(seen) < 3:
            await anyio.lowlevel.checkpoint()
        arrived.set()  # the handler has the form before its end was sent

    headers = {"content-type": "text/x-form; charset=utf-8"}
    async with TestClient(app) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        assert (await client.post("/upload", content=pieces(), headers=headers)).text == "done"
        assert seen == [
            [("title", "Hello"), ("title", "")],
            "b.txt",
            "application/octet-stream",
            [b"first\n", b"last"],
        ]
        bad = await client.post("/upload", content=b"title", headers=headers)
        assert (bad.status_code, bad.json()["detail"]) == (400, "The body is not valid text/x-form.")
        other = await client.post("/upload", files={"report": b"x"})
        assert other.status_code == 415
        assert "microkit-web" in other.json()["detail"]


async def test_signals_come_in_by_the_driver_and_by_the_ingress(app: App) -> None:
    seen: list[tuple[int, int]] = []

    async def count(payload: int, message: Message) -> None:
        seen.append((payload, message.attempt))
        if payload == 0:
            raise ConnectionError("not now")
        if payload == -1:
            await anyio.sleep_forever()

    class Controller:
        signals = {"count": count}

    app.include(Controller())
    async with TestClient(app, raise_server_exceptions=False) as client:
        assert await client.signals.emit("count", b"7") == [State.ACKED]
        assert await client.signals.emit("count", b"0") == [State.RETRIED] * 4 + [State.DEAD]
        assert seen == [(7, 1), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]
        assert (await client.signals.emit("count", b"-1"))[0] is State.RETRIED  # its deadline passed
        queue: SignalQueue = await app.container.get(SignalQueue)
        assert [body for body, _ in queue.dead] == [b"0", b"-1"]
        seen.clear()
        server = SignalServer()
        async with anyio.create_task_group() as tasks:
            await server.start(app, Process(tasks))
            queue.put(Stored("count", b"8"))
            queue.put(Stored("count", b"9"))
            await client.settle()
            await server.stop(1)
        assert seen == [(8, 1), (9, 1)]
        assert queue.unsettled == []


async def test_another_plugin_implements_its_hook(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    class Polite:
        @hookimpl(optionalhook=True)
        def microkit_reference_greetings(self) -> str:
            return "good morning"

    with caplog.at_level("INFO", logger="microkit"):
        async with TestClient(kit.app(PLUGIN, Polite())):
            pass
    assert "good morning" in caplog.text


def test_its_tooling(app: App, tmp_path: Path) -> None:
    @app.on(Signal("ping"))
    async def ping(message: Message) -> None: ...

    (artifact,) = [each.value for each in app.hooks.artifacts()]
    app.build()
    (path,) = artifact.generate(app, tmp_path)
    assert path.read_text() == "ping\n"
    sections = [each for each in inspect_app(app).sections if each.title == "Signals"]
    assert sections[0].rows == ({"signal": "signal ping"},)


@pytest.mark.parametrize(("degrees", "code"), [("20", 0), ("-300", 1)])
def test_its_command(degrees: str, code: int) -> None:
    from microkit.cli import main

    assert main(["-p", PLUGIN, "temperature", "--", degrees]) == code
