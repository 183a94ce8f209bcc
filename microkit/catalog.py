"""What the plans of an application share: recipes of dependencies, overrides, and the nodes that outlive a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_origin

from . import annotations
from .annotations import Parameter
from .binding import Binder
from .call import MISSING
from .di import Depends, Provider, Registry, Scope
from .graph import Node
from .validation import Validators

if TYPE_CHECKING:
    from .app import App
    from .endpoint import Endpoint


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a dependency is made, wherever it is asked for.

    Attributes:
        source: what it is: the provider, or the identity of a callable.
        key: what asks for it.
        factory, value: one of them makes it.
        scope: how long it lives; None: as long as what it holds allows, within `longest`.
        longest: the longest life without a declared scope.
        fake: it replaces another one.
    """

    source: Any
    key: Any
    factory: Any = None
    value: Any = MISSING
    scope: Scope | None = None
    longest: Scope = Scope.APP
    hooks: tuple[Any, Any] = (None, None)
    plugin: str = ""
    fake: bool = False

    @property
    def label(self) -> str:
        """For `explain` and errors."""
        return f"{'override of ' if self.fake else ''}{annotations.describe(self.key)}"

    @property
    def is_service(self) -> bool:
        """Whether its parameters take services and marked values alone, never plain values of the call."""
        return self.longest is Scope.APP or inspect.isclass(self.factory)


@dataclass
class Catalog:
    """What all plans of one application are compiled from.

    Attributes:
        app: the application.
        registry: its providers.
        validators: its validators.
        bind: the `bind_parameter` hook.
        overrides: replacements for dependencies, by callable or key.
        kept: nodes that an earlier catalog of the running application made; their instances may exist.
        nodes: the one node of each dependency that outlives a call.
    """

    app: App
    registry: Registry
    validators: Validators
    bind: Callable[[Parameter, Endpoint], Binder | None]
    overrides: Mapping[Any, Any] = field(default_factory=dict)
    kept: Mapping[Any, Node] = field(default_factory=dict)
    nodes: dict[Any, Node] = field(default_factory=dict)

    def all_nodes(self) -> dict[Any, Node]:
        """What a catalog that replaces this one may keep: all that no override is part of."""
        return {**self.kept, **{key: node for key, node in self.nodes.items() if not node.fake}}

    def service(self, key: Any) -> Recipe | None:
        """The recipe of a registered or overridden key; None if there is none.

        Raises:
            LookupError: several services implement it.
        """
        if hashable(key) and key in self.overrides:
            return self._fake(key, self.registry.get(key) if not inspect.isfunction(key) else None)
        provider = self.registry.find(key) if not inspect.isfunction(key) else None
        if provider is None:
            return None
        if provider.key in self.overrides:
            return self._fake(provider.key, provider)
        hooks = (provider.on_startup, provider.on_shutdown)
        assert not isinstance(provider.scope, str)
        return Recipe(
            provider,
            provider.key,
            provider.factory,
            provider.value,
            provider.scope,
            hooks=hooks,
            plugin=provider.plugin,
        )

    def dependency(self, key: Any, *, exact: bool = False) -> Recipe | None:
        """The recipe of whatever `Depends` may be given; None if it is neither a service nor callable.

        Args:
            exact: a service that implements `key` does not stand in for it.

        Raises:
            LookupError: several services implement it.
        """
        if not exact or key in self.registry or key in self.overrides:
            found = self.service(key)
            if found is not None:
                return found
        abstract = inspect.isabstract(key) or getattr(key, "_is_protocol", False)
        if not callable(key) or get_origin(key) is not None or abstract:
            return None
        return Recipe(_identity(key), key, key, longest=Scope.BACKGROUND)

    def _fake(self, key: Any, provider: Provider | None) -> Recipe:
        fake = self.overrides[key]
        scope = provider.scope if provider is not None else None
        assert not isinstance(scope, str)
        if isinstance(fake, Depends):
            scope, fake = scope if fake.scope is None else fake.scope, fake.dependency
        source = ("override", _identity(key), _identity(fake))
        longest = Scope.APP if provider is not None else Scope.BACKGROUND
        if not callable(fake) or (inspect.isclass(key) and not inspect.isclass(fake) and isinstance(fake, key)):
            return Recipe(source, key, value=fake, longest=longest, fake=True)
        return Recipe(source, key, fake, scope=scope, longest=longest, fake=True)


def hashable(value: Any) -> bool:
    """Whether `value` can be a key."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _identity(value: Any) -> Any:
    return value if hashable(value) else (id(value), type(value))
