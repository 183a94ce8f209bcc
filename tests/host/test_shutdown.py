"""The host: start-up, draining, signals."""

from __future__ import annotations

import signal
import socket
import threading
from typing import Any

import pytest

DRAINING = """
    import os, socket
    import anyio
    from microkit import App, BackgroundTasks, Every
    app = App()

    async def until_drained(what):
        print(what, "begun")
        while app.ready:
            await anyio.sleep(0.01)

    @app.get("/slow")
    async def slow(port: int) -> dict:
        await until_drained("request")
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                return {"refused": True}
            await anyio.sleep(0.01)

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> dict:
        async def work():
            await until_drained("background")
            print("background done")
        tasks.add(work)
        return {}

    @app.on(Every(0.05))
    async def tick() -> None:
        await until_drained("tick")
        print("tick done")

    @app.on_shutdown
    def bye():
        print("shut down")
"""


@pytest.mark.feature("FX-31")
@pytest.mark.feature("F003-06")
@pytest.mark.guarantee("G11")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_signal_drains_requests_ticks_and_background_tasks_while_nothing_new_is_accepted(
    start: Any, backend: str
) -> None:
    program = start(DRAINING, "--backend", backend)
    answers: list[Any] = []
    client = threading.Thread(target=lambda: answers.append(program.json(f"/slow?port={program.port}")))
    client.start()
    assert program.request("/background")[0] == 200
    for what in ("request", "background", "tick"):
        program.line(f"{what} begun")
    assert program.stop() == 0
    client.join()
    assert answers == [{"refused": True}]
    assert program.printed.count("background done") == 1
    # The next tick may be due at the very moment of the signal.
    assert program.printed.count("tick begun") == program.printed.count("tick done") <= 2
    assert program.printed[-1] == "shut down"


@pytest.mark.feature("FX-31")
@pytest.mark.guarantee("G11")
@pytest.mark.parametrize(
    ("backend", "server"), [("asyncio", "uvicorn"), ("asyncio", "hypercorn"), ("trio", "hypercorn")]
)
def test_what_is_not_done_at_the_deadline_is_cancelled_and_torn_down(start: Any, backend: str, server: str) -> None:
    program = start(
        """
        from typing import Annotated
        import anyio
        from microkit import App, Depends, Every
        app = App()

        async def transaction():
            try:
                yield "transaction"
            except BaseException as exc:
                await anyio.sleep(0)
                print("rolled back")
                raise

        @app.get("/")
        async def forever(transaction: Annotated[str, Depends(transaction)]) -> None:
            print("request begun")
            await anyio.sleep_forever()

        @app.on(Every(0.05))
        async def tick(transaction: Annotated[str, Depends(transaction)]) -> None:
            print("tick begun")
            await anyio.sleep_forever()
        """,
        *("--backend", backend, "--server", server),
        MICROKIT_APP__SHUTDOWN_TIMEOUT="0.2",
    )
    connection = socket.create_connection(("127.0.0.1", program.port))
    with connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        program.line("request begun")
        program.line("tick begun")
        assert program.stop() == 0
    assert program.lines.count("rolled back") == 2
    assert "Traceback" not in "\n".join(program.lines)


