"""A nameko service; runs in an environment of its own, with nameko 2 or 3."""

from nameko.events import EventDispatcher, event_handler
from nameko.rpc import RpcProxy, rpc


class Boom(Exception):
    pass


class Greeter:
    name = "greeter"
    dispatch = EventDispatcher()
    ours = RpcProxy("ours")

    @rpc
    def hello(self, name, greeting="hi"):
        return f"{greeting} {name}"

    @rpc
    def boom(self):
        raise Boom("kaput", 7)

    @rpc
    def announce(self, value):
        self.dispatch("announced", {"value": value})

    @rpc
    def stack(self):
        return self.ours.stack()

    @rpc
    def call_ours(self, method, *args, **kwargs):
        try:
            return getattr(self.ours, method)(*args, **kwargs)
        except Exception as exc:
            return {"type": type(exc).__name__, "text": str(exc)}

    @event_handler("shop", "order_placed")
    def on_order(self, payload):
        self.dispatch("seen", {"order": payload})
