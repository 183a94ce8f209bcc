"""Message brokers: the protocol that their plugins implement, and what all of them write into headers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from . import _bridge
from .errors import PublicError, StartupError, StatusCode, nearest

if TYPE_CHECKING:
    from .app import App
    from .call import Reply, RpcRequest
    from .messages import Message
    from .settlement import Delivery

ATTEMPT = "x-microkit-attempt"
FIRST_SEEN = "x-microkit-first-seen"
LAST_RETRY = "x-microkit-last-retry"
REASON = "x-microkit-reason"
ORIGIN = "x-microkit-origin"
"""Headers of copies: the number of the attempt, two times in integer milliseconds since the epoch (AMQP's floats are
too short for them), why there is a copy, and the queue that a dead letter comes from."""

REDELIVERED = "x-microkit-redelivered"
"""Header of a delivered message that came back unanswered: how often, as far as the broker counts, else 1."""


class Unroutable(PublicError):
    """A message was sent to a queue that does not exist: UNAVAILABLE, told at once instead of by a time-out."""

    status = StatusCode.UNAVAILABLE


@dataclass(frozen=True)
class OutgoingMessage:
    """A message on its way to a broker.

    Attributes:
        body: the encoded payload.
        content_type: its media type.
        headers: texts and integers; names in lower case.
        message_id: tells copies and repetitions apart from others; the broker makes one if it is empty.
        correlation_id, reply_to: of requests and replies; `reply_to` names a queue.
        delay: seconds before it is delivered.
        expires: seconds after which nobody wants it any more; None: never.
    """

    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    message_id: str = ""
    correlation_id: str = ""
    reply_to: str = ""
    delay: float = 0.0
    expires: float | None = None


@dataclass(frozen=True)
class QueueSpec:
    """A queue that somebody wants to consume; its broker makes it if there is none.

    Attributes:
        name: of the queue.
        source, event: the event that is bound to it; empty: it gets only what is sent to it by name.
        exclusive: private to this subscription and gone with it: broadcasts and replies. Others are durable, as far as
            their broker is, and share their messages among all who consume them.
        single_active: only one of several consumers gets messages, the next one when that is gone.
        options: what only some brokers know, by its own names.
    """

    name: str
    source: str = ""
    event: str = ""
    exclusive: bool = False
    single_active: bool = False
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class DeadLetter:
    """A message that nobody could handle.

    Attributes:
        id: for `redrive`.
        queue: where it was to be handled.
        reason: why it was given up.
        attempts: how often it was tried.
        died_at: seconds since the epoch.
        message: as it was published.
    """

    id: str
    queue: str
    reason: str
    attempts: int
    died_at: float
    message: OutgoingMessage


@dataclass(frozen=True)
class QueueState:
    """How a queue is doing.

    Attributes:
        ready: messages that wait.
        unsettled: delivered, and not answered yet.
        delayed: waiting for their time.
        dead: dead letters.
    """

    ready: int = 0
    unsettled: int = 0
    delayed: int = 0
    dead: int = 0


OnMessage = Callable[["Message", "Delivery"], None]
"""Takes a delivery on the event loop and returns at once: whoever consumes has a place for `prefetch` of them."""


class Subscription(Protocol):
    """A running consumer."""

    async def cancel(self) -> None:
        """Take no more messages; those that were delivered can still be answered."""
        ...

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call back, on the event loop, each time that the connection under this consumer was lost.

        What was delivered before is stale then, and an exclusive queue has lost its messages. The broker restores the
        consumer by itself; once the broker is closed for good, that counts as lost, too.
        """
        ...


