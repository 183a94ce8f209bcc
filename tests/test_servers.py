"""The ground that tests with real servers stand on."""

import socket
import sys
from pathlib import Path

import pytest

from tests.servers import free_ports, missing, private_server

ECHO = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("listening", flush=True)
    while True:
        peer, _ = server.accept()
        with peer:
            peer.sendall(peer.recv(100))
"""


def test_a_private_server_listens_and_is_gone_afterwards(tmp_path: Path) -> None:
    with private_server(lambda port, folder: [sys.executable, "-c", ECHO, str(port)], tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
        assert server.log == "listening\n"
    assert server.process.returncode is not None
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port))


def test_a_server_that_cannot_start_tells_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)code 3.*no such data"):
        with private_server(lambda port, folder: [sys.executable, "-c", "print('no such data'); exit(3)"], tmp_path):
            pass


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(5))) == 5


def test_what_is_missing_skips_here_and_fails_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="the broker is missing: install it"):
        missing("the broker", "install it")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="the broker is missing"):
        missing("the broker", "install it")
