"""Protocols of transports: what brings calls in and carries them out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .call import Kind
from .errors import StartupError

if TYPE_CHECKING:
    import socket

    from anyio.abc import TaskGroup

    from .app import App
    from .broker import Broker


@dataclass(eq=False)
class Process:
    """The process that an ingress runs in, as its host describes it.

    Attributes:
        tasks: where an ingress starts its tasks. A failure of one of them ends the process.
        backend: the anyio backend that it runs on.
        index: number of this process among those that serve the application, from 0.
        count: how many there are.
        options: what `app.run(...)` was given for ingresses, such as `host` and `port`.
        sockets: listening sockets by the ingress and address that they were asked for with.
    """

    tasks: TaskGroup
    backend: str = "asyncio"
    index: int = 0
    count: int = 1
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sockets: dict[str, list[socket.socket]] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set[str])

    def listen(self, ingress: str, host: str, port: int, backlog: int = 2048) -> list[socket.socket]:
        """Listening TCP sockets, one per address of `host`; those of the supervisor where it has them already.

        Args:
            ingress: who asks, for messages and as part of the key.
            host: name or address; an empty one is every interface.
            port: 0 takes a free one.
            backlog: connections that may wait to be accepted.

        Raises:
            StartupError: the address cannot be taken; the message says why and what to do.
        """
        key = f"{ingress} {host}:{port}"
        if key in self._asked:  # two servers that accept from one socket would also close it twice
            raise StartupError(
                f"Two {ingress} ingresses ask for {host or '*'}:{port}. Open one of them only, or give each a port of "
                f"its own."
            )
        self._asked.add(key)
        if key not in self.sockets:
            from .listening import listen  # only who serves needs sockets

            self.sockets[key] = listen(ingress, host, port, backlog)
        return self.sockets[key]


class TransportServer(Protocol):
    """An ingress: it turns what arrives into calls of the application.

    Attributes:
        name: for logs, messages and `--only`.
    """

    @property
    def name(self) -> str: ...

    async def start(self, app: App, process: Process) -> None:
        """Open it. Returns when it accepts; the work goes on in `process.tasks`.

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


@dataclass(frozen=True)
class TransportSpec:
    """A contributed transport.

    Attributes:
        name: what the host and `app.run` select it by.
        kinds: kinds of call that it brings in.
        ingress: name of the ingress that its server is, as in `TriggerSpec.ingress`; empty: its own name. Of several
            automatic ones the host takes the first that runs on the backend.
        server: makes the ingress, without arguments; or None.
        client: makes the caller's side from a URL, or None.
        broker: makes a broker from a URL, or None.
        schemes: URL schemes that select it, such as `amqp`.
        backends: anyio backends that it runs on.
        durable: nothing that its broker accepted is lost.
        in_process: its broker lives in the memory of one process, so several processes would not hear each other.
        automatic: the host starts it by itself when the app has bindings for its ingress.
        wanted: takes the application and says whether the host starts it without any binding, such as by the settings.
    """

    name: str
    kinds: Kind
    ingress: str = ""
    server: Callable[[], TransportServer] | None = None
    client: Callable[[str], TransportClient] | None = None
    broker: Callable[[str], Broker] | None = None
    schemes: tuple[str, ...] = ()
    backends: tuple[str, ...] = field(default=("asyncio", "trio"))
    durable: bool = False
    in_process: bool = False
    automatic: bool = False
    wanted: Callable[[App], bool] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ingress", self.ingress or self.name)
