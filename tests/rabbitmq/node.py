"""A private RabbitMQ: a node, its ports and its epmd of its own, ended by its own pid."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers import free_ports, missing

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the wrapper in sbin would switch the user
_CONFIG = """
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
loopback_users = none
disk_free_limit.absolute = 10MB
collect_statistics_interval = 500
"""


class Rabbit:
    """One node.

    Args:
        folder: an empty directory.

    Attributes:
        over: virtual hosts that are not needed any more, to be deleted when they have been left alone for a while.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.over: deque[str] = deque()
        self.port, self.management_port, self._dist, self._epmd = free_ports(4)
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("mnesia", "log", "home"):
            (folder / name).mkdir()
        (folder / "enabled_plugins").write_text("[rabbitmq_management].")
        config = _CONFIG.format(amqp=self.port, management=self.management_port)
        (folder / "rabbitmq.conf").write_text(config)

    @property
    def management(self) -> str:
        return f"http://guest:guest@127.0.0.1:{self.management_port}"

    def url(self, vhost: str, port: int = 0) -> str:
        return f"amqp://guest:guest@127.0.0.1:{port or self.port}/{vhost}"

    @property
    def _environ(self) -> dict[str, str]:
        names = {
            "HOME": "home",
            "RABBITMQ_MNESIA_BASE": "mnesia",
            "RABBITMQ_LOG_BASE": "log",
            "RABBITMQ_PID_FILE": "pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "enabled_plugins",
            "RABBITMQ_CONFIG_FILE": "rabbitmq",
        }
        return {
            **os.environ,
            **{name: str(self.folder / value) for name, value in names.items()},
            "RABBITMQ_NODENAME": f"mk{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def start(self, patience: float = 120.0) -> None:
        """Start, and wait until it accepts connections."""
        (self.folder / "pid").unlink(missing_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(PROGRAM)],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + patience
        for port in (self.port, self.management_port):
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > end or self._process.poll() is not None:
                        text = (self.folder / "server.log").read_text(errors="replace")
                        raise RuntimeError(f"RabbitMQ did not start:\n{text[-3000:]}") from None
                    time.sleep(0.1)

    def stop(self, patience: float = 60.0, *, kill: bool = False) -> None:
        """End it by its own pid."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:  # its id may be another's by now
            return
        pid_file = self.folder / "pid"
        if pid_file.exists() and (text := pid_file.read_text().strip()):
            try:
                os.kill(int(text), signal.SIGKILL if kill else signal.SIGTERM)
            except ProcessLookupError:
                pass
        else:
            process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def end(self) -> None:
        """Stop it, and its epmd, for good."""
        self.stop()
        if epmd := shutil.which("epmd"):
            subprocess.run([epmd, "-kill"], env=self._environ, capture_output=True, check=False, timeout=60)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the management API."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.management_port}/api/{path}", method=method)
        request.add_header("Authorization", f"Basic {base64.b64encode(b'guest:guest').decode()}")
        data = None if body is None else json.dumps(body).encode()
        if data:
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, data, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def add_vhost(self, name: str) -> None:
        self.api("PUT", f"vhosts/{name}")
        self.api("PUT", f"permissions/{name}/guest", {"configure": ".*", "write": ".*", "read": ".*"})

    def queue(self, vhost: str, name: str) -> dict[str, Any]:
        return self.api("GET", f"queues/{vhost}/{name}")

    def until_consumed(self, vhost: str, names: set[str], patience: float = 120.0) -> None:
        """Wait until queues have consumers."""
        end = time.monotonic() + patience
        while True:
            consumed = set(self.ctl("list_consumers", "--quiet", "--vhost", vhost, "queue_name").split())
            if names <= consumed:
                return
            assert time.monotonic() < end, (names, consumed)

    def until_left(self, vhost: str, name: str, count: int, patience: float = 120.0) -> None:
        """Wait until a quorum queue has so many messages, unanswered ones included.

        Its machine is asked itself: what the management API tells of it is up to ten seconds old.
        """
        find = f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{name}">>))'
        ask = "{ok, {_, Count}, _} = ra:leader_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1)"
        end = time.monotonic() + patience
        while (found := self.ctl("eval", f"{find}, {ask}, Count.").strip()) != str(count):
            assert time.monotonic() < end, (name, found)

    def write_declarations(self) -> None:
        """Have it write to its disk what it knows of queues, which it does only some seconds after their declaration:
        by Mnesia that they exist, by tables of the raft library which of them to start."""
        self.ctl("eval", "mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()].")

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl."""
        done = subprocess.run(
            ["/usr/lib/rabbitmq/bin/rabbitmqctl", *arguments],
            env=self._environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return done.stdout


@contextmanager
def private_rabbit(folder: Path) -> Generator[Rabbit]:
    """A running node, gone afterwards."""
    if not PROGRAM.exists():
        missing("rabbitmq-server", "install it by the system's packages, or run `make test` as root")
    rabbit = Rabbit(folder)
    try:
        rabbit.start()
        yield rabbit
    finally:
        rabbit.end()
