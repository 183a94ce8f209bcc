"""taskiq with its aio-pika broker; acks after the task. It has no results over RabbitMQ."""

from measured import PREFETCH, ROLE, URL, Consumed, Published, order, run_loop
from taskiq.api import run_receiver_task
from taskiq_aio_pika import AioPikaBroker, Queue

broker = AioPikaBroker(URL, qos=PREFETCH, task_queues=[Queue(name="orders", durable=True)])
consumed = Consumed() if ROLE == "consume" else None


@broker.task(task_name="order_placed")
async def order_placed(order: dict):
    consumed.saw(order["id"])


async def consume():
    broker.is_worker_process = True
    await run_receiver_task(broker, max_async_tasks=PREFETCH, run_startup=True)


async def publish():
    published = Published()
    await broker.startup()

    async def one(number):
        await order_placed.kiq(order(number))

    await published.in_windows(one)
    published.tell()


run_loop({"consume": consume, "publish": publish}[ROLE])
