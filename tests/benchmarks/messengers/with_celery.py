"""Celery, one process that runs tasks itself (solo), acks after them; results over its `rpc://` backend."""

from celery import Celery
from measured import PREFETCH, ROLE, URL, Called, Consumed, Published, order, total

app = Celery(
    "shop", broker=URL.replace("amqp://", "pyamqp://"), backend="rpc://" if ROLE in ("serve", "call") else None
)
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=PREFETCH,
    task_ignore_result=ROLE in ("consume", "publish"),
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    task_default_queue="orders",
)
consumed = Consumed(late=4.0) if ROLE == "consume" else None


@app.task(name="order_placed")
def order_placed(order):
    consumed.saw(order["id"])


@app.task(name="total")
def answer(id):
    return total(id)


def work():
    app.worker_main(
        ["worker", "--pool=solo", "--concurrency=1", "--loglevel=ERROR", "--without-gossip", "--without-mingle"]
    )


def publish():
    published = Published()
    with app.producer_or_acquire() as producer:
        for number in published.numbers():
            order_placed.apply_async((order(number),), producer=producer)
    published.tell()


def call():
    called = Called()

    def send(number):
        result = answer.delay(number)
        return lambda: result.get(timeout=30)

    called.in_windows(send)
    called.tell()


{"consume": work, "serve": work, "publish": publish, "call": call}[ROLE]()
