"""micro-framework, worker threads; runs in an environment of its own."""

from kombu import Connection, Exchange, Queue
from measured import EVENT, PREFETCH, ROLE, SOURCE, URL, Called, Consumed, Published, order, total
from micro_framework.amqp.dependencies import Producer, RPCProxyProvider
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.dependencies import inject
from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.routes import Route
from micro_framework.runner import Runner, RunnerContext

consumed = Consumed() if ROLE == "consume" else None


def handler(order):
    consumed.saw(order["id"])


def answer(id):
    return total(id)


@inject(producer=Producer(service_name=SOURCE))
def publisher(moment, producer):
    published = Published()
    for number in published.numbers():
        producer(EVENT, order(number))
    published.tell()


@inject(totals=RPCProxyProvider("totals"))
def caller(moment, totals):
    called = Called()

    def send(number):
        future = totals.answer.call_async(number)
        return lambda: future.result(timeout=30)

    called.in_windows(send)
    called.tell()


def declare():
    exchange = Exchange(f"{SOURCE}.events", "topic", durable=True, auto_delete=True)
    queue = Queue(f"{SOURCE}.{EVENT}__orders.handler", exchange, EVENT, durable=True)
    with Connection(URL) as connection:
        queue.bind(connection.channel()).declare()


def run(service, target, entrypoint):
    config = {"AMQP_URI": URL, "SERVICE_NAME": service, "MAX_WORKERS": PREFETCH, "WORKER_MODE": "thread"}
    Runner([RunnerContext([Route(target, entrypoint=entrypoint)])], config=config).start()


if ROLE == "consume":
    run("orders", handler, EventListener(SOURCE, EVENT))
elif ROLE == "serve":
    run("totals", answer, RPCListener())
else:
    if ROLE == "publish":
        declare()
    run("client", publisher if ROLE == "publish" else caller, TimeEntrypoint(1))
