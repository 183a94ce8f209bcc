"""A connection that several calls share, with a scope of its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

import anyio

from .di import Scope
from .dispatch import call_procedure
from .scopes import ScopeOwner

if TYPE_CHECKING:
    from .app import App
    from .call import RpcRequest

_logger = logging.getLogger("microkit.scope")


class Connection:
    """An open connection: connection-scoped dependencies live as long as it does.

    Transports that multiplex calls open one per peer; `async with app.connection() as connection` opens one in process.

    Args:
        app: the application.
        peer: for logs.
    """

    def __init__(self, app: App, peer: str = "in process") -> None:
        self.app = app
        self.peer = peer
        self.owner: ScopeOwner
        self._error: BaseException | None
        self._closed: anyio.Event
        self._group: Any = None

    async def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a procedure over this connection; see `App.call`."""
        from .call import RpcRequest

        return await self.handle(RpcRequest(name, args, kwargs))

    async def handle(self, request: RpcRequest) -> Any:
        """Run an RPC request over this connection."""
        request.connection = self
        return await call_procedure(self.app, request)

    async def __aenter__(self) -> Self:
        await self.app.runtime.ensure_started()
        self.owner = ScopeOwner(Scope.CONNECTION, self.app.owner)
        self._error, self._closed = None, anyio.Event()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        await self._group.start(self._serve)
        return self

    async def _serve(self, *, task_status: Any) -> None:
        owner = self.owner
        with anyio.CancelScope() as shield:
            owner.adopt()
            task_status.started()
            try:
                await owner.serve()
            finally:
                try:
                    failure = await owner.close(self.app.settings.teardown_timeout, shield, self._error)
                finally:
                    self._closed.set()
                if failure is not None:
                    _logger.error("the connection scope of %s failed", self.peer, exc_info=failure)

    async def __aexit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        self._error = exc
        self.owner.stop()
        with anyio.CancelScope(shield=True):
            await self._closed.wait()
        await self._group.__aexit__(None, None, None)  # not told of the exception, so that it does not wrap it
