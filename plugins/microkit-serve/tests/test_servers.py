"""HTTP and WebSocket over uvicorn and hypercorn, as clients see them."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

TIMEOUT = 60.0
each_server = pytest.mark.parametrize(
    ("backend", "server"), [("asyncio", "uvicorn"), ("asyncio", "hypercorn"), ("trio", "hypercorn")]
)


def _request(program: Any, method: str, path: str, **options: Any) -> tuple[int, Any, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", program.port, timeout=TIMEOUT)) as connection:
        connection.request(method, path, **options)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def _raw(program: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", program.port), timeout=TIMEOUT)


@pytest.mark.feature("FC-12")
@pytest.mark.guarantee("G12")
def test_http_is_served_without_naming_the_server(served: Any) -> None:
    status, headers, body = _request(served, "GET", "/")
    assert (status, json.loads(body)) == (200, {"hello": "world"})
    assert headers["server"] is None
    assert headers["date"]


def test_head_has_the_headers_of_get_and_no_body(served: Any) -> None:
    with _raw(served) as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content-length: 17" in head.lower()
    assert body == b""


def test_a_method_that_is_not_bound_is_405_with_allow(served: Any) -> None:
    status, headers, _ = _request(served, "PATCH", "/")
    assert status == 405
    assert {each.strip() for each in headers["allow"].split(",")} >= {"GET", "HEAD"}


@pytest.mark.guarantee("G10")
def test_a_large_body_is_413_declared_or_not(served: Any) -> None:
    assert _request(served, "POST", "/echo", body=b"x" * 1000)[2] == b"x" * 1000
    assert _request(served, "POST", "/echo", body=b"x" * 1001)[0] == 413
    assert _request(served, "POST", "/echo", body=iter([b"x" * 600] * 2), encode_chunked=True)[0] == 413


@pytest.mark.guarantee("G10")
@each_server
def test_a_body_that_does_not_come_is_408(start: Any, backend: str, server: str) -> None:
    # A program of its own: bodies of other tests do come, however slow the machine is.
    program = start("served.py", backend, server, MICROKIT_APP__BODY_TIMEOUT="0.3")
    with _raw(program) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
        assert b" 408 " in connection.recv(4096).splitlines()[0]


@pytest.mark.guarantee("G5")
def test_a_client_that_leaves_a_stream_ends_its_generator_and_dependencies(served: Any) -> None:
    closed = sum(line == "generator closed" for line in served.lines)
    ended = sum(line == "transaction ended" for line in served.lines)
    with _raw(served) as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
        assert connection.recv(100)
    served.line("^generator closed", closed + 1)
    served.line("^transaction ended", ended + 1)


@pytest.mark.guarantee("G9")
def test_an_exception_is_logged_once_and_its_text_stays_inside(served: Any) -> None:
    before = sum("ValueError: secret detail" in line for line in served.lines)
    status, _, body = _request(served, "GET", "/boom")
    assert status == 500
    assert b"secret" not in body
    with pytest.raises(http.client.HTTPException):
        _request(served, "GET", "/broken-stream")
    served.line("ValueError: in the middle")
    assert _request(served, "GET", "/")[0] == 200
    text = "\n".join(served.lines)
    assert text.count("ValueError: secret detail") == before + 1
    assert text.count("ValueError: in the middle") == 1
    assert "StreamAborted" not in text


@pytest.mark.guarantee("G7")
def test_background_work_goes_on_when_the_client_leaves(served: Any) -> None:
    with _raw(served) as connection:
        connection.sendall(b"GET /background HTTP/1.1\r\nhost: a\r\n\r\n")
        assert connection.recv(4096)
    served.line("^background begun")
    assert _request(served, "GET", "/release")[0] in (200, 204)
    served.line("^background done")


@pytest.mark.feature("FC-12")
@pytest.mark.guarantee("G12")
def test_a_socket_echoes_and_its_scope_ends_with_it(served: Any) -> None:
    ended = sum(line == "transaction ended" for line in served.lines)
    with connect(f"ws://127.0.0.1:{served.port}/ws", open_timeout=TIMEOUT) as ws:
        ws.send("text")
        assert ws.recv(TIMEOUT) == "text"
        ws.send(b"bytes")
        assert ws.recv(TIMEOUT) == b"bytes"
    served.line("^transaction ended", ended + 1)


@pytest.mark.guarantee("G10")
def test_a_socket_message_over_the_bound_closes_with_1009(served: Any) -> None:
    with connect(f"ws://127.0.0.1:{served.port}/ws", open_timeout=TIMEOUT) as ws:
        ws.send("x" * 1001)
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(TIMEOUT)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009


@pytest.mark.guarantee("G11")
@each_server
def test_shutdown_closes_sockets_with_1012_and_does_not_wait_for_them(start: Any, backend: str, server: str) -> None:
    program = start("served.py", backend, server)
    with connect(f"ws://127.0.0.1:{program.port}/ws", open_timeout=TIMEOUT) as ws:
        ws.send("text")
        assert ws.recv(TIMEOUT) == "text"
        program.process.terminate()
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(TIMEOUT)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1012
    assert program.wait() == 0
    program.line("^transaction ended")


def test_a_socket_without_route_is_denied(served: Any) -> None:
    with pytest.raises(InvalidStatus) as caught, connect(f"ws://127.0.0.1:{served.port}/nowhere", open_timeout=TIMEOUT):
        pass
    assert caught.value.response.status_code == 404


@pytest.mark.feature("FC-12")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_hypercorn_speaks_http_2_over_tls(start: Any, certificate: Any, backend: str) -> None:
    import h2.connection
    import h2.events

    program = start("served.py", backend, "hypercorn", *certificate.files)
    context = certificate.client_context()
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(_raw(program), server_hostname="localhost") as connection:
        assert connection.selected_alpn_protocol() == "h2"
        h2c = h2.connection.H2Connection()
        h2c.initiate_connection()
        stream = h2c.get_next_available_stream_id()
        names = {":method": "GET", ":path": "/version", ":scheme": "https", ":authority": "localhost"}
        h2c.send_headers(stream, list(names.items()), end_stream=True)
        connection.sendall(h2c.data_to_send())
        body, ended = b"", False
        while not ended:
            for event in h2c.receive_data(connection.recv(65536)):
                if isinstance(event, h2.events.DataReceived):
                    body += event.data
                ended = ended or isinstance(event, h2.events.StreamEnded)
    assert body.strip(b'"') == b"2"
    assert program.stop() == 0


def test_uvicorn_serves_tls(start: Any, certificate: Any) -> None:
    program = start("served.py", "asyncio", "uvicorn", *certificate.files)
    connection = http.client.HTTPSConnection("localhost", program.port, context=certificate.client_context())
    with contextlib.closing(connection):
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
    assert program.stop() == 0


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_tls_files_that_cannot_be_used_are_one_paragraph(start: Any, tmp_path: Any, server: str) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing\n")
    program = start("served.py", "asyncio", server, str(bad), str(bad))
    assert program.wait() == 1
    said = [line for line in program.lines if line.startswith("microkit: ")]
    assert len(said) == 1
    assert str(bad) in said[0]
    assert "certfile" in said[0]
    assert "Traceback" not in "\n".join(program.lines)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A certificate for localhost, made for these tests."""
    import trustme

    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")

    class Certificate:
        files = (str(folder / "cert.pem"), str(folder / "key.pem"))

        def client_context(self) -> ssl.SSLContext:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            return context

    issued.cert_chain_pems[0].write_to_path(Certificate.files[0])
    issued.private_key_pem.write_to_path(Certificate.files[1])
    return Certificate()
