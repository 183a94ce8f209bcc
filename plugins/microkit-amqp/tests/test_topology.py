"""The topology as data, as text, and compared with a broker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from microkit.broker import OutgoingMessage, QueueSpec
from microkit.cli import main
from microkit_amqp import AmqpBroker, Topology, topology_of, topology_text, work_topology
from microkit_amqp.topology import LEVELS, has_own_queue, level_bind, level_route, level_topology, rounded_up
from tests.rabbitmq.node import Rabbit

from .conftest import Connect, Mailbox

APP = """
from microkit import App, PluginInfo, hookimpl
from microkit.broker import QueueSpec


class Workers:
    microkit_plugin_info = PluginInfo("workers", requires=("amqp",))

    @hookimpl
    def microkit_amqp_queues(self, app):
        return [QueueSpec("orders", "shop", "order_placed")]

    @hookimpl
    def microkit_amqp_url(self, app):
        return "{url}"


app = App(plugins=["microkit_amqp.plugin", Workers()], discover=False)
"""


@pytest.mark.feature("F002-26")
def test_a_foreign_queue_has_no_arguments() -> None:
    topology = work_topology(QueueSpec("rpc-greeter", options={"foreign": True}), 20)
    (queue,) = (each for each in topology.queues if each.name == "rpc-greeter")
    assert dict(queue.arguments) == {}


@pytest.mark.feature("FX-12")
def test_the_text_names_everything() -> None:
    text = topology_text(topology_of([QueueSpec("orders", "shop", "order_placed"), QueueSpec("mails")]))
    for line in (
        "  shop.events  topic durable",
        "  mk.dlx  direct durable",
        "  shop.events --order_placed--> orders",
        "  mk.dlx --mails--> mails.dead",
    ):
        assert line in text.splitlines()
    assert "orders  durable x-queue-type='quorum' x-dead-letter-exchange='mk.dlx'" in text


@pytest.mark.feature("F002-39")
def test_round_delays_have_queues_of_their_own() -> None:
    assert all(map(has_own_queue, (1, 37, 250, 1000, 1500, 10_000, 60_000, 3_600_000)))
    assert not any(map(has_own_queue, (251, 1234, 60_100)))
    assert (rounded_up(1234), rounded_up(1000), rounded_up(99), rounded_up(60_001)) == (1300, 1000, 99, 61_000)


@pytest.mark.feature("F002-39")
@pytest.mark.parametrize("milliseconds", [1, 100, 6_400, 123_456_700])
def test_the_levels_add_up_to_the_delay(milliseconds: int) -> None:
    """A walk over exchanges, queues and bindings as a broker would go it."""
    route = level_route("work.queue", milliseconds)
    assert route is not None
    exchange, key = route
    topology = level_topology() + Topology(binds=(level_bind("work.queue"), level_bind("queue")))
    waits = {queue.name: queue.arguments for queue in topology.queues}
    waited = 0
    while True:
        (bind,) = (each for each in topology.binds if each.source == exchange and _matches(each.key, key))
        if bind.destination == "work.queue":
            break
        exchange = bind.destination
        if not bind.to_exchange:
            waited += waits[exchange]["x-message-ttl"]
            exchange = waits[exchange]["x-dead-letter-exchange"]
    assert waited == -(-milliseconds // 100) * 100


def _matches(pattern: str, key: str) -> bool:
    """Topic patterns, as far as these go: `*` is a word, a last `#` any number of them."""
    words, given = pattern.split("."), key.split(".")
    if words[-1] == "#":
        words, given = words[:-1], given[: len(words) - 1]
    return len(words) == len(given) and all(a in ("*", b) for a, b in zip(words, given, strict=True))


def test_what_the_levels_cannot_do_gets_a_queue_of_its_own() -> None:
    assert level_route("q", 2**LEVELS * 100) is None
    assert level_route("q" * 250, 123) is None
    assert level_route("a.#", 123) is None


@pytest.mark.feature("FX-12")
@pytest.mark.anyio
async def test_a_broker_is_compared_with_what_should_be(connect: Connect, broker: AmqpBroker, mailbox: Mailbox) -> None:
    topology = topology_of([QueueSpec("orders", "shop", "order_placed")])
    assert len(await broker.difference(topology)) == 4
    await broker.declare(topology)
    assert await broker.difference(topology) == []
    changed = topology_of([QueueSpec("orders", "shop", "order_placed")], delivery_limit=5)
    (line,) = await broker.difference(changed)
    assert line.startswith("different: The queue 'orders' exists with other properties: x-delivery-limit is '20'")


@pytest.mark.feature("FX-12")
@pytest.mark.feature("FX-11")
def test_the_commands(
    rabbit: Rabbit, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "amqp_app.py").write_text(APP.format(url=url))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MICROKIT_PLUGINS", "amqp")

    def run(*words: str) -> tuple[int, str]:
        code = main(["amqp", *words])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    code, out = run("topology", "amqp_app:app")
    assert code == 0
    assert "shop.events --order_placed--> orders" in out
    code, out = run("topology", "amqp_app:app", "--diff")
    assert code == 1
    assert "missing: queue orders" in out
    assert run("topology", "amqp_app:app", "--declare") == (0, "no difference\n")
    assert run("topology", "amqp_app:app", "--diff") == (0, "no difference\n")
    assert run("dead", "amqp_app:app") == (0, "0 dead letters\n")

    _kill_one(url)
    code, out = run("dead", "amqp_app:app")
    assert code == 0
    assert "orders  an-id  attempts 1  hopeless" in out
    code, out = run("dead", url)
    assert code == 1
    assert "nobody can ask which queues there are. Name one (--queue), or set" in out
    code, out = run("dead", url, "--queue", "orders", "--json")
    assert '"reason": "hopeless"' in out
    with monkeypatch.context() as patch:
        patch.setenv("MICROKIT_AMQP__MANAGEMENT", rabbit.management)
        code, out = run("dead", url)
    assert code == 0
    assert out.endswith("hopeless\n1 dead letters\n")
    assert run("dead", "amqp_app:app", "--redrive", "--id", "other") == (0, "0 put back\n")
    assert run("dead", "amqp_app:app", "--redrive") == (0, "1 put back\n")
    assert run("dead", "amqp_app:app") == (0, "0 dead letters\n")


@pytest.mark.parametrize("broker", ["memory://", ""])
def test_commands_ask_no_broker_that_nobody_named(
    broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no_amqp_app.py").write_text(APP.format(url=broker))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MICROKIT_PLUGINS", "amqp")
    sys.modules.pop("no_amqp_app", None)
    assert main(["amqp", "topology", "no_amqp_app:app"]) == 0
    capsys.readouterr()
    for words in (["topology", "no_amqp_app:app", "--diff"], ["dead", "no_amqp_app:app"]):
        assert main(["amqp", *words]) == 1
        assert f"its broker is {broker or 'none'}. Set the broker of workers" in capsys.readouterr().err


def _kill_one(url: str) -> None:
    import anyio

    async def kill() -> None:
        broker, mailbox = AmqpBroker(url), Mailbox()
        await broker.connect()
        await broker.subscribe(QueueSpec("orders", "shop", "order_placed"), 1, mailbox)
        await broker.send("orders", OutgoingMessage(b"1", message_id="an-id"))
        taken = await mailbox.take()
        await taken.delivery.store_dead("hopeless")
        await taken.ack()
        await broker.close()

    anyio.run(kill)
