"""What cannot run in child processes is refused at start-up; targets of a `Runner` can."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microkit import App, BackgroundTasks, ConfigurationError, Event, Message, PublicError, Request, StartupError
from microkit.errors import alone
from microkit_workers import AsyncBackOff, EventListener, Route, RPCListener, Runner, RunnerContext, WorkerCrashed
from microkit_workers.process.errors import remote_failure

Load = Callable[[str], App]


@pytest.fixture
def url() -> str:
    return "memory://"


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
        await until(lambda: log.exists() and log.read_text().count("\n") == 2)
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
