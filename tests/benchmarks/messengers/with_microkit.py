"""An application of microkit-workers on microkit-amqp. Variant `each`: every ack by itself."""

from typing import Any

import orjson
from measured import EVENT, PREFETCH, ROLE, SOURCE, URL, VARIANT, Called, Consumed, Published, order, run_loop, total

import microkit_amqp.plugin
import microkit_workers.plugin
from microkit import App, Event
from microkit.broker import OutgoingMessage, QueueSpec
from microkit_amqp import AmqpBroker
from microkit_workers import BrokerProcedure, RpcClient

QUEUE = "orders"


def application():
    return App(
        name=SOURCE,
        plugins=[microkit_workers.plugin, microkit_amqp.plugin],
        discover=False,
        settings={
            "workers": {"broker": URL, "max_workers": PREFETCH},
            "amqp": {"ack_batch": 1} if VARIANT == "each" else {},
        },
    )


def consume():
    app, consumed = application(), Consumed()

    @app.on(Event(SOURCE, EVENT), queue=QUEUE)
    async def handler(order: dict[str, Any]):
        consumed.saw(order["id"])

    app.run()


async def publish():
    published = Published()
    broker = AmqpBroker(URL)
    await broker.connect()
    await (await broker.subscribe(QueueSpec(QUEUE, SOURCE, EVENT), 1, lambda message, delivery: None)).cancel()

    async def one(number):
        await broker.publish(SOURCE, EVENT, OutgoingMessage(orjson.dumps(order(number))))

    await published.in_windows(one)
    published.tell()


def serve():
    app = application()

    @app.on(BrokerProcedure(f"{SOURCE}.total"))
    async def handler(id: int):
        return total(id)

    app.run()


async def call():
    called = Called()
    async with RpcClient(URL, timeout=30) as rpc:
        await called.at_once(lambda number: rpc.shop.total(id=number))
        called.tell()


if ROLE in ("consume", "serve"):
    {"consume": consume, "serve": serve}[ROLE]()
else:
    run_loop({"publish": publish, "call": call}[ROLE])
