"""Which ingresses a host opens, and what it says when it cannot."""

from __future__ import annotations

import socket
from typing import Any

import pytest

INGRESSES = """
    from dataclasses import dataclass
    import anyio
    from microkit import App, Event, Every, Kind, Procedure, Trigger, hookimpl
    from microkit.broker import broker_for
    from microkit.transport import TransportSpec
    from microkit.triggers import TriggerSpec

    class Fake:
        def __init__(self, name="consumers", ingress="consumers"):
            self.name, self.ingress = name, ingress

        async def start(self, app, process):
            print(f"{self.name} opens {process.index}/{process.count}")

        async def stop(self, grace):
            print(f"{self.name} closes")

    class Plugin:
        @hookimpl
        def microkit_transports(self):
            return [
                TransportSpec("fake", Kind.MESSAGE, "consumers", server=Fake, automatic=True),
                TransportSpec("pigeon", Kind.RPC, "rpc", server=lambda: Fake("pigeon", "rpc")),
            ]

    app = App(plugins=[Plugin()])

    @app.on(Event("shop", "sold"))
    async def sold(payload: dict) -> None: ...

    @app.on(Procedure("users.get"))
    async def get_user(id: int) -> int:
        return id

    @app.get("/")
    async def hello() -> str:
        return "hello"

    @app.on(Every(0.05))
    async def tick() -> None:
        print("tick")
"""


@pytest.mark.feature("FX-06")
def test_every_ingress_that_the_bindings_need_is_opened(start: Any) -> None:
    program = start(INGRESSES)
    assert program.request("/")[0] == 200
    program.line("^tick")
    program.line("consumers opens 0/1")
    assert program.stop() == 0
    assert program.count("consumers closes") == 1
    assert program.count("pigeon") == 0


@pytest.mark.feature("FX-06")
def test_only_the_named_ingresses_are_opened(start: Any) -> None:
    program = start(INGRESSES, "--only", "timers,fake")
    program.line("^tick")
    program.line("consumers opens")
    assert program.stop() == 0
    assert program.count("listens on") == 0


@pytest.mark.feature("F003-06")
def test_several_transports_are_served_at_once_until_stopped(start: Any) -> None:
    program = start(
        INGRESSES + '\n    app.run("pigeon", Fake("extra", "rpc"), Fake("mine"), port=0)\n', command=["app.py"]
    )
    program.line("pigeon opens")
    program.line("extra opens")
    program.line("mine opens")
    assert program.request("/")[0] == 200
    assert program.stop() == 0
    assert program.count("consumers opens") == 0  # one of ours serves that ingress already
    assert {"pigeon closes", "extra closes", "mine closes"} <= set(program.lines)


def test_an_ingress_that_nobody_opens_is_told(start: Any) -> None:
    program = start(INGRESSES.replace("App(plugins=[Plugin()])", "App()"), MICROKIT_PLUGINS="serve")
    program.line("no active plugin opens the ingress 'consumers', so nothing from outside reaches shop/sold")
    assert program.request("/")[0] == 200
    assert program.stop() == 0


@pytest.mark.guarantee("G2")
def test_the_failure_of_an_ingress_ends_the_process_and_closes_the_others(start: Any) -> None:
    program = start(
        INGRESSES.replace(
            'print(f"{self.name} opens {process.index}/{process.count}")', "process.tasks.start_soon(self.fail)"
        ).replace(
            "async def stop", "async def fail(self): raise OSError('the broker is gone')\n\n        async def stop"
        )
        + "\n    app.on_shutdown(lambda: print('shut down'))\n"
    )
    assert program.wait() == 1
    program.line("OSError: the broker is gone")
    program.line("^shut down")


HELLO = """
    from microkit import App
    app = App()

    @app.get("/")
    async def hello() -> str:
        return "hello"
"""


def test_a_port_in_use_is_told_with_its_address_and_a_remedy(start: Any, paragraph: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = start(ORDERLY, command=["-m", "microkit", "run", "app:app", "--port", str(port)])
        assert program.wait() == 1
    assert f"127.0.0.1:{port}" in program.errors[0]
    assert "--port" in paragraph(program)
    assert program.lines.count("closed") == 1


ORDERLY = (
    HELLO
    + """
    @app.on_shutdown
    def close():
        print("closed")
"""
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--host", "no.such.host.invalid"], ["no.such.host.invalid", "--host"]),
        (["--host", "192.0.2.1"], ["192.0.2.1:0", "no interface"]),
        (["--only", "htp"], ["'htp'", "Did you mean 'http'"]),
        (["--transport", "hyper"], ["'hyper'", "Did you mean 'hypercorn'"]),
        (["--transport", "uvicorn", "--backend", "trio"], ["asyncio only", "hypercorn", "--backend asyncio"]),
        (["--only", "timers"], ["nothing to serve", "--only"]),
        (["-p", "no:serve"], ["nothing to serve", "microkit-serve"]),
    ],
    ids=[
        "unknown host",
        "foreign address",
        "unknown ingress",
        "unknown transport",
        "wrong backend",
        "nothing",
        "no server",
    ],
)
@pytest.mark.guarantee("G12")
def test_what_cannot_be_opened_is_one_paragraph(
    start: Any, paragraph: Any, arguments: list[str], expected: Any
) -> None:
    program = start(HELLO, *arguments)
    assert program.wait() == 1
    text = paragraph(program)
    for each in expected:
        assert each in text


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ("other:app", HELLO, "There is no module 'other'"),
        ("app:application", HELLO, "has no attribute 'application'"),
        ("app:hello", HELLO, "not a microkit application"),
        ("app:app", HELLO + "    1 / 0\n", "ZeroDivisionError: division by zero (app.py:8 in <module>)"),
        ("app:app", HELLO.replace("App()", "App(plugins=['broken'])"), "'broken'"),
    ],
    ids=["module", "attribute", "no application", "failing import", "failing plugin"],
)
def test_an_application_that_cannot_be_loaded_is_one_paragraph(
    start: Any, paragraph: Any, target: str, source: str, expected: str
) -> None:
    program = start(source, command=["-m", "microkit", "run", target, "--port", "0"])
    assert program.wait() == 1
    assert expected in paragraph(program)


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--port", "x"], ["--backend", "curio"], ["--nonsense"]])
def test_wrong_usage_is_code_2(start: Any, arguments: list[str]) -> None:
    program = start(HELLO, *arguments)
    assert program.wait() == 2
    assert "Traceback" not in "\n".join(program.lines)


def test_two_servers_for_one_address_are_refused(start: Any) -> None:
    program = start(HELLO, "--transport", "uvicorn", "--transport", "hypercorn")
    assert program.wait() == 1
    assert program.errors[-1] == (
        "microkit: Two http ingresses ask for 127.0.0.1:0. Open one of them only, or give each a port of its own."
    )
    assert program.count("Traceback") == 0
