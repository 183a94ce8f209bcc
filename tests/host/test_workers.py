"""Several worker processes behind one supervisor."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

import pytest

APP = """
    import os
    import anyio
    from microkit import App, Every
    app = App()

    def say(text):
        os.write(1, f"{text} {os.getpid()}\\n".encode())  # whole lines, of several processes

    @app.get("/pid")
    async def pid() -> int:
        return os.getpid()

    @app.on(Every(0.05))
    async def single() -> None:
        say("single")

    @app.on(Every(0.05, each_process=True))
    async def each() -> None:
        say("each")

    @app.on_startup
    def up():
        say("started")

    @app.get("/slow")
    async def slow() -> str:
        say("request begun")
        while app.ready:
            await anyio.sleep(0.01)
        return "done"
"""


def _pids(program: Any, wanted: int, without: int = 0) -> set[int]:
    """Ask until so many processes have answered; one may stand still for a while, and the others answer for it."""
    found: set[int] = set()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found |= {program.json("/pid")} - {without}
        if len(found) >= wanted:
            return found
    raise AssertionError(f"only {found} answered")


@pytest.mark.feature("FX-07")
def test_workers_share_the_port_timers_fire_in_one_and_a_killed_worker_is_replaced(start: Any) -> None:
    program = start(APP, "--workers", "2")
    for number in (1, 2):
        program.line("listens on", number)
    before = _pids(program, 2)
    first = int(program.line(r"^single (\d+)")[1])
    other = (before - {first}).pop()
    program.line(f"^each {first}")
    program.line(f"^each {other}")
    os.kill(other, signal.SIGKILL)
    program.line(rf"worker 1 \(process {other}\) ended")
    program.line("listens on", 3)
    after = _pids(program, 2)
    assert first in after
    assert other not in after
    assert program.stop() == 0
    assert program.count(r"^single") == program.count(rf"^single {first}")
    assert not [pid for pid in after if _lives(pid)]


@pytest.mark.feature("FX-07")
def test_a_signal_drains_all_workers_even_if_the_whole_group_gets_it(start: Any) -> None:
    program = start(APP, "--workers", "2")
    for number in (1, 2):
        program.line("listens on", number)
    pids = [int(program.line(r"^started (\d+)", number)[1]) for number in (1, 2)]
    with socket.create_connection(("127.0.0.1", program.port)) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        program.line("request begun")
        for pid in pids:
            os.kill(pid, signal.SIGINT)  # what a terminal does
            os.kill(pid, signal.SIGTERM)
        assert program.stop() == 0
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.endswith((b"done", b'"done"'))
    assert not [pid for pid in pids if _lives(pid)]


def test_workers_end_when_their_supervisor_is_killed(start: Any) -> None:
    program = start(APP, "--workers", "2")
    for number in (1, 2):
        program.line("listens on", number)
    program.signal(signal.SIGKILL)
    for number in (1, 2):
        program.line("the supervisor is gone", number)
    program.wait()  # the output of the workers ended as well


def test_a_second_signal_ends_all_workers_at_once(start: Any) -> None:
    program = start(APP.replace("while app.ready:", "while True:"), "--workers", "2")
    for number in (1, 2):
        program.line("listens on", number)
    with socket.create_connection(("127.0.0.1", program.port)) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        program.line("request begun")
        program.signal()
        program.line("draining 2 processes")
        program.signal()
        assert program.wait() == -signal.SIGTERM


@pytest.mark.guarantee("G2")
def test_workers_that_cannot_start_end_the_program_with_one_paragraph(start: Any, paragraph: Any) -> None:
    program = start(APP.replace('say("started")', "raise ValueError('no database')"), "--workers", "3")
    assert program.wait() == 1
    assert "ValueError: no database" in paragraph(program)


def test_workers_are_started_from_code_as_well(start: Any) -> None:
    program = start(APP + '\n    if __name__ == "__main__":\n        app.run(port=0, workers=2)\n', command=["app.py"])
    for number in (1, 2):
        program.line("listens on", number)
    _pids(program, 2)
    assert program.stop() == 0


BROKER = """
    from microkit import App, Event, Kind, hookimpl
    from microkit.broker import broker_for
    from microkit.transport import TransportSpec

    class Consumers:
        name = "consumers"

        async def start(self, app, process):
            self.broker = broker_for(app, "memory://")
            print("consumers open")

        async def stop(self, grace):
            pass

    class Plugin:
        @hookimpl
        def microkit_transports(self):
            return [
                TransportSpec("consumers", Kind.MESSAGE, server=Consumers, automatic=True),
                TransportSpec("memory", Kind.MESSAGE, broker=lambda url: url, schemes=("memory",), in_process=True),
            ]

    app = App(plugins=[Plugin()])

    @app.on(Event("shop", "sold"))
    async def sold(payload: dict) -> None: ...
"""


@pytest.mark.feature("FX-07")
def test_a_broker_in_memory_is_refused_with_several_workers(start: Any, paragraph: Any) -> None:
    program = start(BROKER, "--workers", "2", MICROKIT_PLUGINS="")
    assert program.wait() == 1
    assert "memory://" in paragraph(program)
    alone = start(BROKER, MICROKIT_PLUGINS="")
    alone.line("consumers open")
    assert alone.stop() == 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
