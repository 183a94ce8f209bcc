"""Real services of nameko and micro-framework, unmodified, as processes of their own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from microkit.broker import OutgoingMessage, QueueSpec
from microkit.errors import PublicError, StatusCode
from microkit_amqp import AmqpBroker, RemoteError
from tests.rabbitmq.environments import PEERS, environment, running
from tests.rabbitmq.node import Rabbit

from .conftest import Mailbox, until
from .serving import TARGETS, Ours, calling

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["nameko2", "nameko3"])
def nameko(request: pytest.FixtureRequest) -> Path:
    """The folder of programs of each version."""
    return environment(request.param, request.config.rootpath)


@pytest.fixture
def greeter(nameko: Path, rabbit: Rabbit, vhost: str, url: str) -> Iterator[None]:
    with running([nameko / "nameko", "run", "--broker", url, "nameko_greeter"], "Connected to"):
        rabbit.until_consumed(vhost, {"rpc-greeter", "evt-shop-order_placed--greeter.on_order"})
        yield


@pytest.mark.feature("F002-26")
async def test_events_go_both_ways(rabbit: Rabbit, vhost: str, broker: AmqpBroker, greeter: Any) -> None:
    seen, announced = Mailbox(), Mailbox()
    await broker.subscribe(QueueSpec("seen", "greeter", "seen"), 10, seen)
    await broker.subscribe(QueueSpec("announced", "greeter", "announced"), 10, announced)
    await broker.publish("shop", "order_placed", OutgoingMessage(b'{"id": 7}'))
    taken = await seen.take()
    assert taken.message.payload == {"order": {"id": 7}}
    assert (taken.message.source, taken.message.name) == ("greeter", "seen")
    await taken.ack()
    await broker.rpc().call("greeter", "announce", [5], timeout=60)
    taken = await announced.take()
    assert taken.message.payload == {"value": 5}
    # What has no id of its own is handled as any other: retried, and put to the dead letters.
    await taken.delivery.store_retry(0.1, 2, "again")
    await taken.ack()
    taken = await announced.take()
    await taken.delivery.store_dead("hopeless")
    await taken.ack()
    assert [each.message.body async for each in broker.dead_letters("announced")] == [b'{"value": 5}']


@pytest.mark.feature("F002-26")
async def test_a_queue_of_nameko_is_shared_with_it(
    rabbit: Rabbit, vhost: str, broker: AmqpBroker, greeter: Any
) -> None:
    """Declared as it is, without arguments, there is no conflict."""
    name = "evt-shop-order_placed--greeter.on_order"
    spec = QueueSpec(name, "shop", "order_placed", options={"foreign": True})
    ours = Mailbox()
    await broker.subscribe(spec, 10, ours)
    assert rabbit.queue(vhost, name)["arguments"] == {}
    seen = Mailbox()
    await broker.subscribe(QueueSpec("seen", "greeter", "seen"), 10, seen)
    for number in range(6):
        await broker.publish("shop", "order_placed", OutgoingMessage(b"%d" % number))
    await until(lambda: len(ours.waiting) + len(seen.waiting) == 6)
    assert ours.waiting
    assert seen.waiting


@pytest.mark.feature("FX-14")
async def test_we_call_nameko(url: str, greeter: Any) -> None:
    async with calling(url, timeout=60) as rpc:
        assert await rpc("greeter.hello", "Bob", greeting="hey") == "hey Bob"
        with pytest.raises(RemoteError) as boom:
            await rpc("greeter.boom")
        assert (boom.value.type, boom.value.remote_args) == ("Boom", ("kaput", "7"))
        assert boom.value.status is StatusCode.UNKNOWN
        assert boom.value.detail == "The remote procedure failed."
        assert "kaput" in str(boom.value)
        with pytest.raises(RemoteError) as method:
            await rpc("greeter.nope")
        assert (method.value.type, method.value.status) == ("MethodNotFound", StatusCode.NOT_FOUND)
        with pytest.raises(RemoteError) as signature:
            await rpc("greeter.hello")
        assert (signature.value.type, signature.value.status) == ("IncorrectSignature", StatusCode.INVALID_ARGUMENT)
        with pytest.raises(PublicError) as tells:
            await rpc.targets("greeter")
        assert tells.value.status is StatusCode.UNIMPLEMENTED


@pytest.mark.feature("FX-14")
async def test_nameko_calls_us(url: str, broker: AmqpBroker, nameko: Path) -> None:
    async with Ours().on(broker, "nameko"):
        text = await anyio.to_thread.run_sync(_client, nameko, url)
    assert json.loads(text) == {
        "hello": "hey Bob",
        "method": "MethodNotFound",
        "signature": "IncorrectSignature",
        "service": "UnknownService",
    }


def _client(programs: Path, url: str) -> str:
    done = subprocess.run(
        [programs / "python", "-W", "ignore", PEERS / "nameko_missing.py", url],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.feature("FX-14")
async def test_the_stack_of_call_ids_goes_through_both(url: str, broker: AmqpBroker, greeter: Any) -> None:
    async with Ours().on(broker, "nameko"), calling(url, timeout=60) as rpc:
        stack = await rpc.wire.call("greeter", "stack", timeout=60, headers={"nameko.call_id_stack": ["begun.here.1"]})
        assert [each.rpartition(".")[0] for each in stack] == ["begun.here", "greeter.stack", "ours.stack"]
        found = await rpc("greeter.call_ours", "refuses")
        assert found == {"type": "RemoteError", "text": "PublicError Not today."}


@pytest.fixture
def legacy(url: str, request: pytest.FixtureRequest) -> Iterator[Path]:
    programs = environment("ufw", request.config.rootpath)
    with running([programs / "python", "ufw_service.py", url]):
        yield programs


@pytest.mark.feature("F002-47")
async def test_micro_framework_is_called_and_calls(
    rabbit: Rabbit, vhost: str, url: str, broker: AmqpBroker, legacy: Path
) -> None:
    async with Ours().on(broker, "ufw"), calling(url, wire="ufw", timeout=60) as rpc:
        served = {"rpc-legacy-hello", "rpc-legacy-broadcast"}
        await anyio.to_thread.run_sync(rabbit.until_consumed, vhost, served)
        assert await rpc("legacy.hello", "Bob", greeting="hey") == "hey Bob"
        targets = {each.name: each for each in await rpc.targets("legacy")}
        assert targets.keys() == {"hello", "boom", "call_ours", "targets_of_ours"}
        assert (targets["hello"].args, targets["hello"].doc) == (("name",), "Greets.")
        with pytest.raises(RemoteError) as boom:
            await rpc("legacy.boom")
        assert (boom.value.type, boom.value.message) == ("ValueError", "kaput")
        with pytest.raises(RemoteError) as missing:
            await rpc("legacy.nope")
        assert missing.value.status is StatusCode.NOT_FOUND
        assert await rpc("legacy.call_ours", "hello", "Eve") == "hi Eve"
        assert (await rpc("legacy.call_ours", "refuses"))["type"] == "RPCException"
        assert [each["target"] for each in await rpc("legacy.targets_of_ours")] == sorted(TARGETS)
