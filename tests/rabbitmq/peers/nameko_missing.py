"""A stand-alone nameko client: what it says of a method and of a service that do not exist."""

import json
import sys

try:
    from nameko.standalone.rpc import ClusterRpcClient

    def client(uri):
        return ClusterRpcClient(uri=uri)

except ImportError:
    from nameko.standalone.rpc import ClusterRpcProxy

    def client(uri):
        return ClusterRpcProxy({"AMQP_URI": uri})


def outcome(call):
    try:
        return call()
    except Exception as exc:
        return type(exc).__name__


with client(sys.argv[1]) as rpc:
    print(
        json.dumps(
            {
                "hello": outcome(lambda: rpc.ours.hello("Bob", greeting="hey")),
                "method": outcome(lambda: rpc.ours.nope()),
                "signature": outcome(lambda: rpc.ours.hello(1, 2, 3, 4)),
                "service": outcome(lambda: rpc.nowhere.hello()),
            }
        )
    )
