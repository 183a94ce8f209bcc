"""Opening the connection: clear errors, patience, and no password in sight."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from microkit import App
from microkit.broker import OutgoingMessage, broker_for
from microkit.errors import SettingsError, StartupError
from microkit_amqp import AmqpBroker, AmqpSettings
from tests.rabbitmq.node import Rabbit
from tests.rabbitmq.proxy import Proxy
from tests.servers import free_ports

from .conftest import Connect, Mailbox, until

pytestmark = pytest.mark.anyio
SECRET = "s3cret-p4ss"


async def _refused(url: str, *, final: bool = False, **settings: Any) -> str:
    broker = AmqpBroker(url, AmqpSettings(**settings))
    with pytest.raises(StartupError) as caught:
        await broker.connect()
    shown = repr((caught.value, caught.value.__cause__, caught.value.__context__))
    assert SECRET not in shown
    assert caught.value.final is final
    await broker.close()
    return str(caught.value)


async def test_nothing_that_listens_is_told_with_host_port_vhost_and_remedy(
    anyio_backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (port,) = free_ports(1)
    caplog.set_level("WARNING", "microkit.amqp")  # an application before may have set that of all
    text = await _refused(f"amqp://user:{SECRET}@127.0.0.1:{port}/shop", connect_attempts=2)
    assert f"127.0.0.1:{port}, vhost 'shop'" in text
    assert "after 2 attempts: nothing listens there. Start RabbitMQ" in text
    assert SECRET not in caplog.text
    names = {each.name.partition(".")[0] for each in caplog.records}
    assert "microkit" in names
    assert not names & {"aiormq", "aio_pika"}, "the library's own error says less"


async def test_a_wrong_password_is_told_at_once(rabbit: Rabbit, vhost: str) -> None:
    text = await _refused(f"amqp://guest:{SECRET}@127.0.0.1:{rabbit.port}/{vhost}", final=True)
    assert "it refuses the user 'guest' or the password" in text
    assert "attempts" not in text


async def test_a_vhost_that_does_not_exist_is_told_at_once(rabbit: Rabbit) -> None:
    text = await _refused(rabbit.url("no-such-vhost"), final=True)
    assert "the vhost 'no-such-vhost' does not exist" in text
    assert "rabbitmqctl add_vhost" in text


@pytest.mark.parametrize("url", ["amqp://host:port/", "http://localhost", f"amqp://u:{SECRET}/x@h:70000/"])
async def test_a_url_that_is_none_is_told(url: str, anyio_backend: Any) -> None:
    assert "Write amqp://user:password@host:5672/vhost" in await _refused(url, final=True)


async def test_start_can_wait_for_the_broker(rabbit: Rabbit, vhost: str, proxy: Proxy) -> None:
    proxy.stop()
    settings = AmqpSettings(wait_for_broker=True, connect_attempts=1)
    broker = AmqpBroker(rabbit.url(vhost, proxy.port), settings)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(broker.connect)
        await anyio.sleep(0.5)
        proxy.resume()
    with pytest.raises(Exception, match="no queue"):
        await broker.send("nowhere", OutgoingMessage(b"1"))
    await broker.close()


async def test_waiting_for_the_broker_can_be_cancelled(rabbit: Rabbit, vhost: str, proxy: Proxy) -> None:
    proxy.stop()
    broker = AmqpBroker(rabbit.url(vhost, proxy.port), AmqpSettings(wait_for_broker=True))
    with anyio.move_on_after(0.3) as scope:
        await broker.connect()
    assert scope.cancelled_caught


@pytest.mark.feature("F002-19")
async def test_the_url_selects_the_broker_and_the_settings_its_heartbeat(rabbit: Rabbit, vhost: str, url: str) -> None:
    app = App(plugins=["microkit_amqp.plugin"], discover=False, settings={"amqp": {"heartbeat": 17}})
    async with app.started():
        for suffix, expected in (("", 17), ("?heartbeat=23", 23)):
            broker = broker_for(app, url + suffix)
            assert isinstance(broker, AmqpBroker)
            await broker.connect()
            await until(lambda expected=expected: expected in _heartbeats(rabbit, vhost))
            await broker.close()
    (spec,) = (each for each in app.transports.values() if each.broker is not None)
    assert (spec.durable, spec.schemes) == (True, ("amqp", "amqps"))


def _heartbeats(rabbit: Rabbit, vhost: str) -> list[int]:
    return [each.get("timeout", 0) for each in rabbit.api("GET", "connections") if each.get("vhost") == vhost]


@pytest.mark.feature("F002-19")
async def test_a_connection_without_a_sign_of_life_is_given_up(
    rabbit: Rabbit, vhost: str, proxy: Proxy, connect: Connect, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "microkit.amqp")
    broker = await connect(rabbit.url(vhost, proxy.port), heartbeat=1)
    link = broker._open()[1].link

    async def stays_up() -> bool:
        """A connection outlasts its heartbeats: none does without them, and a machine that stalls may lose one."""
        connection = link._connection
        await anyio.sleep(2.5)
        return link.is_up and link._connection is connection

    await until(stays_up)
    caplog.clear()
    proxy.freeze()
    await until(lambda: not link.is_up)
    await until(lambda: "is lost; connecting again" in caplog.text)
    proxy.cut()
    proxy.thaw()
    await until(lambda: link.is_up)


def test_settings_are_checked() -> None:
    wrong = {"rpc_wire": "soap", "heartbeat": -1, "publish_window": 0, "publish_timeout": 0, "ack_delay": -1}
    for name, value in wrong.items():
        app = App(plugins=["microkit_amqp.plugin"], discover=False, settings={"amqp": {name: value}})
        with pytest.raises(SettingsError, match=name):
            app.build()
