"""Exchanges, queues and bindings as data: what a queue needs for work, retries and dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from microkit.broker import QueueSpec
from microkit.errors import StartupError, nearest

DEAD_EXCHANGE = "mk.dlx"
SHARED_DEAD = "mk.dead"
"""The dead letters of exclusive queues, whose own ones would outlive them by name."""

LEVELS = 25
TICK_MS = 100
"""Delays that have no queue of their own pass up to 25 levels of 2^n * 100 ms, together up to 38 days."""

DELIVER = "mk.delay.deliver"
DELAYED = "mk.delayed"
_STARS = ".".join("*" * LEVELS)
_LONGEST_KEY = 255
_OPTIONS = ("exchange", "exchange_type", "routing_key", "foreign", "delivery_limit", "max_length")


@dataclass(frozen=True)
class Exchange:
    """An exchange.

    Attributes:
        name, type, durable, auto_delete, arguments: as AMQP has them.
        shared: it belongs to others as well, so it is used as it is if only `auto_delete` differs.
    """

    name: str
    type: str = "topic"
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    shared: bool = False


@dataclass(frozen=True)
class Queue:
    """A queue. All attributes are as AMQP has them."""

    name: str
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Bind:
    """A binding of a queue, or of an exchange, to an exchange.

    Attributes:
        destination: what gets the messages.
        source: the exchange that they come from.
        key: routing key or pattern.
        to_exchange: the destination is an exchange.
    """

    destination: str
    source: str
    key: str
    to_exchange: bool = False


@dataclass(frozen=True)
class Topology:
    """What is to be declared, in this order: exchanges, queues, bindings."""

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    binds: tuple[Bind, ...] = ()

    def __add__(self, other: Topology) -> Topology:
        return Topology(
            (*self.exchanges, *(each for each in other.exchanges if each not in self.exchanges)),
            (*self.queues, *(each for each in other.queues if each not in self.queues)),
            (*self.binds, *(each for each in other.binds if each not in self.binds)),
        )

    def lasting(self) -> Topology:
        """What is left of it while the application does not run: all but its exclusive queues."""
        gone = {each.name for each in self.queues if each.exclusive}
        return Topology(
            self.exchanges,
            tuple(each for each in self.queues if each.name not in gone),
            tuple(each for each in self.binds if each.to_exchange or each.destination not in gone),
        )


def events_exchange(source: str) -> Exchange:
    """The exchange of a service's events, as nameko declares it."""
    return Exchange(f"{source}.events", shared=True)


def dead_name(queue: QueueSpec) -> str:
    """The queue that keeps the dead letters of a queue."""
    return SHARED_DEAD if queue.exclusive else f"{queue.name}.dead"


def dead_topology(queue: QueueSpec) -> Topology:
    """The queue that keeps the dead letters of a queue."""
    name = dead_name(queue)
    # An exclusive queue dead-letters nothing by itself, and a binding with its name would outlive it.
    key = name if queue.exclusive else queue.name
    # Reading dead letters delivers and returns them; RabbitMQ 4 would drop them after 20 times.
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}
    exchange = Exchange(DEAD_EXCHANGE, "direct")
    return Topology((exchange,), (Queue(name, arguments=arguments),), (Bind(name, DEAD_EXCHANGE, key),))


def _safe(key: str | None, exchange: str = "") -> dict[str, Any]:
    """Arguments of a quorum queue that hands on what leaves it without losing any; None keeps the routing key."""
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": exchange,
        **({} if key is None else {"x-dead-letter-routing-key": key}),
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def work_topology(queue: QueueSpec, delivery_limit: int) -> Topology:
    """A queue with its events and its dead letters.

    Args:
        queue: as it is asked for. Options: `exchange`, `exchange_type` and `routing_key` to bind to something else than
            events; `foreign` for a queue that others declare without arguments, such as nameko; `delivery_limit`;
            `max_length`, beyond which publishing is refused.
        delivery_limit: deliveries without an answer before the broker makes a dead letter.

    Raises:
        StartupError: an option is unknown.
    """
    options = dict(queue.options)
    for name in options:
        if name not in _OPTIONS:
            raise StartupError(
                f"The queue {queue.name!r} has an option {name!r} that RabbitMQ's broker does not know."
                f"{nearest(name, _OPTIONS)} There are: {', '.join(_OPTIONS)}."
            )
    exchange, key = _event_source(queue)
    dead = dead_topology(queue)
    arguments: dict[str, Any] = {}
    if queue.single_active:
        arguments["x-single-active-consumer"] = True
    if not (queue.exclusive or options.get("foreign")):
        arguments |= _safe(queue.name, DEAD_EXCHANGE)
        arguments["x-delivery-limit"] = options.get("delivery_limit", delivery_limit)
        if "max_length" in options:
            arguments["x-max-length"] = options["max_length"]
    made = Queue(queue.name, not queue.exclusive, queue.exclusive, queue.exclusive, arguments)
    bound = Topology() if exchange is None else Topology((exchange,), (), (Bind(queue.name, exchange.name, key),))
    return dead + Topology(queues=(made,)) + bound