class Broker(Protocol):
    """A message broker. Its deliveries implement `microkit.settlement.Delivery`.

    One that has settings has a method `configure(app)` as well, which `broker_for` calls before anything else. One that
    gives up on whoever does not answer a delivery in time has an attribute `consumer_timeout`: how many seconds that
    is, 0 for never. One that may not know which queues there are has an attribute `cannot_list`: why, and what to do;
    empty if it does know.
    """

    async def connect(self) -> None:
        """Open the connection.

        Raises:
            StartupError: it cannot be opened; the message says why and what to do.
        """
        ...

    async def close(self) -> None:
        """Close it; unsettled deliveries come again."""
        ...

    async def publish(self, source: str, event: str, message: OutgoingMessage) -> None:
        """Publish an event to every queue that is bound to it; return when the broker has confirmed it.

        Raises:
            PublicError: UNAVAILABLE, the broker cannot be reached or did not confirm.
        """
        ...

    async def send(self, queue: str, message: OutgoingMessage) -> None:
        """Send a message to one queue; return when the broker has confirmed it.

        Raises:
            Unroutable: there is no such queue.
            PublicError: UNAVAILABLE, as `publish`.
        """
        ...

    async def subscribe(self, queue: QueueSpec, prefetch: int, on_message: OnMessage) -> Subscription:
        """Deliver the messages of a queue, at most `prefetch` unsettled ones at a time.

        Raises:
            StartupError: the queue exists with other properties; the message names them and what to do.
        """
        ...

    def rpc(self) -> RpcWire | None:
        """The broker's own wire for remote procedures; None: that which only needs queues serves."""
        ...

    async def state(self, queue: str) -> QueueState:
        """How a queue is doing; all zero if there is none."""
        ...

    def dead_letters(self, queue: str = "") -> AsyncIterator[DeadLetter]:
        """The dead letters of a queue, or of all, oldest first. They stay where they are."""
        ...

    async def redrive(self, queue: str, ids: frozenset[str] | None = None) -> int:
        """Put dead letters (all of the queue, or some) back where they came from, as first attempts.

        Returns:
            How many.
        """
        ...


@dataclass(frozen=True)
class TargetInfo:
    """What may be known of a remote procedure.

    Attributes:
        name: as it is called.
        args: names of its positional parameters.
        kwargs: names of its keyword-only ones.
        doc: its docstring.
        idempotent: it may run more than once for one call, so its request is answered to the broker after it ran.
    """

    name: str
    args: tuple[str, ...] = ()
    kwargs: tuple[str, ...] = ()
    doc: str = ""
    idempotent: bool = False


OnRequest = Callable[["RpcRequest", Callable[["Reply"], Awaitable[None]]], None]
"""Takes a request, and what sends its reply, on the event loop, and returns at once."""


class RpcWire(Protocol):
    """Remote procedures over a broker: how requests and replies look on the wire."""

    async def serve(
        self, service: str, targets: Mapping[str, TargetInfo], prefetch: int, on_request: OnRequest
    ) -> Subscription:
        """Take requests to the procedures of a service, at most `prefetch` unanswered ones at a time.

        A request is answered to its broker before it runs, so that it runs at most once, unless its procedure is
        declared idempotent. One to an unknown procedure is answered by the wire itself.
        """
        ...

    async def call(
        self,
        service: str,
        target: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float,
        headers: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a procedure and wait for its result, at most `timeout` seconds.

        Raises:
            PublicError: NOT_FOUND without such a service or procedure, at once; DEADLINE_EXCEEDED; or what the
                procedure's error says. No class of the other side is imported.
        """
        ...

    async def targets(self, service: str, *, timeout: float) -> list[TargetInfo]:
        """The procedures of a service. Raises as `call`."""
        ...


def broker_for(app: App, url: str) -> Broker:
    """Make the broker that a URL selects; for ingresses and plugins, while the application starts.

    Args:
        app: the application; its plugins bring the brokers.
        url: such as `amqp://localhost` or `memory://`.

    Raises:
        StartupError: no plugin brings the scheme, or its broker cannot be used on this backend or with that many
            processes.
    """
    scheme = url.partition(":")[0]
    specs = {each: spec for spec in app.transports.values() if spec.broker is not None for each in spec.schemes}
    spec = specs.get(scheme)
    if spec is None or spec.broker is None:
        raise StartupError(
            f"No active plugin brings a broker for {scheme}://.{nearest(scheme, specs)} There are: "
            f"{', '.join(sorted(specs)) or 'none'}. Install or enable the plugin, or correct the URL."
        )
    if (backend := _bridge.current_backend()) not in spec.backends:
        raise StartupError(
            f"The broker {scheme}:// runs on {' and '.join(spec.backends)} only, not on {backend}. Use "
            f"--backend {spec.backends[0]}, or a broker of another scheme."
        )
    if spec.in_process and app.runtime.processes > 1:
        raise StartupError(
            f"The broker {scheme}:// lives in the memory of one process, so its messages would not reach the "
            f"others of the {app.runtime.processes} workers. Use a broker that processes share (such as sqlite:// or "
            f"amqp://), or one process (--workers 1)."
        )
    broker = spec.broker(url)
    if (configure := getattr(broker, "configure", None)) is not None:
        configure(app)
    return broker
