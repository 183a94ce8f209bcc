"""Child processes: what runs in them, what a crash of one costs, how they are replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from microkit import (
    App,
    PublicError,
    StatusCode,
)
from microkit_workers.context import pools_of

Load = Callable[[str], App]


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
@pytest.mark.guarantee("G12")
async def test_a_child_runs_on_the_backend_of_its_parent(
    load: Load, serving: Any, until: Any, log: Callable[[], list[str]], anyio_backend_name: str
) -> None:
    app = load(
        """
        import asyncio

        context = RunnerContext([], "process", 1)

        @context.on(Event("shop", "order"))
        async def handle(payload: int):
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                import trio
                trio.lowlevel.current_task()
                note("trio")
            else:
                note("asyncio")

        app.include(context)
        """
    )
    async with serving(app) as service:
        await service.publish("shop", "order", 1)
        await until(lambda: log())
    assert log() == [anyio_backend_name]


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
                time.sleep(600)

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
        await until(lambda: len(log()) == 14)
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
        with anyio.fail_after(60):
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

        # On a machine that stands still, some attempts may come to their deadline before they do anything.
        @context.on(Event("shop", "order"), timeout=0.3, retry=Backoff(50, 0.01))
        def handle(payload: int, attempt: Attempt):
            first = not LOG.exists()
            note("begin", os.getpid())
            if first:
                time.sleep(600)
            note("end", attempt.last_error)

        app.include(context)
        """
    )
    async with serving(app) as service:
        await service.publish("shop", "order", 1)
        await until(lambda: any(line.startswith("end") for line in log()))
        with pytest.raises(ProcessLookupError):
            os.kill(int(log()[0].split()[1]), 0)
    end = next(line for line in log() if line.startswith("end"))
    assert "DEADLINE_EXCEEDED" in end


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

    def numbers(what: str) -> list[str]:
        found = [line.split()[1:] for line in log() if line.startswith(what)]
        # Those of "many" come in one batch or two.
        return sorted(word for words in found for word in (words if what == "many" else words[:1]))

    async with serving(app) as service:
        for number in (1, 3):
            await service.publish("shop", "order", number)
        assert (await service.dead_one()).reason == "not wanted"
        for number in (1, 2):
            await service.publish("shop", "many", number)
        await until(lambda: numbers("handle") == ["2", "6"] and numbers("failed") and numbers("many") == ["1", "2"])
    words = [line.split() for line in log()]
    child = words[0][2]
    assert ["handle", "6", child] in words
    assert ["failed", "2", "1", "PublicError", str(os.getpid())] in words
    assert numbers("many") == ["1", "2"]
