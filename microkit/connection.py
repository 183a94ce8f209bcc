"""A connection that several calls share, with a scope of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from .di import Scope
from .dispatch import call_procedure
from .graph import ScopeOwner

if TYPE_CHECKING:
    from .app import App
    from .call import RpcRequest


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
        self.owner = ScopeOwner(Scope.CONNECTION, app.owner)
        self._group: Any = None

    async def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a procedure over this connection; see `App.call`."""
        from .call import RpcRequest

        return await self.handle(RpcRequest(name, args, kwargs))

    async def handle(self, request: RpcRequest) -> Any:
        """Run an RPC request over this connection."""
        request.connection = self
        return await call_procedure(self.app, request)

    async def __aenter__(self) -> Connection:
        await self.app.runtime.ensure_started()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        await self._group.start(self._serve)
        return self

    async def _serve(self, *, task_status: Any) -> None:
        with anyio.CancelScope() as shield:
            self.owner.adopt()
            task_status.started()
            try:
                await self.owner.serve()
            finally:
                await self.owner.close(self.app.settings.teardown_timeout, shield)

    async def __aexit__(self, *exc_info: Any) -> None:
        self.owner.stop()
        await self._group.__aexit__(*exc_info)
