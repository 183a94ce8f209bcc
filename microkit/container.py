"""The container: services asked for by code instead of by a parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import annotations
from .call import Call
from .di import Depends, Key, Provider, Registry, Scope, TaggedServices
from .errors import ResolutionError
from .graph import Mode, Node, call_maybe_async
from .resolve import Resolver

if TYPE_CHECKING:
    from .app import App


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
        return self.registry.find(key) is not None

    def set(self, key: Key, value: Any) -> None:
        """Register an instance for `key`. Plans that are compiled already keep what they have."""
        self.registry.add(Provider(key, value=value))

    def remove(self, key: Key) -> None:
        """Forget the service of `key`."""
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
        if self.registry.find(key) is None:
            raise ResolutionError(
                f"No service is registered for {annotations.describe(key)}. Yield it from a ServiceProvider or use "
                f"app.registry.add(Provider(...))."
            )
        return await self._value(self._resolver()._depends(Depends(key), annotations.Empty, ()))

    async def call(self, func: Callable[..., Any], extra_args: Mapping[str, Any] | None = None) -> Any:
        """Call `func` with its parameters taken from `extra_args` by name, else injected."""
        extra = dict(extra_args or {})
        parameters = [each for each in annotations.parameters(func) if not each.variadic]
        wanted = [each for each in parameters if each.name not in extra]
        # A stand-in that takes only what is left, so that the resolver sees nothing else.
        _, nodes = self._resolver()._function(func, wanted, ((func, annotations.describe(func)),), positional_only=True)
        given = extra | {each.name: await self._value(node) for each, node in zip(wanted, nodes, strict=True)}
        return await call_maybe_async(lambda: func(**given))

    def _resolver(self) -> Resolver:
        app, call = self._app, self._call
        if call is None:
            return Resolver(app.catalog, app.all_kinds, None)
        return call.plan.resolver

    async def _value(self, node: Node) -> Any:
        call = self._call
        if node.mode is Mode.CONSTANT:
            return node.value
        if node.scope is Scope.APP:
            return await self._app.owner.get(node)
        if call is None:
            raise ResolutionError(
                f"{node.label} lives for one call, and there is none here. Ask for it in a handler, or inject the "
                f"handler's own Container."
            )
        return await call.plan.extra(call, node)
