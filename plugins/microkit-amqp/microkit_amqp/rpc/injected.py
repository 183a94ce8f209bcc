"""Clients as services of an application: one connection each, opened only if some handler asks for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio.to_thread

from microkit import App, Provider
from microkit_amqp.settings import settings_of

from .client import AmqpRpcClient
from .sync import SyncRpcClient, SyncServiceProxy


def client_providers(app: App) -> list[Provider]:
    """Providers of `AmqpRpcClient` and `SyncRpcClient`, connected to the setting `url`.

    Args:
        app: whose settings are used when they start.
    """

    async def client() -> AsyncGenerator[AmqpRpcClient]:
        settings = settings_of(app)
        async with AmqpRpcClient(settings.url, settings=settings) as made:
            yield made

    async def sync_client() -> AsyncGenerator[SyncRpcClient]:
        settings = settings_of(app)
        made = SyncRpcClient(settings.url, settings=settings)
        await anyio.to_thread.run_sync(made.__enter__)
        try:
            yield made
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(made.__exit__, None, None, None)

    return [Provider(AmqpRpcClient, client, scope="app"), Provider(SyncRpcClient, sync_client, scope="app")]


class RPCProxyProvider:
    """A dependency that is a service for synchronous handlers, which run in worker threads.

        @app.on(Event("shop", "order_placed"))
        def ship(order: Order, greeter: Annotated[SyncServiceProxy, Depends(RPCProxyProvider("greeter"))]):
            greeter.hello("Bob")

    Asynchronous handlers ask for an `AmqpRpcClient` instead.

    Args:
        service: its name.
    """

    def __init__(self, service: str) -> None:
        self.service = service

    def __call__(self, client: SyncRpcClient) -> SyncServiceProxy:
        return SyncServiceProxy(client, self.service)
