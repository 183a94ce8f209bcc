"""Messages and remote procedures over one private RabbitMQ: microkit beside hand-written aio-pika and other frameworks.

    python -m tests.benchmarks.run messaging --only consume --peers microkit,faststream

Each framework publishes its messages in a process of its own, consumes them in another one, with a prefetch of 100, and
calls a procedure of a third one, 64 calls at a time; all take turns on a vhost each. The CPU time is user and system of
the process that publishes or consumes, after a warm-up; for calls it is that of caller and server together. A turn
counts if every message was handled once and none is left, or every answer was right.

What runs on asyncio does so on uvloop. Two of `aio_pika` and `microkit` differ in their acks alone: each by itself, or
one for what is done without a gap, at most 25 of them or 5 ms later (`together`, which is microkit's default).
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.benchmarks.cases import chosen
from tests.benchmarks.environment import PYTHON, ROOT, environ, version_of
from tests.benchmarks.options import Options, save
from tests.benchmarks.tables import Table, duration, ratio
from tests.rabbitmq import environments, node

_PROGRAMS = Path(__file__).with_name("messengers")
_BASE = "aio_pika"
_PATIENCE = 45.0  # seconds that one program may take
NAMES = ("consume", "publish", "rpc")
_NO_RPC = "it has no results over RabbitMQ"


@dataclass(frozen=True)
class Peer:
    """One contender.

    Attributes:
        name: for options and figures.
        distribution: whose version is named in the results.
        program: of the folder `messengers`, without `with_`; the name if empty.
        variant: told to the program.
        environment: name of the one that it runs in, unless it is that of the benchmarks.
        share: of the usual number of messages and calls.
        no_rpc: why it cannot take part in calls.
        note: what is different from others.
    """

    name: str
    distribution: str
    program: str = ""
    variant: str = ""
    environment: str = ""
    share: float = 1.0
    no_rpc: str = ""
    note: str = ""


PEERS = {
    peer.name: peer
    for peer in (
        Peer(_BASE, "aio-pika", note="by hand; ack each; publishes and replies as microkit does"),
        Peer("aio_pika_together", "aio-pika", _BASE, "together", no_rpc="as aio_pika", note="by hand; acks together"),
        Peer("microkit", "microkit-amqp", note="an application; acks together"),
        Peer("microkit_each", "microkit-amqp", "microkit", "each", no_rpc="as microkit", note="ack each"),
        Peer("faststream", "faststream", note="ack each; its handlers run one after the other"),
        Peer("nameko", "nameko", environment="nameko3", share=0.5, note="3.0 rc; 100 green threads; ack each"),
        Peer("celery", "celery", share=0.5, note="solo pool, so calls run one by one; publishes without confirmation"),
        Peer("taskiq", "taskiq-aio-pika", share=0.5, no_rpc=_NO_RPC, note="ack each"),
        Peer("dramatiq", "dramatiq", no_rpc=_NO_RPC, note="8 threads; ack each; publishes one by one, confirmed"),
        Peer(
            "micro_framework",
            "micro-framework",
            environment="ufw",
            share=0.1,
            note="100 threads; ack each; publishes one by one, confirmed",
        ),
    )
}


class TurnFailed(Exception):
    """A program did not run, or did not do what all must do."""


@dataclass
class Contender:
    """A peer with what was measured of it, by case.

    Attributes:
        figures: the turns.
        missing: why there are none.
    """

    peer: Peer
    python: Path
    figures: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def note(self, case: str, figures: dict[str, float]) -> None:
        self.figures.setdefault(case, []).append(figures)

    def cpu(self, case: str) -> list[float]:
        return [each["cpu"] for each in self.figures.get(case, [])]

    def rate(self, case: str) -> float:
        return statistics.median(each["rate"] for each in self.figures[case])


def measure(options: Options) -> dict[str, Any]:
    """Run all cases; see `save` for what is returned."""
    names = chosen(options.only, NAMES, "case")
    peers = chosen(options.peers, tuple(PEERS), "peer")
    if _BASE not in peers:
        peers.insert(0, _BASE)
    versions: dict[str, str | None] = {}
    contenders = [_contender(PEERS[name], versions) for name in peers]
    rounds, count = (1, 200) if options.quick else (5, 5000)
    with _rabbit() as rabbit:
        for turn in range(rounds):
            for each in contenders:
                if "consume" in names or "publish" in names:
                    take_turn(each, rabbit, "consume", max(100, int(count * each.peer.share)))
                if "rpc" in names:
                    take_turn(each, rabbit, "rpc", max(100, int(count * each.peer.share)))
            print(f"round {turn + 1} of {rounds}: " + ", ".join(_last(each) for each in contenders), flush=True)
    tables = [_messages(names, contenders)] if set(names) & {"consume", "publish"} else []
    tables += [_calls(contenders)] if "rpc" in names else []
    figures = {
        name: {
            each.peer.name: {
                "cpu": min(each.cpu(name)),
                "median": statistics.median(each.cpu(name)),
                "rate": each.rate(name),
            }
            for each in contenders
            if each.cpu(name)
        }
        for name in names
    }
    return {"figures": figures, "versions": versions, "tables": tables}


def _contender(peer: Peer, versions: dict[str, str | None]) -> Contender:
    if not peer.environment:
        versions[peer.distribution] = version_of(peer.distribution)
        missing = "" if versions[peer.distribution] else f"{peer.distribution} cannot be installed here"
        return Contender(peer, PYTHON, missing=dict.fromkeys(NAMES, missing) if missing else {})
    try:
        python = environments.environment(peer.environment, ROOT) / "python"
    except BaseException as exc:  # pytest's skip and fail, which are no exceptions of the usual kind
        if isinstance(exc, KeyboardInterrupt):
            raise
        return Contender(peer, PYTHON, missing=dict.fromkeys(NAMES, str(exc).splitlines()[0]))
    (wanted,) = (each for each in environments.REQUIREMENTS[peer.environment] if each.startswith(peer.distribution))
    versions[peer.distribution] = wanted.partition("==")[2]
    return Contender(peer, python)


@contextmanager
def _rabbit() -> Iterator[Any]:
    if not node.PROGRAM.exists():
        raise SystemExit("RabbitMQ is not installed (Debian: apt-get install rabbitmq-server).")
    with tempfile.TemporaryDirectory() as folder, node.private_rabbit(Path(folder)) as rabbit:
        yield rabbit


# -- turns -------------------------------------------------------------------------------------------------------------


def take_turn(contender: Contender, rabbit: Any, case: str, count: int) -> None:
    """Measure a contender once, or note why that cannot be.

    Args:
        contender: whose turn it is.
        rabbit: the broker.
        case: `consume`, which publishes as well, or `rpc`.
        count: of messages or calls.
    """
    if case == "rpc" and contender.peer.no_rpc:
        contender.missing[case] = contender.peer.no_rpc
    if case in contender.missing:
        return
    rabbit.add_vhost("bench")
    try:
        (_messages_turn if case == "consume" else _calls_turn)(contender, rabbit, count)
    except TurnFailed as exc:
        cases = ("rpc",) if case == "rpc" else ("consume", "publish")
        if not contender.cpu(cases[0]):  # it never could; else this turn does not count
            contender.missing.update(dict.fromkeys(cases, str(exc)))
        print(f"{contender.peer.name}, {exc}", flush=True)
    finally:
        rabbit.api("DELETE", "vhosts/bench")


def _messages_turn(contender: Contender, rabbit: Any, count: int) -> None:
    with _Program(contender, rabbit, "publish", count) as publisher:
        published = publisher.outcome()
    with _Program(contender, rabbit, "consume", count) as consumer:
        consumed = consumer.outcome()
    if not consumed.pop("once"):
        raise TurnFailed("a message was not handled, or handled twice")
    if left := _left(rabbit):
        raise TurnFailed(f"messages are left: {', '.join(f'{count} in {name}' for name, count in left.items())}")
    contender.note("publish", published)
    contender.note("consume", consumed)


def _calls_turn(contender: Contender, rabbit: Any, count: int) -> None:
    with _Program(contender, rabbit, "serve", count) as server:
        server.wait_for_consumer(rabbit)
        before = server.cpu_seconds()
        with _Program(contender, rabbit, "call", count) as caller:
            called = caller.outcome()
        served = (server.cpu_seconds() - before) / count * 1e9
    if not called.pop("right"):
        raise TurnFailed("an answer was wrong")
    contender.note("rpc", called | {"cpu": called["cpu"] + served})


class _Program:
    """One of the programs, in a process group of its own, since some have children.

    Args:
        contender: whose.
        rabbit: the broker.
        role: what it does.
        count: of messages or calls.
    """

    def __init__(self, contender: Contender, rabbit: Any, role: str, count: int) -> None:
        peer = contender.peer
        self._role = role
        self._output, self._errors = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        program = f"with_{peer.program or peer.name}.py"
        self._process = subprocess.Popen(
            [contender.python, program, role, rabbit.url("bench"), str(count), peer.variant],
            cwd=_PROGRAMS,
            env=environ(),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._output.close()
        self._errors.close()

    def outcome(self) -> dict[str, Any]:
        """What it tells.

        Raises:
            TurnFailed: nothing.
        """
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            raise self.failed(f"it was not done in {_PATIENCE:g} s") from None
        self._output.seek(0)
        for line in reversed(self._output.read().splitlines()):
            if line.startswith("{"):
                return json.loads(line)
        raise self.failed(f"it ended with code {self._process.returncode}")

    def wait_for_consumer(self, rabbit: Any) -> None:
        """Return when a queue has one.

        Raises:
            TurnFailed: none has.
        """
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            if any(each.get("consumers") for each in rabbit.api("GET", "queues/bench?columns=name,consumers")):
                return
            time.sleep(0.2)
        raise self.failed("it does not consume")

    def cpu_seconds(self) -> float:
        """User and system time of its threads, and of the children that it waited for."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / 100

    def failed(self, why: str) -> TurnFailed:
        """An error that says what the program said last."""
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        return TurnFailed(f"{self._role}: {why}{f' ({said[-1][:200]})' if said else ''}")


