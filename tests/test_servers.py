"""The ground that tests with real servers stand on."""

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import install_servers
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


def test_free_ports_are_next_to_each_other_and_given_once() -> None:
    ports = free_ports(5)
    assert ports == list(range(ports[0], ports[0] + 5))
    given = {port for _ in range(50) for port in free_ports(2)}
    assert len(given) == 100
    assert not given & set(ports)
    with socket.create_server(("127.0.0.1", ports[0])):  # free for a server all the same
        pass


def test_what_is_missing_skips_here_and_fails_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="the broker is missing: install it"):
        missing("the broker", "install it")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="the broker is missing"):
        missing("the broker", "install it")


def test_servers_that_are_there_are_not_installed_again(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(install_servers, "SERVERS", {"sh": "dash"})
    monkeypatch.setattr(install_servers, "_apt", lambda *arguments: pytest.fail("installs"))
    assert install_servers.main() == 0
    assert capsys.readouterr().out == ""


def test_who_is_not_root_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(install_servers, "SERVERS", {"no-such-server": "its-package", "sh": "dash"})
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(install_servers, "_apt", lambda *arguments: pytest.fail("installs"))
    assert install_servers.main() == 0
    assert capsys.readouterr().out.endswith("installed: its-package\n")


def test_a_failed_installation_is_told_and_leaves_no_policy(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    policy = tmp_path / "policy"
    seen: list[bool] = []
    monkeypatch.setattr(install_servers, "SERVERS", {"no-such-server": "its-package"})
    monkeypatch.setattr(install_servers, "_POLICY", policy)
    monkeypatch.setattr(install_servers, "_apt", lambda *arguments: seen.append(policy.exists()))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name, path=None: name if name == "apt-get" else None)
    assert install_servers.main() == 1
    assert seen == [True]
    assert not policy.exists()
    assert "its-package could not be installed" in capsys.readouterr().out
