"""The application under the servers' own programs: plain ASGI, with and without lifespan."""

from __future__ import annotations

import contextlib
import http.client
import signal
from typing import Any

import pytest

PROGRAMS = {
    "uvicorn": ("-m", "uvicorn", "served:app", "--port", "0"),
    "hypercorn": ("-m", "hypercorn", "served:app", "--bind", "127.0.0.1:0"),
    "hypercorn-trio": ("-m", "hypercorn", "served:app", "--bind", "127.0.0.1:0", "--worker-class", "trio"),
}


def _get(program: Any) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", program.port, timeout=60)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().status


@pytest.mark.feature("FC-12")
@pytest.mark.feature("F001-33")
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_server_s_lifespan_starts_and_stops_the_application(start: Any, name: str) -> None:
    program = start(*PROGRAMS[name])
    assert _get(program) == 200
    program.stop()
    assert program.lines.count("started") == program.lines.count("shut down") == 1


@pytest.mark.feature("F001-34")
@pytest.mark.guarantee("G2")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_start_up_failure_ends_the_server_with_a_message(start: Any, name: str) -> None:
    program = start(*PROGRAMS[name], FAIL="1")
    code = program.wait()
    assert code == 3 or name != "uvicorn"  # hypercorn's own program ends with 0
    text = "\n".join(program.lines)
    assert "no database" in text
    assert "listens on" not in text


@pytest.mark.feature("F001-34")
@pytest.mark.guarantee("G1")
def test_without_lifespan_the_first_call_starts_and_the_end_of_the_loop_stops(start: Any) -> None:
    program = start(*PROGRAMS["uvicorn"], "--lifespan", "off")
    assert program.port
    assert "started" not in program.lines
    assert _get(program) == 200
    assert _get(program) == 200
    program.process.send_signal(signal.SIGINT)  # SIGTERM ends uvicorn's own program before its loop has ended
    program.wait()
    assert program.lines.count("started") == program.lines.count("shut down") == 1
