"""A micro-framework service; runs in an environment of its own."""

import sys

from micro_framework.amqp.dependencies import RPCProxyProvider
from micro_framework.amqp.entrypoints import RPCListener
from micro_framework.dependencies import inject
from micro_framework.routes import Route
from micro_framework.runner import Runner, RunnerContext


def hello(name, greeting="hi"):
    """Greets."""
    return f"{greeting} {name}"


def boom():
    raise ValueError("kaput")


@inject(ours=RPCProxyProvider("ours"))
def call_ours(method, *args, ours):
    try:
        return getattr(ours, method)(*args)
    except Exception as exc:
        return {"type": type(exc).__name__, "text": str(exc)}


@inject(ours=RPCProxyProvider("ours"))
def targets_of_ours(ours):
    return sorted(ours._client.list_targets(), key=lambda each: each["target"])


if __name__ == "__main__":
    config = {"AMQP_URI": sys.argv[1], "SERVICE_NAME": "legacy", "MAX_WORKERS": 4}
    routes = [Route(target, entrypoint=RPCListener()) for target in (hello, boom, call_ours, targets_of_ours)]
    Runner([RunnerContext(routes)], config=config).start()