def _left(rabbit: Any) -> dict[str, int]:
    """The queues with messages, and how many, after what consumed them has ended."""
    import asyncio

    import aio_pika

    async def count() -> dict[str, int]:
        async with await aio_pika.connect(rabbit.url("bench")) as connection:
            channel = await connection.channel()
            names = [each["name"] for each in rabbit.api("GET", "queues/bench?columns=name")]
            queues = [await channel.declare_queue(name, passive=True) for name in names]
            depths = {queue.name: queue.declaration_result.message_count or 0 for queue in queues}
            return {name: depth for name, depth in depths.items() if depth}

    return asyncio.run(count())


def _last(contender: Contender) -> str:
    found = [f"{case} {duration(cpu[-1])}" for case in NAMES if (cpu := contender.cpu(case))]
    return f"{contender.peer.name} {' '.join(found)}"


# -- tables ------------------------------------------------------------------------------------------------------------


def _messages(names: list[str], contenders: list[Contender]) -> Table:
    cases = [name for name in names if name != "rpc"]
    columns = ["framework"]
    for case in cases:
        columns += [f"{case}, CPU per message", "to aio_pika", "median", "to aio_pika", "messages/s"]
    rows = [
        [each.peer.name, *(cell for case in cases for cell in _cells(each, contenders[0], case))] for each in contenders
    ]
    notes = [f"{each.peer.name}: {each.peer.note}" for each in contenders]
    return Table("Messages over RabbitMQ", columns, rows, [*notes, *_reasons(contenders, ("consume", "publish"))])


