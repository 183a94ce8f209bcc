"""Protocols of transports: what brings calls in and carries them out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .call import Kind

if TYPE_CHECKING:
    from .app import App
    from .call import Message


class TransportServer(Protocol):
    """An ingress: it turns what arrives into calls of the application."""

    async def start(self, app: App) -> None:
        """Open it. Returns when it accepts; the work goes on in tasks of the host (`app.runtime.tasks`).

        Raises:
            StartupError: it cannot be opened; the message says why and what to do.
        """
        ...

    async def stop(self, grace: float) -> None:
        """Stop accepting at once, let running calls finish for at most `grace` seconds, cancel the rest, close."""
        ...


class TransportClient(Protocol):
    """The caller's side of an RPC transport."""

    async def connect(self) -> None:
        """Open the connection."""
        ...

    async def close(self) -> None:
        """Close it."""
        ...

    async def request(self, service: str, method: str, payload: Any, metadata: Mapping[str, str]) -> Any:
        """Call a method and wait for its result."""
        ...

    def request_stream(
        self, service: str, method: str, payload: Any, metadata: Mapping[str, str]
    ) -> AsyncIterator[Any]:
        """Call a method that streams its results."""
        ...


class Subscription(Protocol):
    """A running consumer."""

    async def cancel(self) -> None:
        """Take no more messages."""
        ...


class Broker(Protocol):
    """A message broker. Its deliveries implement `microkit.settlement.Delivery`."""

    async def connect(self) -> None:
        """Open the connection."""
        ...

    async def close(self) -> None:
        """Close it; unsettled deliveries come again."""
        ...

    async def publish(self, source: str, name: str, body: bytes, headers: Mapping[str, Any]) -> None:
        """Publish an event; return when the broker confirmed it."""
        ...

    async def subscribe(
        self, source: str, name: str, queue: str, prefetch: int, on_message: Callable[[Message], Awaitable[None]]
    ) -> Subscription:
        """Deliver the messages of an event to `on_message`, at most `prefetch` unsettled at a time."""
        ...


@dataclass(frozen=True)
class TransportSpec:
    """A contributed transport.

    Attributes:
        name: what the host and `app.run` select it by.
        kinds: kinds of call that it brings in.
        server: makes the ingress, or None.
        client: makes the caller's side from a URL, or None.
        broker: makes a broker from a URL, or None.
        schemes: URL schemes that select it, such as `amqp`.
        backends: anyio backends that it runs on.
        durable: nothing that its broker accepted is lost.
        automatic: the host starts it by itself when the app has bindings of its kinds.
    """

    name: str
    kinds: Kind
    server: Callable[..., TransportServer] | None = None
    client: Callable[[str], TransportClient] | None = None
    broker: Callable[[str], Broker] | None = None
    schemes: tuple[str, ...] = ()
    backends: tuple[str, ...] = field(default=("asyncio", "trio"))
    durable: bool = False
    automatic: bool = False