def _event_source(queue: QueueSpec) -> tuple[Exchange | None, str]:
    options = queue.options
    if "exchange" in options:
        exchange = Exchange(options["exchange"], options.get("exchange_type", "topic"), shared=True)
        return exchange, options.get("routing_key", queue.event)
    if queue.source:
        return events_exchange(queue.source), options.get("routing_key", queue.event)
    return None, ""


# -- delays ------------------------------------------------------------------------------------------------------------


def has_own_queue(milliseconds: int) -> bool:
    """Whether a delay is round enough for a queue of its own: its milliseconds have two significant digits at most.

    Those are the delays that people write (250 ms, 1 s, 1.5 s, 10 s, 60 s), and there are few of them; what a jitter
    computes shares the levels. Queues with one delay each hold up nothing. They do not expire: RabbitMQ would drop
    an expired queue with the messages in it.
    """
    return milliseconds < 100 or len(str(milliseconds).rstrip("0")) <= 2


def rounded_up(milliseconds: int) -> int:
    """The next delay that has a queue of its own."""
    unit = 10 ** max(len(str(milliseconds)) - 2, 0)
    return -(-milliseconds // unit) * unit


def retry_queue(queue: str, milliseconds: int, *, exclusive: bool = False) -> Queue:
    """A queue that gives its messages back to another one after a fixed time.

    Args:
        queue: where they go.
        milliseconds: when.
        exclusive: that one is exclusive, so this one goes with it.
    """
    name = f"mk.retry.{queue}.{milliseconds}"
    if exclusive:
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, "x-message-ttl": milliseconds}
        return Queue(name, False, True, False, arguments)
    return Queue(name, arguments={**_safe(queue), "x-message-ttl": milliseconds})


def relay_queue(source: str, event: str) -> Topology:
    """A queue that publishes what it gets as an event, at once: where a delayed event waits for its time.

    An event without a listener is dropped, as one without a delay is; dead-lettering at least once would keep it.
    """
    arguments = {
        "x-queue-type": "quorum",
        "x-message-ttl": 0,
        "x-dead-letter-exchange": f"{source}.events",
        "x-dead-letter-routing-key": event,
    }
    return Topology((events_exchange(source),), (Queue(f"mk.event.{source}.{event}", arguments=arguments),))


def level_topology() -> Topology:
    """The levels: message and key pass level n if bit n of the delay is set, and skip it otherwise."""
    names = [f"mk.delay.{level}" for level in range(LEVELS)]
    exchanges = [Exchange(name) for name in (*names, DELIVER)]
    queues: list[Queue] = []
    binds: list[Bind] = []
    for level, name in enumerate(names):
        below = names[level - 1] if level else DELIVER
        before = "*." * (LEVELS - 1 - level)
        ttl = {"x-message-ttl": 2**level * TICK_MS}
        queues.append(Queue(name, arguments={**_safe(None, below), **ttl}))
        binds += [Bind(name, name, f"{before}1.#"), Bind(below, name, f"{before}0.#", to_exchange=True)]
    return Topology(tuple(exchanges), tuple(queues), tuple(binds))


def level_bind(queue: str) -> Bind:
    """What brings a queue its messages from the levels."""
    return Bind(queue, DELIVER, f"{_STARS}.{queue}")


def level_route(queue: str, milliseconds: int) -> tuple[str, str] | None:
    """Exchange and routing key that delay a message to a queue; None if the levels cannot."""
    ticks = -(-milliseconds // TICK_MS)
    key = f"{'.'.join(format(ticks, f'0{LEVELS}b'))}.{queue}"
    if ticks >= 2**LEVELS or len(key.encode()) > _LONGEST_KEY or {"*", "#"} & set(queue.split(".")):
        return None
    return f"mk.delay.{LEVELS - 1}", key


def delayed_topology(queue: str) -> Topology:
    """The exchange of rabbitmq_delayed_message_exchange, and a queue bound to it."""
    exchange = Exchange(DELAYED, "x-delayed-message", arguments={"x-delayed-type": "direct"})
    return Topology((exchange,), (), (Bind(queue, DELAYED, queue),))
