import os

from tasks import Class, amqp_rpc_caller, amqp_rpc_task, customer, test, test2, test_failure

from microkit_workers import (
    AsyncBackOff,
    CallbackRoute,
    EventListener,
    Route,
    RPCListener,
    Runner,
    RunnerContext,
    TimeEntrypoint,
)

config = {
    "AMQP_URI": os.environ.get("AMQP_URI", "memory://"),
    "MAX_WORKERS": 3,
    "SERVICE_NAME": "my_service",
    "MAX_TASKS_PER_CHILD": 50,  # for the worker mode "process"
    "WORKER_MODE": os.environ.get("WORKER_MODE", "thread"),
}

contexts = [
    RunnerContext(
        routes=[
            CallbackRoute(
                test,
                callback_target=test_failure,  # after an error that is not retried, or not any more
                entrypoint=EventListener(source_service="my_exchange", event_name="my_routing_key"),
                backoff=AsyncBackOff(max_retries=2, interval=200, exception_list=None),
            ),
            Route(customer, entrypoint=TimeEntrypoint(10, immediate=True)),
        ],
        max_workers=3,  # by default that of the configuration
        worker_mode="thread",  # by default that of the configuration
        context_metric_label="context_1",
    ),
    RunnerContext(
        routes=[
            Route(
                test2,
                entrypoint=EventListener(
                    source_service="my_service",
                    event_name="event_name",
                    payload_filter=lambda payload: payload["some_key"] == "some_value",
                ),
            ),
            Route(
                Class,
                method_name="class_method",  # by default the instance itself is called
                entrypoint=EventListener(source_service="my_service", event_name="event_name"),
                backoff=AsyncBackOff(max_retries=5, interval=10000, exception_list=None),
            ),
            Route(amqp_rpc_task, entrypoint=RPCListener()),
            Route(amqp_rpc_caller, entrypoint=TimeEntrypoint(10, immediate=True)),
        ],
        context_metric_label="context_2",
    ),
]

if __name__ == "__main__":
    Runner(contexts, config).start()
