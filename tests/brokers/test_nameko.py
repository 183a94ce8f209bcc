"""A service of microkit-workers and one of nameko, both as processes of their own, call each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from microkit.broker import OutgoingMessage
from microkit_amqp import AmqpBroker
from microkit_workers import RpcClient
from tests.rabbitmq.environments import environment, running

from .program import Program

APP = """
app = App(name="ours", settings={"workers": {"broker": os.environ["BROKER"], "service": "ours"}})

def hello(name, greeting="hi"):
    return f"{greeting} {name}"

def refuses():
    raise PublicError("Not today.", status=StatusCode.FAILED_PRECONDITION)

@inject(greeter=RPCProxyProvider("greeter"), producer=Producer("shop"))
def ask(payload, greeter, producer):
    note("greeted", greeter.hello(payload["name"], greeting="hey").replace(" ", "-"))
    note("future", greeter.hello.call_async("Eve").result(timeout=60).replace(" ", "-"))
    for call in (greeter.boom, greeter.nope, greeter.hello):
        try:
            call()
        except PublicError as exc:
            note("error", exc.status.name)
    producer("order_placed", {"id": payload["id"]})
    greeter.announce(payload["id"])

app.include(
    RunnerContext(
        [
            Route(hello, RPCListener()),
            Route(refuses, RPCListener()),
            Route(ask, EventListener("test", "ask")),
        ],
        "thread",
    )
)

@app.on(BrokerProcedure("ours.stack"))
async def stack(request: RpcRequest):
    return request.headers["nameko.call_id_stack"]

@app.on(Event("greeter", "seen"))
async def seen(payload: dict):
    note("seen", payload["order"]["id"])

@app.on(Event("greeter", "announced"))
async def announced(payload: dict):
    note("announced", payload["value"])
"""


@pytest.fixture(params=["nameko2", "nameko3"])
def greeter(request: pytest.FixtureRequest, rabbit: Any, vhost: str, url: str) -> Iterator[None]:
    programs = environment(request.param, request.config.rootpath)
    command = [programs / "nameko", "run", "--broker", url, "nameko_greeter"]
    with running(command, "Connected to"):
        rabbit.until_consumed(vhost, {"rpc-greeter", "evt-shop-order_placed--greeter.on_order"})
        yield


@pytest.mark.feature("F002-26")
@pytest.mark.feature("F002-28")
@pytest.mark.feature("F002-42")
@pytest.mark.feature("FX-14")
def test_both_call_each_other_and_hear_of_each_other(
    tmp_path: Path, rabbit: Any, vhost: str, url: str, greeter: None
) -> None:
    program = Program(tmp_path, APP, url)
    program.start()
    try:
        rabbit.until_consumed(vhost, {"rpc-ours", "test.ask__ours.ask"})
        asked = anyio.run(_ask, url)
        program.until(lambda: program.of("seen") and program.of("announced"))
        assert program.stop() == 0, program.output
    finally:
        program.kill()
    hello, refused, stack = asked
    assert hello == "hi Bob"
    assert refused == {"type": "RemoteError", "text": "PublicError Not today."}
    assert [each.rpartition(".")[0] for each in stack][-2:] == ["greeter.stack", "ours.stack"]
    assert program.lines()[:5] == [
        ["greeted", "hey-Ann"],
        ["future", "hi-Eve"],
        ["error", "UNKNOWN"],
        ["error", "NOT_FOUND"],
        ["error", "INVALID_ARGUMENT"],
    ]
    assert (program.of("seen"), program.of("announced")) == ({"7": 1}, {"7": 1})


async def _ask(url: str) -> list[Any]:
    broker = AmqpBroker(url)
    await broker.connect()
    await broker.publish("test", "ask", OutgoingMessage(b'{"id": 7, "name": "Ann"}'))
    await broker.close()
    async with RpcClient(url, timeout=60) as system:
        return [
            await system.greeter.call_ours("hello", "Bob"),
            await system.greeter.call_ours("refuses"),
            await system.greeter.stack(),
        ]
