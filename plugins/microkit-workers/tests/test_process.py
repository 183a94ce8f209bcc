"""Child processes: what runs in them, what a crash of one costs, how they are replaced."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from microkit import (
    App,
    BackgroundTasks,
    ConfigurationError,
    Event,
    Message,
    PublicError,
    Request,
    StartupError,
    StatusCode,
)
from microkit.errors import alone
from microkit_workers import AsyncBackOff, EventListener, Route, RPCListener, Runner, RunnerContext, WorkerCrashed
from microkit_workers.context import pools_of
from microkit_workers.process.errors import remote_failure

Load = Callable[[str], App]

HEADER = """
from microkit import *
from microkit_workers import *
import os, signal, sys, time
from pathlib import Path
from typing import Annotated

LOG = Path({log!r})

def note(*words):
    with LOG.open("a") as file:
        print(*words, file=file)

app = App(name="svc", settings={{"workers": {{"broker": {url!r}}}, "app": {{"shutdown_timeout": 10}}}})
"""


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], list[str]]:
    """The lines that handlers wrote, in whatever process."""
    path = tmp_path / "log"
    return lambda: path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def load(tmp_path: Path, url: str, request: pytest.FixtureRequest) -> Iterator[Load]:
    """Write an application into a module of its own, and import it."""
    name = f"process_app_{os.getpid()}_{abs(hash(request.node.name))}"
    sys.path.insert(0, str(tmp_path))

    def make(source: str) -> App:
        header = HEADER.format(log=str(tmp_path / "log"), url=url)
        (tmp_path / f"{name}.py").write_text(header + textwrap.dedent(source))
        sys.modules.pop(name, None)
        return __import__(name).app

    yield make
    sys.path.remove(str(tmp_path))
    sys.modules.pop(name, None)


@pytest.fixture
def url() -> str:
    return "memory://"


@pytest.mark.anyio
@pytest.mark.feature("F002-15")
@pytest.mark.feature("F002-33")
@pytest.mark.feature("F002-40")
async def test_handlers_run_in_child_processes_with_their_own_dependencies(
    load: Load, serving: Any, until: Any, log: Callable[[], list[str]]
) -> None:
    app = load(
        """
        async def session():
            note("open", os.getpid())
            yield "session"
            note("commit", os.getpid())

        class Noting(Dependency):
            def after_call(self, worker, result, exc):
                note("after", result)

        context = RunnerContext([], "process", 1)

        @context.on(Event("shop", "order"), retry=Backoff(1, 0.01))
        @inject(producer=Producer(), svc=RPCProxyProvider("svc"), retry=BackOffData(), noting=Noting())
        def handle(
            payload: dict, held: Annotated[str, Depends(session)], producer, svc, retry, noting, message: Message
        ):
            note("run", os.getpid(), payload["n"], held, message.name, retry.number)
            if retry.number == 1:
                raise KeyError("secret")
            note("rpc", svc.add(1, 2), svc.targets)
            producer("done", {"pid": os.getpid()})
            return "result"

        @context.on(Event("shop", "async"))
        async def handle_async(payload: int, config: Annotated[Configuration, Depends(Configuration)]):
            note("async", os.getpid(), payload, config["SERVICE_NAME"])

        app.include(context)

        def add(a, b):
            note("add", os.getpid())
            return a + b

        @app.on(Event("svc", "done"))
        def done(payload: dict):
            note("done", os.getpid(), payload["pid"])

        app.include(RunnerContext([Route(add, RPCListener())], "thread"))
        """
    )
    async with serving(app) as service:
        await service.publish("shop", "order", {"n": 1}, message_id="m1")
        await service.publish("shop", "async", 7)
        await until(lambda: any(line.startswith("done") for line in log()) and any("async" in each for each in log()))
    words = [line.split() for line in log()]
    child = next(line[1] for line in words if line[0] == "run")
    assert child != str(os.getpid())
    own = [line for line in words if line[0] not in ("async", "add", "done")]
    assert own[:2] == [["open", child], ["run", child, "1", "session", "order", "1"]]
    assert own[2] == ["after", "None"]  # rolled back: no commit
    assert own[3:5] == [["open", child], ["run", child, "1", "session", "order", "2"]]
    assert own[5:] == [["rpc", "3", "['add']"], ["after", "result"], ["commit", child]]
    assert ["add", str(os.getpid())] in words
    assert ["done", str(os.getpid()), child] in words
    assert ["async", child, "7", "svc"] in words


@pytest.mark.anyio
@pytest.mark.feature("F002-18")
@pytest.mark.feature("FX-10")
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("os._exit(3)", "ended with exit code 3"),
        ("os.abort()", "was killed by SIGABRT"),
    ],
)
async def test_a_crash_costs_one_attempt_of_the_message_that_ran(
    load: Load, serving: Any, until: Any, log: Callable[[], list[str]], how: str, text: str
) -> None:
    app = load(
        f"""
        context = RunnerContext([], "process", 1)

        @context.on(Event("shop", "order"), retry=Backoff(1, 0.01))
        def handle(payload: str):
            note("run", payload)
            if payload == "poison":
                {how}

        app.include(context)
        """
    )
    async with serving(app) as service:
        for payload in ("first", "poison", "last"):
            await service.publish("shop", "order", payload, message_id=payload)
        letter = await service.dead_one()
        await until(lambda: "run last" in log())
        await service.drained("shop.order__svc.handle")
    assert sorted(log()) == ["run first", "run last", "run poison", "run poison"]
    assert (letter.message.message_id, letter.attempts) == ("poison", 2)
    assert letter.reason.startswith("retries exhausted: WorkerCrashed: INTERNAL after attempt 2")
    assert letter.reason.endswith(f"The process that ran message poison {text}.")


@pytest.mark.anyio
@pytest.mark.feature("F002-18")
async def test_a_child_that_is_killed_from_outside_while_it_runs(
    load: Load, serving: Any, until: Any, log: Callable[[], list[str]]
) -> None:
    app = load(
        """
        context = RunnerContext([], "process", 1)

        @context.on(Event("shop", "order"), retry=Backoff(5, 0.01))
        def handle(payload: int, attempt: Attempt):
            note("run", os.getpid(), attempt.number, attempt.last_error)
            if attempt.number == 1:
                time.sleep(60)

        app.include(context)
        """
    )
    async with serving(app) as service:
        await service.publish("shop", "order", 1, message_id="m1")
        await until(lambda: len(log()) == 1)
        os.kill(int(log()[0].split()[1]), signal.SIGKILL)
        await until(lambda: len(log()) == 2)
        await service.drained("shop.order__svc.handle")
        assert await service.dead() == []
    first, second = (line.split(maxsplit=3) for line in log())
    assert first[1] != second[1]
    assert second[2] == "2"
    assert "WorkerCrashed" in second[3]
    assert "SIGKILL" in second[3]


@pytest.mark.anyio
async def test_a_child_that_dies_while_it_is_idle_is_nobodys_fault(
    load: Load, serving: Any, until: Any, log: Callable[[], list[str]]
) -> None:
    app = load(
        """
        context = RunnerContext([], "process", 1)

        @context.on(Event("shop", "order"))
        def handle(payload: int, attempt: Attempt):
            note("run", payload, attempt.number)

        app.include(context)
        """
    )
    async with serving(app) as service:
        processes = pools_of(app).all()[0].processes
        (pid,) = processes.pids
        os.kill(pid, signal.SIGKILL)
        await service.publish("shop", "order", 1)
        await until(lambda: log())
    assert log() == ["run 1 1"]


@pytest.mark.anyio
@pytest.mark.feature("F002-17")
async def test_children_are_recycled_and_no_task_is_lost(
    load: Load, serving: Any, until: Any, log: Callable[[], list[str]]
) -> None:
    app = load(
        """
        context = RunnerContext([], "process", 2, max_tasks_per_child=3)

        @context.on(Event("shop", "order"))
        def handle(payload: int):
            note(os.getpid(), payload)

        app.include(context)
        """
    )
    async with serving(app) as service:
        for number in range(14):
            await service.publish("shop", "order", number)
        await until(lambda: len(log()) == 14, 30)
        await service.drained("shop.order__svc.handle")
        assert len(pools_of(app).all()[0].processes.pids) <= 2
    words = [line.split() for line in log()]
    assert sorted(int(number) for _, number in words) == list(range(14))
    tasks = {pid: sum(pid == each for each, _ in words) for pid, _ in words}
    assert len(tasks) >= 5
    assert max(tasks.values()) == 3


@pytest.mark.anyio
@pytest.mark.feature("F002-38")
@pytest.mark.feature("F002-45")
async def test_errors_of_a_child_are_typed_and_their_text_stays_there(
    load: Load, serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = load(
        """
        class Mine(ConnectionError):
            pass

        context = RunnerContext([], "process", 1)

        @context.on(Procedure("svc.fail"))
        def fail(how: str):
            if how == "public":
                raise NotFound("no tea", details={"tea": 0})
            raise Mine("secret")

        @context.on(Event("shop", "order"), retry=Backoff(1, 0.01, exceptions=[ConnectionError]))
        def listed(payload):
            raise Mine("secret")

        @context.on(Event("shop", "order"), retry=Backoff(1, 0.01, exceptions=[LookupError]))
        def unlisted(payload):
            raise Mine("secret")

        @context.on(Event("shop", "order"), retry=Backoff(5, 0.01, exceptions=[Exception]))
        def malformed(payload: int):
            pass

        app.include(context)
        """
    )
    async with serving(app) as service:
        with pytest.raises(PublicError) as caught:
            await app.call("svc.fail", "public")
        assert (type(caught.value).__name__, caught.value.status) == ("NotFound", StatusCode.NOT_FOUND)
        assert (caught.value.detail, caught.value.details) == ("no tea", {"tea": 0})
        with pytest.raises(PublicError) as caught:
            await app.call("svc.fail", "other")
        assert caught.value.status is StatusCode.INTERNAL
        with pytest.raises(PublicError) as caught:
            await app.call("svc.fail", 1)
        assert caught.value.status is StatusCode.INVALID_ARGUMENT
        await service.publish("shop", "order", "x")
        with anyio.fail_after(20):
            while len(letters := await service.dead()) < 3:  # noqa: ASYNC110
                await anyio.sleep(0.01)
    reasons = {letter.queue.rpartition(".")[2]: (letter.attempts, letter.reason) for letter in letters}
    assert reasons["listed"] == (2, "retries exhausted: Mine: INTERNAL after attempt 2")
    assert reasons["unlisted"] == (1, "Mine: INTERNAL after attempt 1")
    assert reasons["malformed"][0] == 1
    assert "secret" not in caplog.text


@pytest.mark.anyio
async def test_a_deadline_really_ends_a_call_in_a_child(
    load: Load, serving: Any, until: Any, log: Callable[[], list[str]]
) -> None:
    app = load(
        """
        context = RunnerContext([], "process", 1)

        @context.on(Event("shop", "order"), timeout=0.3, retry=Backoff(1, 0.01))
        def handle(payload: int, attempt: Attempt):
            note("begin", os.getpid())
            if attempt.number == 1:
                time.sleep(60)
            note("end", attempt.last_error)

        app.include(context)
        """
    )
    async with serving(app) as service:
        await service.publish("shop", "order", 1)
        await until(lambda: len(log()) == 3, 20)
        with pytest.raises(ProcessLookupError):
            os.kill(int(log()[0].split()[1]), 0)
    assert "DEADLINE_EXCEEDED" in log()[2]


@pytest.mark.anyio
@pytest.mark.feature("F002-07")
async def test_decisions_callbacks_and_translated_payloads_cross_over(
    load: Load, serving: Any, until: Any, log: Callable[[], list[str]]
) -> None:
    app = load(
        """
        class Double:
            def translate(self, message):
                return message.payload * 2

        @inject(retry=BackOffData())
        async def handle(payload: int, message: Message, retry):
            note("handle", payload, os.getpid())
            if payload == 2:
                await message.reject("not wanted")
            elif payload == 4:
                await message.retry(0.01)

        def failed(payload, retry, exception):
            note("failed", payload, retry.number, type(exception).__name__, os.getpid())

        route = CallbackRoute(handle, EventListener("shop", "order"), callback_target=failed, translators=[Double()])
        app.include(RunnerContext([route], "process", 1))

        @app.on(Event("shop", "many", batch=True), executor="process")
        def many(payloads: list):
            note("many", *payloads)
        """
    )
    async with serving(app) as service:
        for number in (1, 3):
            await service.publish("shop", "order", number)
        assert (await service.dead_one()).reason == "not wanted"
        for number in (1, 2):
            await service.publish("shop", "many", number)
        await until(lambda: len(log()) == 4)
    words = [line.split() for line in log()]
    child = words[0][2]
    assert ["handle", "6", child] in words
    assert ["failed", "2", "1", "PublicError", str(os.getpid())] in words
    assert sorted(word for line in words if line[0] == "many" for word in line[1:]) == ["1", "2"]


# -- what is refused ---------------------------------------------------------------------------------------------------


async def stream() -> Any:
    yield 1


def live(request: Request) -> None: ...


def later(background: BackgroundTasks, payload: Any) -> None: ...


@pytest.mark.feature("F002-15")
@pytest.mark.parametrize(
    ("bind", "message"),
    [
        (lambda app: app.get("/", executor="process")(live), "a HTTP call is a live request"),
        (lambda app: app.on(Event("a", "b"), executor="process")(later), "background tasks run after delivery"),
        (lambda app: app.include(RunnerContext([Route(stream, RPCListener())], "process")), "a stream cannot leave"),
    ],
)
def test_what_cannot_run_in_a_child_fails_at_start_up(bind: Any, message: str) -> None:
    app = App(name="svc")
    bind(app)
    with pytest.raises(ConfigurationError, match=message):
        app.build()


def handler(payload: int) -> None: ...


@pytest.mark.anyio
@pytest.mark.feature("F002-15")
async def test_an_application_that_a_child_cannot_import_fails_at_start_up(serving: Any) -> None:
    app = App(name="svc")
    app.on(Event("a", "b"), executor="process")(handler)
    with pytest.raises((ConfigurationError, BaseExceptionGroup)) as caught:
        async with serving(app):
            pass
    assert "it is no global name of a module" in str(alone(caught.value))


@pytest.mark.anyio
@pytest.mark.feature("F002-15")
async def test_a_target_of_a_runner_that_a_child_cannot_import_fails_at_start_up(serving: Any) -> None:
    runner = Runner([Route(lambda payload: None, EventListener("a", "b"))], {"WORKER_MODE": "process"})
    with pytest.raises(BaseExceptionGroup) as caught:
        async with serving(runner.app):
            pass
    assert "cannot import its target" in str(alone(caught.value))


@pytest.mark.anyio
async def test_a_child_that_cannot_start_says_why(load: Load, serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = load(
        """
        if os.environ.get("BREAK_CHILDREN"):
            raise LookupError("no such thing")

        @app.on(Event("a", "b"), executor="process")
        def handle(payload):
            pass
        """
    )
    monkeypatch.setenv("BREAK_CHILDREN", "1")
    with pytest.raises(BaseExceptionGroup) as caught:
        async with serving(app):
            pass
    error = alone(caught.value)
    assert isinstance(error, StartupError)
    assert "cannot start" in str(error)
    assert "LookupError: no such thing" in str(error)


@pytest.mark.anyio
@pytest.mark.feature("F002-01")
async def test_targets_of_a_runner_run_in_children(
    tmp_path: Path, serving: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    (tmp_path / "runner_tasks.py").write_text(
        textwrap.dedent(
            f"""
            import os
            from microkit import inject
            from microkit_workers import Config, Producer

            def note(*words):
                with open({str(log)!r}, "a") as file:
                    print(*words, file=file)

            @inject(producer=Producer(), config=Config())
            def task(payload, producer, config):
                note("task", payload, os.getpid(), config["COLOUR"])
                producer("done", payload)

            class Target:
                producer = Producer()
                def run(self, payload):
                    note("run", payload, os.getpid())
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("runner_tasks", None)
    routes = [
        Route("runner_tasks.task", EventListener("a", "b"), backoff=AsyncBackOff(1, 1)),
        Route("runner_tasks.Target", EventListener("svc", "done"), method_name="run"),
    ]
    config = {"SERVICE_NAME": "svc", "WORKER_MODE": "process", "MAX_WORKERS": 1, "COLOUR": "red"}
    async with serving(Runner(routes, config).app) as service:
        await service.publish("a", "b", 5)
        await until(lambda: log.exists() and len(log.read_text().splitlines()) == 2, 20)
    first, second = (line.split() for line in log.read_text().splitlines())
    assert (first[0], first[1], first[3]) == ("task", "5", "red")
    assert second[:2] == ["run", "5"]
    assert str(os.getpid()) not in (first[2], second[2])


def test_names_of_a_child_are_never_imported() -> None:
    failure = remote_failure(["os.system", "builtins.OSError"])
    assert type(failure).__name__ == "system"
    assert not isinstance(failure, OSError)
    assert issubclass(WorkerCrashed, PublicError)
    assert isinstance(Message(), Message)
