"""The container: services asked for by code instead of by a parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import annotations
from .call import MISSING, Call
from .di import Key, Provider, Registry, TaggedServices
from .errors import ResolutionError
from .graph import call_maybe_async

if TYPE_CHECKING:
    from .app import App
    from .resolve import Resolver
    from .scopes import LiveScope


class Container:
    """Access to services within one scope.

    `app.container` belongs to the application; the one that a handler is injected belongs to its call and sees both.

    Args:
        app: the application.
        call: the call; None for the application's scope.
    """

    def __init__(self, app: App, call: Call | None = None) -> None:
        self._app = app
        self._call = call

    @property
    def registry(self) -> Registry:
        """The providers."""
        return self._app.registry

    def has(self, key: Key) -> bool:
        """Whether some service answers to `key`."""
        return self._local[key] is not MISSING if key in self._local else self.registry.find(key) is not None

    def set(self, key: Key, value: Any) -> None:
        """Let `get` answer with `value`: in this call only, or for the application if this is its container.

        Parameters keep what they were compiled for.
        """
        if self._call is not None:
            self._local[key] = value
        else:
            self.registry.add(Provider(key, value=value))

    def remove(self, key: Key) -> None:
        """Forget the service of `key`, in this call only or for the application."""
        if self._call is not None:
            self._local[key] = MISSING
        else:
            self.registry.remove(key)

    def tagged(self, name: str) -> TaggedServices:
        """The services of a tag, as a lazy collection."""
        return TaggedServices(self, name)

    async def get(self, key: Key) -> Any:
        """The service of a key; made if there is none in this scope yet.

        Args:
            key: a type, or the name of a registered service.

        Raises:
            ResolutionError: there is no such service, or it needs a call and this is the application's container.
        """
        if key in self._local:
            if self._local[key] is not MISSING:
                return self._local[key]
            node = None
        else:
            node = self._resolver.service(key)
        if node is None:
            raise ResolutionError(
                f"No service is registered for {annotations.describe(key)}. Yield it from a ServiceProvider or use "
                f"app.registry.add(Provider(...))."
            )
        return await self._scope.get(node)

    async def call(self, func: Callable[..., Any], extra_args: Mapping[str, Any] | None = None) -> Any:
        """Call `func` with its parameters taken from `extra_args` by name, else injected.

        Args:
            func: sync or async; a sync one runs on the event loop.
            extra_args: what it does not take is left out.
        """
        bound, nodes = self._resolver.call(func, extra_args or {})
        return await call_maybe_async(bound, *[await self._scope.get(node) for node in nodes])

    @property
    def _local(self) -> dict[Key, Any]:
        return self._call.live_scope.local if self._call is not None else {}

    @property
    def _scope(self) -> LiveScope:
        return self._call.live_scope if self._call is not None else self._app.owner

    @property
    def _resolver(self) -> Resolver:
        if self._call is not None:
            return self._call.plan.resolver
        self._app.build()
        return self._app.resolver
