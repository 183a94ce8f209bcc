"""Calling procedures from outside of a worker: scripts, shells, other programs."""

from __future__ import annotations

from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from types import TracebackType
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal

from microkit import App, StartupError
from microkit.broker import broker_for

from .brokers import MemoryBroker
from .crossing import Loop
from .proxy import SystemProxy
from .settings import WorkersSettings
from .wire import rpc_wire


class RpcClient:
    """A connection to a broker that calls procedures of all its services, as a context manager for coroutines and for
    synchronous code:

        async with RpcClient("amqp://localhost") as system:
            await system.greeter.hello("Bob")

        with RpcClient("sqlite:///jobs.db") as system:
            system.greeter.hello("Bob")

    What it gives is what `RPCSystemProxyProvider` injects. In synchronous code the connection lives in a thread of its
    own, and any thread may call; in coroutines it belongs to their event loop, and worker threads may call as well.

    Args:
        url: of the broker, as in the setting `broker`.
        timeout: seconds that a call waits; None: the setting `rpc_timeout`.
        options: further arguments of `App`, whose plugins bring the broker, such as
            `settings={"amqp": {"rpc_wire": "ufw"}}`.
    """

    def __init__(self, url: str, timeout: float | None = None, **options: Any) -> None:
        self._url = url
        self._timeout = timeout
        self._options: dict[str, Any] = {"name": "rpc-client", **options}
        self._opened: AsyncExitStack | None = None
        self._tasks: Any = None
        self._thread: ExitStack | None = None

    async def __aenter__(self) -> SystemProxy:
        """Connect.

        Raises:
            StartupError: there is no such broker, it cannot be reached, or nobody else can reach it.
        """
        if self._opened is not None:
            raise RuntimeError("this client is open already; make one for each block")
        app = App(**self._options)
        app.plugins  # noqa: B018  # loads the settings
        settings: WorkersSettings = app.all_settings.get("workers") or WorkersSettings()
        broker = broker_for(app, self._url)
        if isinstance(broker, MemoryBroker) and not broker.hub.name:
            raise StartupError(
                "A plain memory:// belongs to its application, so nobody else reaches the services in it. Inject "
                "RPCSystemProxyProvider() there, give the broker a name (memory://shop) that both sides use on one "
                "event loop, or take a durable one, such as sqlite:///jobs.db."
            )
        async with AsyncExitStack() as stack:
            await broker.connect()
            stack.push_async_callback(broker.close)
            wire = await stack.enter_async_context(asynccontextmanager(rpc_wire)(broker))
            self._tasks = anyio.create_task_group()
            await self._tasks.__aenter__()
            self._opened = stack.pop_all()
        return SystemProxy(wire, self._timeout or settings.rpc_timeout, Loop(self._tasks))

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give up the calls that still wait, and close the connection."""
        opened, self._opened = self._opened, None
        assert opened is not None
        try:
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)  # what the block raised is not to come out in a group
        finally:
            with anyio.CancelScope(shield=True):
                await opened.aclose()

    def __enter__(self) -> SystemProxy:
        """Connect, on an asyncio loop in a thread of its own. Raises as `__aenter__`."""
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio"))
            remote: AbstractContextManager[SystemProxy] = portal.wrap_async_context_manager(self)
            system = stack.enter_context(remote)
            self._thread = stack.pop_all()
        return system

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As `__aexit__`."""
        thread, self._thread = self._thread, None
        assert thread is not None
        thread.close()
