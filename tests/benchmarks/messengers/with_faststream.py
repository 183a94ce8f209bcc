"""FastStream with its RabbitMQ broker; acks after the handler, one by one."""

from typing import Any

from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from measured import PREFETCH, ROLE, URL, Called, Consumed, Published, order, run_loop, total

broker = RabbitBroker(URL, default_channel=Channel(prefetch_count=PREFETCH), logger=None)
QUEUE = RabbitQueue("orders", durable=True)
TOTALS = RabbitQueue("totals")


async def consume():
    consumed = Consumed()

    @broker.subscriber(QUEUE, ack_policy=AckPolicy.NACK_ON_ERROR)
    async def handler(order: dict[str, Any]):
        consumed.saw(order["id"])

    await FastStream(broker).run()


async def publish():
    published = Published()
    await broker.start()
    await broker.declare_queue(QUEUE)

    async def one(number):
        await broker.publish(order(number), QUEUE, persist=True)

    await published.in_windows(one)
    published.tell()


async def serve():
    @broker.subscriber(TOTALS)
    async def handler(wanted: dict[str, Any]):
        return total(wanted["id"])

    await FastStream(broker).run()


async def call():
    called = Called()
    await broker.start()

    async def one(number):
        reply = await broker.request({"id": number}, TOTALS, timeout=30)
        return await reply.decode()

    await called.at_once(one)
    called.tell()


run_loop({"consume": consume, "publish": publish, "serve": serve, "call": call}[ROLE])
