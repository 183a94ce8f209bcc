"""What the service does: plain functions and classes, with what they need injected."""

import time

from microkit import inject
from microkit_workers import BackOffData, Producer, RPCProxyProvider


@inject(producer=Producer(), retry=BackOffData())
def test(payload, producer, retry):
    print(f"Attempt {retry.retry_count + 1} with {payload}", flush=True)
    if payload.get("fails"):
        raise ConnectionError("the shop is closed")
    producer("event_name", {"some_key": "some_value"})


def test2(payload):
    print("Called after test function", flush=True)


def test_failure(payload, producer, retry):
    print("Called after test failed and the max_retries is reached.", flush=True)


class Class:
    producer = Producer()

    @inject(retry=BackOffData())
    def class_method(self, payload, retry):
        self.producer("class_event", {})
        print("Class method called", flush=True)


def amqp_rpc_task(arg1, arg2, *args, **kwargs):
    """My Docstring"""
    time.sleep(0.1)
    return f"{arg1} - {arg2} - {args} - {kwargs}"


# The service that is called; here it is this one.
@inject(service_rpc=RPCProxyProvider("my_service"))
def amqp_rpc_caller(reference, service_rpc):
    print(f"Targets: {service_rpc.targets}", flush=True)
    print(f"Info: {service_rpc.amqp_rpc_task.info}", flush=True)
    async_response = service_rpc.amqp_rpc_task.call_async("argument1", "argument2", "additional_arg", and_kwargs="too")
    print(f"This is an async response future {async_response.done()}", flush=True)
    response = service_rpc.amqp_rpc_task("argument3", "argument4")
    print(f"Sync Response: {response}", flush=True)
    print(f"Async Response result will lock until response: {async_response.result(timeout=None)}", flush=True)


@inject(producer=Producer("my_exchange"))
def customer(reference, producer):
    """Somebody who makes the service work."""
    producer("my_routing_key", {"order": 1})
    producer("my_routing_key", {"order": 2, "fails": True})