def _calls(contenders: list[Contender]) -> Table:
    columns = ["framework", "calls/s", "p50", "CPU per call", "to aio_pika", "median", "to aio_pika"]
    rows = []
    for each in contenders:
        if not each.peer.no_rpc.startswith("as "):
            cells = _cells(each, contenders[0], "rpc")
            p50 = [found["p50"] for found in each.figures.get("rpc", [])]
            rows.append([each.peer.name, cells[4], duration(statistics.median(p50)) if p50 else "-", *cells[:4]])
    return Table("Remote procedures over RabbitMQ, 64 calls at a time", columns, rows, _reasons(contenders, ("rpc",)))


def _cells(contender: Contender, base: Contender, case: str) -> list[str]:
    mine, theirs = contender.cpu(case), base.cpu(case)
    if not mine:
        return ["-"] * 5
    cells: list[str] = []
    for of in (min, statistics.median):
        cells += [duration(of(mine)), ratio(of(mine) / of(theirs)) if theirs else "-"]
    return [*cells, f"{contender.rate(case):,.0f}"]


def _reasons(contenders: list[Contender], cases: tuple[str, ...]) -> list[str]:
    return [
        f"{each.peer.name} is left out: {each.missing[cases[0]]}"
        for each in contenders
        if cases[0] in each.missing and not each.missing[cases[0]].startswith("as ")
    ]


if __name__ == "__main__":
    save("messaging", measure, sys.argv[1:])
