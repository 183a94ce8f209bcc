"""The seed's entrypoints: each names the trigger, and the options, that its route is bound by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from microkit import Event, Every, Trigger

from .queues import BrokerProcedure, Queue


class Entrypoint(Protocol):
    """What starts the target of a route."""

    def trigger(self, service: str, target: str) -> tuple[Trigger, dict[str, Any]]:
        """The trigger and options of `app.on`.

        Args:
            service: name of the service.
            target: name of the target.
        """
        ...


class TimeEntrypoint:
    """Fires every so many seconds, one call at a time, and passes the time. Each service fires on its own; for one
    firing in a cluster use microkit-cron.

    Args:
        interval: seconds.
        timing: further arguments of `microkit.Every`.
    """

    def __init__(self, interval: float, **timing: Any) -> None:
        self.every = Every(interval, **timing)

    def trigger(self, service: str, target: str) -> tuple[Trigger, dict[str, Any]]:
        """See `Entrypoint`."""
        return self.every, {}


class EventListener:
    """The events of a service.

    Args:
        source_service: who publishes them.
        event_name: what happened.
        payload_filter: takes the payload, may be async; only messages for which it is true reach the target.
        mode: `pool`: all processes of this service share them; `broadcast`: each gets every one; `singleton`: all
            services that listen in this mode share them.
        options: further options of `app.on(Event(...))`.
    """

    def __init__(
        self,
        source_service: str,
        event_name: str,
        payload_filter: Callable[[Any], Any] | None = None,
        mode: str = "pool",
        **options: Any,
    ) -> None:
        self.event = Event(source_service, event_name)
        self.options = {"mode": mode, **({"payload_filter": payload_filter} if payload_filter else {}), **options}

    def trigger(self, service: str, target: str) -> tuple[Trigger, dict[str, Any]]:
        """See `Entrypoint`."""
        return self.event, dict(self.options)


class QueueListener:
    """The messages of a queue of one's own choice.

    Args:
        exchange_name: of the exchange that it is bound to, such as `orders.events`; brokers without exchanges take what
            is before `.events` for the name of the publishing service.
        routing_key: what it is bound by: the name of the event.
        exchange_type: `topic`, `direct` or `fanout`, where the broker has such types.
        queue_name: None: `{exchange}_{key}_queue`.
        payload_filter: as for `EventListener`.
    """

    def __init__(
        self,
        exchange_name: str,
        routing_key: str,
        exchange_type: str = "topic",
        queue_name: str | None = None,
        payload_filter: Callable[[Any], Any] | None = None,
    ) -> None:
        name = queue_name or f"{exchange_name}_{routing_key}_queue"
        options = {"exchange": exchange_name, "exchange_type": exchange_type, "routing_key": routing_key}
        self.queue = Queue(name, exchange_name.removesuffix(".events"), routing_key, options)
        self.options = {"payload_filter": payload_filter} if payload_filter else {}

    def trigger(self, service: str, target: str) -> tuple[Trigger, dict[str, Any]]:
        """See `Entrypoint`."""
        return self.queue, dict(self.options)


class RPCListener:
    """Calls of the target by its name, over the broker: `service.target`, or `service.Class.method`.

    Args:
        name: of the procedure instead of the target's own.
        idempotent: a call may run twice, after a crash; otherwise at most once.
    """

    def __init__(self, name: str | None = None, idempotent: bool = False) -> None:
        self.name = name
        self.idempotent = idempotent

    def trigger(self, service: str, target: str) -> tuple[Trigger, dict[str, Any]]:
        """See `Entrypoint`."""
        return BrokerProcedure(f"{service}.{self.name or target}"), {"idempotent": self.idempotent}