@pytest.mark.guarantee("G11")
def test_a_second_signal_ends_the_process_at_once(start: Any) -> None:
    program = start(
        """
        import anyio
        from microkit import App
        app = App()

        @app.get("/")
        async def forever() -> None:
            print("request begun")
            await anyio.sleep_forever()
        """
    )
    with socket.create_connection(("127.0.0.1", program.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        program.line("request begun")
        program.signal(signal.SIGINT)
        program.line("SIGINT: draining")
        program.signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM


ORDER = """
    from contextlib import asynccontextmanager
    from microkit import App, Provider, Scope, hookimpl
    from typing import Annotated

    class Plugin:
        @hookimpl
        def microkit_configure(self, app):
            print("1 configure")

        @hookimpl
        def microkit_lifespan(self, app):
            @asynccontextmanager
            async def lifespan():
                print("4 plugin")
                yield
                print("4 plugin ended")
            return lifespan()

    class Service:
        pass

    async def service():
        print("2 service")
        try:
            yield Service()
        finally:
            print("2 service ended")

    async def lifespan(app):
        print("5 lifespan", app.ready)
        FAIL
        yield
        print("5 lifespan ended", app.ready)

    app = App(plugins=[Plugin()], lifespan=lifespan)
    app.registry.add(Provider(Service, service, scope=Scope.APP))
    app.on_startup(lambda: print("3 start-up"))
    app.on_shutdown(lambda: print("3 shutdown"))

    @app.get("/")
    async def ready(service: Service) -> bool:
        return app.ready
"""
UP = ["1 configure", "2 service", "3 start-up", "4 plugin", "5 lifespan False"]
DOWN = ["5 lifespan ended False", "4 plugin ended", "3 shutdown", "2 service ended"]


@pytest.mark.feature("F001-33")
@pytest.mark.guarantee("G1")
def test_start_up_has_an_order_the_ingress_opens_last_and_shutdown_is_the_reverse(start: Any) -> None:
    both_streams_are_one = (
        "\n    import os\n    os.dup2(1, 2)  # so what is printed and what is logged have one order\n"
    )
    program = start(both_streams_are_one + ORDER.replace("FAIL", ""))
    assert program.json("/") is True
    begun = [line for line in program.printed if "listens on" in line or "microkit." not in line]
    assert begun[:-1] == UP
    assert "listens on" in begun[-1]
    assert program.stop() == 0
    assert [line for line in program.printed if "microkit." not in line] == UP + DOWN


@pytest.mark.feature("F001-33")
@pytest.mark.feature("F001-34")
@pytest.mark.guarantee("G2")
def test_a_failing_step_is_one_paragraph_and_what_was_started_is_stopped(start: Any, paragraph: Any) -> None:
    program = start(ORDER.replace("FAIL", "raise ValueError('no database')"))
    assert program.wait() == 1
    text = paragraph(program)
    assert "the application's lifespan" in text
    assert "ValueError: no database (app.py:" in text
    assert program.printed == UP + DOWN[1:]


@pytest.mark.guarantee("G1")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_signal_during_start_up_stops_what_was_started(start: Any, backend: str) -> None:
    program = start(ORDER.replace("FAIL", "import anyio; await anyio.sleep_forever()"), "--backend", backend)
    program.line("5 lifespan")
    assert program.stop() == 0
    assert program.printed == UP + DOWN[1:]
    assert program.count("listens on") == 0


@pytest.mark.guarantee("G2")
def test_a_failing_shutdown_step_is_reported_and_the_others_run(start: Any) -> None:
    program = start(
        """
        from microkit import App
        app = App()

        @app.on_shutdown
        def first():
            print("the other one ran")

        @app.on_shutdown
        def second():
            raise ValueError("cannot close")

        @app.get("/")
        async def hello() -> str:
            return "hello"
        """
    )
    assert program.request("/")[0] == 200
    assert program.stop() == 1
    program.line("the other one ran")
    program.line("ValueError: cannot close")


def test_readiness_turns_false_before_the_ingress_closes(start: Any) -> None:
    program = start(
        """
        from microkit import App
        app = App()

        @app.get("/ready")
        async def ready() -> bool:
            return app.ready
        """,
        MICROKIT_APP__SHUTDOWN_DELAY="20",
    )
    assert program.json("/ready") is True
    program.signal()
    program.line("SIGTERM: draining")
    assert program.json("/ready") is False
    program.signal()
    assert program.wait() == -signal.SIGTERM


@pytest.mark.guarantee("G11")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thread_that_does_not_end_does_not_keep_the_process(start: Any, backend: str) -> None:
    program = start(
        """
        import threading
        from microkit import App
        app = App()

        @app.get("/")
        def stuck() -> None:
            print("request begun")
            threading.Event().wait()

        @app.on_shutdown
        def bye():
            print("shut down")
        """,
        *("--backend", backend),
        MICROKIT_APP__SHUTDOWN_TIMEOUT="0.1",
        MICROKIT_APP__TEARDOWN_TIMEOUT="0.1",
    )
    with socket.create_connection(("127.0.0.1", program.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        program.line("request begun")
        assert program.stop() == 0
    program.line("^shut down")
    program.line("threads still run")


def test_a_failing_shutdown_step_is_told_once_and_fails_the_process(start: Any) -> None:
    program = start(
        """
        from microkit import App
        app = App()

        @app.get("/")
        async def hello(): return "hello"

        @app.on_shutdown
        async def flush(): raise OSError("cannot flush")
        """
    )
    assert program.port
    assert program.stop() == 1
    assert program.count("^OSError: cannot flush") == 1
    program.line("while shutting down shutdown hook app.flush")
