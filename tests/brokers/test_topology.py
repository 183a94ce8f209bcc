"""`microkit amqp` for an application of microkit-workers: its queues, procedures and broker without being told."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from microkit.broker import OutgoingMessage, QueueSpec
from microkit.cli import main
from microkit.settlement import Delivery
from microkit_amqp import AmqpBroker

APP = """
from microkit import App, Event
from microkit_workers import BrokerProcedure, EventListener, Queue, Route, RPCListener, RunnerContext

app = App(
    name="fulfilment",
    plugins=["microkit_workers.plugin", "microkit_amqp.plugin"],
    discover=False,
    settings={{"workers": {{"broker": "{url}"}}, "amqp": {{"rpc_wire": "{wire}"}}}},
)


@app.on(Event("shop", "order_placed"))
async def ship(order): ...


@app.on(Event("shop", "prices_changed"), mode="broadcast")
async def forget(prices): ...


@app.on(Queue("mails"))
async def mail(text): ...


@app.on(BrokerProcedure("stock.count"))
async def count(article): ...


def refund(order): ...


app.include(RunnerContext([Route(refund, entrypoint=EventListener("shop", "returned")), Route(refund, RPCListener())]))
"""


@pytest.mark.feature("FX-12")
@pytest.mark.parametrize("wire", ["nameko", "ufw"])
def test_the_topology_is_that_of_the_bindings(
    wire: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = f"fulfilment_{wire}"
    (tmp_path / f"{module}.py").write_text(APP.format(url=url, wire=wire))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MICROKIT_PLUGINS", "amqp,workers")

    def run(*words: str) -> tuple[int, str]:
        code = main(["amqp", *words])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    code, out = run("topology", f"{module}:app")
    assert code == 0, out
    procedures = {
        "nameko": ["nameko-rpc --stock.*--> rpc-stock", "nameko-rpc --fulfilment.*--> rpc-fulfilment"],
        "ufw": ["ufw-rpc --stock.count--> rpc-stock-count", "ufw-rpc --fulfilment.refund--> rpc-fulfilment-refund"],
    }[wire]
    for bind in (
        "shop.events --order_placed--> shop.order_placed__fulfilment.ship",
        "shop.events --returned--> shop.returned__fulfilment.refund",
        "mk.dlx --mails--> mails.dead",
        *procedures,
    ):
        assert f"  {bind}" in out.splitlines()
    assert "shop.events --prices_changed--> " in out

    code, out = run("topology", f"{module}:app", "--diff")
    assert code == 1
    assert "missing: queue mails" in out
    assert "prices_changed" not in out, "an exclusive queue is there while the application runs only"
    assert run("topology", f"{module}:app", "--declare") == (0, "no difference\n")
    assert run("topology", f"{module}:app", "--diff") == (0, "no difference\n")
    for command in (["amqp", "dead"], ["dead-letters"]):
        assert main([*command, f"{module}:app"]) == 0
        assert capsys.readouterr().out == "0 dead letters\n"


@pytest.mark.feature("FX-11")
@pytest.mark.parametrize("command", [["amqp", "dead"], ["dead-letters"]])
def test_both_commands_list_and_redrive_what_rabbitmq_has(
    command: list[str], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = f"fulfilment_{len(command)}"
    (tmp_path / f"{module}.py").write_text(APP.format(url=url, wire="nameko"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MICROKIT_PLUGINS", "amqp,workers")
    anyio.run(_kill_one, url, "mails")

    def run(*words: str) -> str:
        assert main([*command, *words]) == 0
        return capsys.readouterr().out

    assert "mails  an-id  attempts 1  hopeless\n1 dead letters\n" in run(f"{module}:app")
    (letter,) = json.loads(run(url, "--queue", "mails", "--json", "--backend", "trio"))
    assert (letter["message_id"], letter["body"]) == ("an-id", "1")
    assert run(f"{module}:app", "--redrive", "--id", "an-id") == "1 put back\n"
    assert run(f"{module}:app") == "0 dead letters\n"
    anyio.run(_kill_one, url, "of-a-broadcast", True)
    assert "of-a-broadcast  an-id  attempts 1  hopeless\n1 dead letters\n" in run(f"{module}:app")


async def _kill_one(url: str, queue: str, exclusive: bool = False) -> None:
    broker, dead = AmqpBroker(url), anyio.Event()

    async def kill(delivery: Delivery) -> None:
        await delivery.store_dead("hopeless")
        await delivery.ack()
        dead.set()

    await broker.connect()
    async with anyio.create_task_group() as tasks:
        await broker.subscribe(
            QueueSpec(queue, exclusive=exclusive), 1, lambda message, delivery: tasks.start_soon(kill, delivery)
        )
        await broker.send(queue, OutgoingMessage(b"1", message_id="an-id"))
        await dead.wait()
    await broker.close()
