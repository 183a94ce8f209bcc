"""dramatiq, one process with eight threads. It has no results over RabbitMQ."""

import threading

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from measured import ROLE, URL, Consumed, Published, order

broker = RabbitmqBroker(url=URL, confirm_delivery=True)
dramatiq.set_broker(broker)
consumed = Consumed() if ROLE == "consume" else None


@dramatiq.actor(queue_name="orders")
def order_placed(order):
    consumed.saw(order["id"])


def consume():
    dramatiq.Worker(broker, worker_threads=8).start()
    threading.Event().wait()


def publish():
    published = Published()
    for number in published.numbers():
        order_placed.send(order(number))
    published.tell()


{"consume": consume, "publish": publish}[ROLE]()
