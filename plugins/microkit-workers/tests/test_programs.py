"""Services as real processes: signals, kills, and what is left afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from microkit.broker import DeadLetter, OutgoingMessage
from microkit.cli import main
from microkit_workers.brokers import SqliteBroker

PATIENCE = 60.0
WORKERS = 10  # of an application without contexts


class Program:
    """A running service with a log that its handlers write."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder = folder
        environ = {key: value for key, value in os.environ.items() if not key.startswith("MICROKIT_")}
        with (folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-u", *command],
                cwd=folder,
                env={**environ, "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def log(self) -> list[list[str]]:
        path = self.folder / "log"
        # The program goes on writing: what follows the last newline may be half a line.
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return [line.split() for line in whole.splitlines()]

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def wait_for(self, condition: Callable[[list[list[str]]], Any]) -> Any:
        end = time.monotonic() + PATIENCE
        while not (found := condition(self.log)):
            assert time.monotonic() < end, self.output
            assert self.process.poll() is None, self.output
            time.sleep(0.02)
        return found

    def consuming(self, times: int = 1) -> None:
        """Wait until it has told so often that it consumes a queue."""
        self.wait_for(lambda _: self.output.count("consuming") >= times)

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


Start = Callable[..., Program]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def start(tmp_path: Path, backend: str) -> Iterator[Start]:
    programs: list[Program] = []

    def begin(source: str = "", *command: str) -> Program:
        if source:
            (tmp_path / "app.py").write_text(textwrap.dedent(HEADER) + textwrap.dedent(source))
        run = ("-m", "microkit", "run", "app:app", "--backend", backend)
        programs.append(Program(tmp_path, list(command if "main.py" in command else (*run, *command))))
        return programs[-1]

    yield begin
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait()


HEADER = """
from microkit import *
from microkit_workers import *
import os, time, signal

def note(*words):
    with open("log", "a") as file:
        print(*words, file=file)

SETTINGS = {"workers": {"broker": "sqlite:///broker.db"}, "app": {"shutdown_timeout": 1, "teardown_timeout": 1}}
app = App(name="svc", settings=SETTINGS)
"""


async def _with_broker(folder: Path, use: Callable[[SqliteBroker], Any]) -> Any:
    broker = SqliteBroker.from_url(f"sqlite:///{folder}/broker.db")
    await broker.connect()
    try:
        return await use(broker)
    finally:
        await broker.close()


def publish(folder: Path, *bodies: str, event: str = "b") -> None:
    async def use(broker: SqliteBroker) -> None:
        for body in bodies:
            await broker.publish("a", event, OutgoingMessage(body.encode(), message_id=body))

    anyio.run(_with_broker, folder, use)


def dead(folder: Path) -> list[DeadLetter]:
    async def use(broker: SqliteBroker) -> list[DeadLetter]:
        return [each async for each in broker.dead_letters()]

    return anyio.run(_with_broker, folder, use)


HANGING = """
context = RunnerContext([], "thread", 1)

@context.on(Event("a", "b"))
def handle(payload: int):
    note("begin", os.getpid(), payload)
    if not os.path.exists("quick"):
        time.sleep(1000)
    note("end", os.getpid(), payload)

app.include(context)

@app.on_startup
def up():
    note("up", os.getpid())
"""


@pytest.mark.feature("F002-50")
@pytest.mark.feature("FX-09")
@pytest.mark.guarantee("G8")
@pytest.mark.guarantee("G11")
def test_a_handler_that_hangs_at_sigterm_ends_with_its_process_and_its_message_comes_again(
    start: Start, tmp_path: Path
) -> None:
    program = start(HANGING)
    program.consuming()
    publish(tmp_path, "1")
    program.wait_for(lambda log: len(log) == 2)
    assert program.stop() == 0
    (tmp_path / "quick").touch()
    again = start()
    again.wait_for(lambda log: log[-1][0] == "end")
    assert again.stop() == 0
    assert [line[0] for line in again.log] == ["up", "begin", "up", "begin", "end"]


@pytest.mark.feature("FX-08")
@pytest.mark.feature("FX-09")
@pytest.mark.guarantee("G8")
def test_what_ran_when_the_service_was_killed_comes_again(start: Start, tmp_path: Path) -> None:
    workers = 'workers = {"broker": "sqlite:///broker.db?lease=1"}'
    program = start(f'{workers}\napp = App(name="svc", settings={{**SETTINGS, "workers": workers}})\n{HANGING}')
    program.consuming()
    publish(tmp_path, "1")
    program.wait_for(lambda log: len(log) == 2)
    program.process.kill()
    program.wait()
    (tmp_path / "quick").touch()
    again = start()
    again.wait_for(lambda log: log[-1][0] == "end")
    assert again.stop() == 0


CHILDREN = """
context = RunnerContext([], "process", 1)

@context.on(Event("a", "b"))
def handle(payload: int):
    note("begin", os.getpid(), payload)
    time.sleep(1000)

app.include(context)
"""


@pytest.mark.feature("F002-18")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_children_end_with_their_parent(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    program = start(CHILDREN)
    program.consuming()
    publish(tmp_path, "1")
    child = int(program.wait_for(lambda log: log)[0][1])
    program.process.send_signal(number)
    assert program.wait() == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(child, 0)
            if "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]:
                break  # nobody reaps orphans here
            time.sleep(0.05)
            continue
        break
    else:
        pytest.fail("the child outlives its parent")
    assert dead(tmp_path) == []


@pytest.mark.feature("FX-10")
def test_a_message_that_keeps_killing_the_whole_service_is_isolated(start: Start, tmp_path: Path) -> None:
    source = """
    workers = {"broker": "sqlite:///broker.db?lease=1&delivery_limit=2"}
    app = App(name="svc", settings={**SETTINGS, "workers": workers})

    @app.on(Event("a", "b"))
    async def handle(payload: int):
        note("begin", payload)
        if payload == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        note("end", payload)
    """
    program = start(source)
    program.consuming()
    publish(tmp_path, "13")
    end = time.monotonic() + PATIENCE
    while not dead(tmp_path):
        assert time.monotonic() < end, program.output
        if program.process.poll() is not None:
            program = start()
        time.sleep(0.1)
    publish(tmp_path, "1")
    program.wait_for(lambda log: ["end", "1"] in log)
    (letter,) = dead(tmp_path)
    assert letter.message.message_id == "13"
    assert letter.reason
    assert 2 <= program.log.count(["begin", "13"]) <= 3
    assert program.stop() == 0


@pytest.mark.feature("F002-01")
@pytest.mark.feature("F002-15")
@pytest.mark.parametrize("mode", ["thread", "process"])
def test_a_runner_runs_until_it_is_told_to_stop(start: Start, tmp_path: Path, backend: str, mode: str) -> None:
    (tmp_path / "main.py").write_text(
        textwrap.dedent(
            f"""
            import os
            from microkit import inject
            from microkit_workers import *

            def note(*words):
                with open("log", "a") as file:
                    print(*words, file=file)

            @inject(producer=Producer())
            def task(payload, producer):
                note("task", os.getpid(), payload)
                producer("done", payload)

            def done(payload):
                note("done", os.getpid(), payload)

            config = {{"AMQP_URI": "sqlite:///broker.db", "SERVICE_NAME": "svc", "WORKER_MODE": {mode!r}}}
            contexts = [RunnerContext(
                [Route(task, EventListener("a", "b")), Route(done, EventListener("svc", "done"))], max_workers=2
            )]

            if __name__ == "__main__":
                Runner(contexts, config).start(backend={backend!r})
                note("stopped")
            """
        )
    )
    program = start("", "main.py")
    program.consuming()
    publish(tmp_path, "5")
    log = program.wait_for(lambda log: log if len(log) == 2 else None)
    assert program.stop() == 0, program.output
    assert [(line[0], line[2]) for line in log] == [("task", "5"), ("done", "5")]
    assert (log[0][1] == str(program.process.pid)) is (mode == "thread")
    assert program.log[-1] == ["stopped"]
    assert "Traceback" not in program.output


def test_a_second_signal_ends_the_service_at_once(start: Start, tmp_path: Path) -> None:
    program = start('app = App(name="svc", settings={**SETTINGS, "app": {"shutdown_timeout": 1000}})\n' + HANGING)
    program.consuming()
    publish(tmp_path, "1")
    program.wait_for(lambda log: len(log) == 2)
    program.process.send_signal(signal.SIGTERM)
    program.wait_for(lambda _: "a second signal ends the process" in program.output)
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM


@pytest.mark.feature("FX-07")
@pytest.mark.feature("FX-08")
def test_several_processes_share_the_messages(start: Start, tmp_path: Path) -> None:
    source = """
    @app.on(Event("a", "b"))
    async def handle(payload: int):
        import anyio
        note("begin", os.getpid(), payload)
        while not os.path.exists("go"):  # that one process is quick does not leave the other without any
            await anyio.sleep(0.05)
        note("end", os.getpid(), payload)
    """
    program = start(source, "--workers", "2")
    program.consuming(2)
    publish(tmp_path, *map(str, range(60)))
    program.wait_for(lambda log: len({line[1] for line in log}) == 2)
    (tmp_path / "go").touch()
    log = program.wait_for(lambda log: done if len(done := [line for line in log if line[0] == "end"]) >= 60 else None)
    assert sorted(int(line[2]) for line in log) == list(range(60))
    assert program.stop() == 0


@pytest.mark.feature("FX-11")
def test_dead_letters_are_listed_and_put_back_by_command(start: Start, tmp_path: Path) -> None:
    source = """
    context = RunnerContext()

    @context.on(Event("a", "b"), retry=Backoff(exceptions=()))
    async def handle(payload: int):
        if not os.path.exists("mended"):
            raise KeyError("secret")
        note("end", payload)

    app.include(context)
    """

    def command(*arguments: str, of: str = "app:app") -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "microkit", "dead-letters", of, *arguments],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    program = start(source)
    program.consuming()
    for number in (1, 2):  # one after the other: what runs side by side dies in any order
        publish(tmp_path, str(number))
        end = time.monotonic() + PATIENCE
        while len(dead(tmp_path)) < number and time.monotonic() < end:
            time.sleep(0.05)
    letters = command("--json")
    assert [(each["queue"], each["reason"], each["body"]) for each in letters] == [
        ("a.b__svc.handle", "KeyError: INTERNAL after attempt 1", body) for body in ("1", "2")
    ]
    (tmp_path / "mended").touch()
    assert command("--redrive", "--id", letters[1]["id"]) == "1 put back\n"
    program.wait_for(lambda log: ["end", "2"] in log)
    listed = command(of=f"sqlite:///{tmp_path}/broker.db")
    assert listed.splitlines()[0].endswith(f"a.b__svc.handle  {letters[0]['id']}  attempts 1  {letters[0]['reason']}")
    assert listed.splitlines()[1:] == ["1 dead letters"]
    assert program.stop() == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("memory://", "are in the memory of the service"),
        ("sqlite:///nowhere.db", "nowhere.db'. Correct the path in the URL"),
        ("nothing://x", "No active plugin brings a broker for nothing://"),
        ("nowhere:app", "There is no module 'nowhere'"),
    ],
)
def test_dead_letters_that_cannot_be_read_are_one_paragraph(
    target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["dead-letters", target]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.feature("FX-09")
@pytest.mark.guarantee("G8")
def test_a_thousand_messages_wait_while_the_disk_is_full(start: Start, tmp_path: Path) -> None:
    program = start("""
        import anyio

        app = App(name="svc", settings={**SETTINGS, "workers": {"broker": "sqlite:///broker.db?lease=5"}})
        done = 0

        @app.on(Event("a", "b"))
        async def handle(payload: int):
            global done
            done += 1
            note("done", payload)
            while done >= 300 and not os.path.exists("go"):
                await anyio.sleep(0.05)
    """)
    program.consuming()
    publish(tmp_path, *map(str, range(1000)))
    program.wait_for(lambda log: len(log) >= 300)
    # As if the disk were full: no file may grow beyond that, which is far more than the log needs.
    before = resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (65_536, resource.RLIM_INFINITY))
    (tmp_path / "go").touch()
    program.wait_for(lambda _: "the message broker cannot work" in program.output)
    held = len(program.log)
    time.sleep(5.5)  # longer than the lease: what is in its hands comes again
    assert len(program.log) - held <= WORKERS
    resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, before)
    program.wait_for(lambda log: len({payload for _, payload in log}) == 1000)
    assert program.stop() == 0
    assert len(program.log) - 1000 <= WORKERS
    assert dead(tmp_path) == []
