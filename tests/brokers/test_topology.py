"""`microkit amqp` for an application of microkit-workers: its queues, procedures and broker without being told."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkit.cli import main

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
    assert run("dead", f"{module}:app") == (0, "0 dead letters\n")
