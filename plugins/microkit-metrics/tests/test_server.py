"""The port of its own: what it answers, what it refuses, and whose figures several workers show."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import microkit_metrics.server as server_module
from microkit import App, Request, StartupError
from microkit.host import Host
from microkit.transport import Process
from microkit_metrics import Metrics, MetricsServer
from tests.servers import free_ports

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F002-22")]


@contextlib.asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncGenerator[int]:
    """The server of an application's figures, on a free port."""
    async with app.started(), anyio.create_task_group() as group:
        process = Process(group)
        server = MetricsServer(host="127.0.0.1", port=0, **options)
        await server.start(app, process)
        (sockets,) = process.sockets.values()
        yield sockets[0].getsockname()[1]
        await server.stop(1.0)


async def ask(port: int, sent: bytes) -> bytes:
    """What comes back on a connection of its own."""
    received = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(sent)
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                received += await stream.receive()
    return received


async def test_it_answers_with_the_figures(app: App) -> None:
    async with serving(app) as port:
        await app.handle(Request("GET", "/nowhere"))
        answer = await ask(port, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
        assert f"Content-Length: {len(body)}".encode() in head
        assert b"Connection: close" in head
        assert b'route="unmatched",status="4xx"} 1.0' in body
        bare = await ask(port, b"HEAD /metrics?x=1 HTTP/1.0\r\n\r\n")
        assert bare.startswith(b"HTTP/1.1 200 OK\r\n")
        assert bare.endswith(b"\r\n\r\n")


async def test_it_speaks_openmetrics_to_whoever_asks(app: App) -> None:
    async with serving(app) as port:
        wish = b"accept: application/openmetrics-text; version=1.0.0, text/plain;q=0.5"
        answer = await ask(port, b"GET /metrics HTTP/1.1\r\n" + wish + b"\r\n\r\n")
    assert b"Content-Type: application/openmetrics-text; version=1.0.0" in answer
    assert answer.endswith(b"# EOF\n")


@pytest.mark.guarantee("G10")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"GET http://a/metrics HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"OPTIONS /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00 not for us\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"a" * 8192, 431),
    ],
)
async def test_it_refuses_everything_else(app: App, sent: bytes, status: int) -> None:
    async with serving(app) as port:
        answer = await ask(port, sent)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert (b"Allow: GET, HEAD" in answer) is (status == 405)
        assert (await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.guarantee("G10")
async def test_clients_that_send_nothing_are_sent_away(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_PATIENCE", 0.1)
    async with serving(app) as port, contextlib.AsyncExitStack() as stack:
        for _ in range(40):  # more than it serves at a time
            await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
        with anyio.fail_after(60):
            # On a slow machine somebody who does ask may be sent away as well, or cut off before the answer.
            for sent, status in ((b"GET /metrics HTTP/1.1\r\n\r\n", b"200"), (b"GET /metrics HTTP/1.1\r\n", b"408")):
                while not (answer := await ask(port, sent)).startswith(b"HTTP/1.1 " + status):
                    assert answer[:12] in (b"", b"HTTP/1.1 408")


async def test_a_client_that_leaves_harms_nobody(app: App) -> None:
    async with serving(app) as port:
        for sent in (b"", b"GET", b"GET /metrics HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(sent)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close by a reset
        assert (await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.guarantee("G9")
async def test_a_collector_that_fails_is_500_without_its_text(app: App, caplog: pytest.LogCaptureFixture) -> None:
    from prometheus_client.registry import Collector

    class Broken(Collector):
        def collect(self) -> Any:
            raise LookupError("hunter2")

        def describe(self) -> list[Any]:
            return []

    Metrics.of(app).registry.register(Broken())
    async with serving(app) as port:
        answer = await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500")
    assert b"hunter2" not in answer
    assert "hunter2" in caplog.text


async def test_a_port_that_is_taken_is_a_clear_error(app: App) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with app.started(), anyio.create_task_group() as group:
            with pytest.raises(StartupError, match=rf"metrics ingress cannot listen on 127.0.0.1:{port}"):
                await MetricsServer(host="127.0.0.1", port=port).start(app, Process(group))


async def test_without_a_port_it_says_what_to_set(app: App) -> None:
    async with app.started(), anyio.create_task_group() as group:
        with pytest.raises(StartupError, match="MICROKIT_METRICS__PORT"):
            await MetricsServer().start(app, Process(group))


async def test_the_host_opens_it_if_a_port_is_set_and_closes_it(
    make_app: Callable[..., App], anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "microkit.metrics")
    app = make_app(port=0, path=None)
    host = Host(app, backend=anyio_backend)
    async with anyio.create_task_group() as group:
        group.start_soon(host.serve)
        await host.opened.wait()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", caplog.text)
        assert found is not None
        assert (await ask(int(found[1]), b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")
        host.stop()
    with pytest.raises(OSError):
        await anyio.connect_tcp("127.0.0.1", int(found[1]))


async def test_without_a_port_the_host_does_not_open_it(make_app: Callable[..., App], anyio_backend: str) -> None:
    from microkit import ConfigurationError

    app = make_app()
    with pytest.raises(ConfigurationError, match="nothing to serve"):
        await Host(app, backend=anyio_backend).serve()


# -- several processes -------------------------------------------------------------------------------------------------

_SERVED = """
from microkit import App
app = App(settings={"metrics": {"port": PORT, "path": "/figures"}})

@app.get("/")
async def hello() -> str:
    return "hello"
"""


@pytest.mark.feature("F002-22")
@pytest.mark.parametrize("free", [False, True], ids=["next to each other", "any free ones"])
def test_each_worker_has_a_port_and_figures_of_its_own(tmp_path: Path, free: bool) -> None:
    wanted = 0 if free else free_ports(2)[0]
    (tmp_path / "served.py").write_text(_SERVED.replace("PORT", str(wanted)))
    command = [sys.executable, "-m", "microkit", "run", "served:app", "--workers", "2", "--only", "metrics"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MICROKIT_")}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environ | {"PYTHONUNBUFFERED": "1"}, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        ports: list[int] = []
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            ports += [int(each) for each in re.findall(r"metrics are at http://127\.0\.0\.1:(\d+)/", line)]
            if len(ports) == 2:
                break
        assert len(set(ports)) == 2, "".join(lines)
        assert free or sorted(ports) == [wanted, wanted + 1]
        shown = [
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read() for port in sorted(ports)
        ]
        processes = [set(re.findall(rb'service_info{.*process="(\d)"', text)) for text in shown]
        # Of two free ports either process may have the lower one.
        assert (sorted(processes, key=min) if free else processes) == [{b"0"}, {b"1"}]
        assert "/figures shows the figures of whichever of the 2 processes answers" in "".join(lines)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
