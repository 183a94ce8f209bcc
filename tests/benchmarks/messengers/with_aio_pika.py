"""By hand, on aio-pika. Variant `together`: acks as microkit sends them by default."""

import asyncio
import uuid

import aio_pika
import orjson
from measured import (
    EVENT,
    PREFETCH,
    ROLE,
    SOURCE,
    URL,
    VARIANT,
    Called,
    Consumed,
    Published,
    order,
    run_loop,
    total,
)

QUEUE = "orders"
BATCH, DELAY = PREFETCH // 4, 0.005


async def declared(channel):
    exchange = await channel.declare_exchange(f"{SOURCE}.events", "topic", durable=True)
    queue = await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    await queue.bind(exchange, EVENT)
    return exchange, queue


class Together:
    """One ack for what is done without a gap; here messages come and end in order, so that there never is one."""

    def __init__(self):
        self._last = None
        self._waiting = 0
        self._timer = None
        self._tasks = set()

    def ack(self, message):
        self._last = message
        self._waiting += 1
        if self._waiting >= BATCH:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self._flush)

    def _flush(self):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting = 0
        task = asyncio.create_task(self._last.ack(multiple=True))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def consume():
    consumed = Consumed()
    connection = await aio_pika.connect_robust(URL)
    channel = await connection.channel()
    await channel.set_qos(PREFETCH)
    _, queue = await declared(channel)
    together = Together()

    async def each(message):
        consumed.saw(orjson.loads(message.body)["id"])
        await message.ack()

    async def batched(message):
        consumed.saw(orjson.loads(message.body)["id"])
        together.ack(message)

    await queue.consume(batched if VARIANT == "together" else each)
    await asyncio.Event().wait()


async def publish():
    published = Published()
    connection = await aio_pika.connect_robust(URL)
    channel = await connection.channel(on_return_raises=True)
    exchange, _ = await declared(channel)

    async def one(number):
        body = orjson.dumps(order(number))
        message = aio_pika.Message(body, content_type="application/json", delivery_mode=2, message_id=uuid.uuid4().hex)
        await exchange.publish(message, EVENT, mandatory=False)

    await published.in_windows(one)
    published.tell()


async def serve():
    connection = await aio_pika.connect_robust(URL)
    channel = await connection.channel(publisher_confirms=False)
    await channel.set_qos(PREFETCH)
    queue = await channel.declare_queue("totals")

    async def answer(message):
        await message.ack()
        body = orjson.dumps(total(orjson.loads(message.body)["id"]))
        reply = aio_pika.Message(body, content_type="application/json", correlation_id=message.correlation_id)
        await channel.default_exchange.publish(reply, message.reply_to, mandatory=False)

    await queue.consume(answer)
    await asyncio.Event().wait()


async def call():
    called = Called()
    connection = await aio_pika.connect_robust(URL)
    channel = await connection.channel(on_return_raises=True)
    replies = await channel.declare_queue(exclusive=True)
    waiting = {}

    async def on_reply(message):
        waiting.pop(message.correlation_id).set_result(orjson.loads(message.body))

    await replies.consume(on_reply, no_ack=True)

    async def one(number):
        identity = uuid.uuid4().hex
        waiting[identity] = future = asyncio.get_running_loop().create_future()
        message = aio_pika.Message(
            orjson.dumps({"id": number}),
            content_type="application/json",
            correlation_id=identity,
            message_id=identity,
            reply_to=replies.name,
        )
        await channel.default_exchange.publish(message, "totals")
        return await asyncio.wait_for(future, 30)

    await called.at_once(one)
    called.tell()


run_loop({"consume": consume, "publish": publish, "serve": serve, "call": call}[ROLE])
