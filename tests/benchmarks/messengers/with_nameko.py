"""nameko 3 on eventlet; runs in an environment of its own."""

# ruff: noqa: E402

import eventlet

eventlet.monkey_patch()  # before all that is to use it

from kombu import Connection, Exchange, Queue
from measured import EVENT, PREFETCH, ROLE, SOURCE, URL, Called, Consumed, Published, order, total
from nameko import config
from nameko.events import event_handler
from nameko.rpc import rpc
from nameko.runners import ServiceRunner
from nameko.standalone.events import event_dispatcher
from nameko.standalone.rpc import ClusterRpcClient

CONFIG = {"AMQP_URI": URL, "max_workers": PREFETCH, "prefetch_count": PREFETCH}
consumed = Consumed() if ROLE == "consume" else None


class Orders:
    name = "orders"

    @event_handler(SOURCE, EVENT)
    def handler(self, order):
        consumed.saw(order["id"])


class Totals:
    name = "totals"

    @rpc
    def total(self, id):
        return total(id)


def work(service):
    with config.patch(CONFIG):
        runner = ServiceRunner()
        runner.add_service(service)
        runner.start()
        runner.wait()


def publish():
    published = Published()
    exchange = Exchange(f"{SOURCE}.events", "topic", durable=True)
    queue = Queue(f"evt-{SOURCE}-{EVENT}--orders.handler", exchange, EVENT, durable=True)
    with Connection(URL) as connection:
        queue.bind(connection.channel()).declare()

    with config.patch(CONFIG):
        dispatch = event_dispatcher()
        for number in published.numbers():
            dispatch(SOURCE, EVENT, order(number))
    published.tell()


def call():
    called = Called()
    with ClusterRpcClient(uri=URL, timeout=30) as cluster:

        def send(number):
            return cluster.totals.total.call_async(number).result

        called.in_windows(send)
        called.tell()


{"consume": lambda: work(Orders), "serve": lambda: work(Totals), "publish": publish, "call": call}[ROLE]()
