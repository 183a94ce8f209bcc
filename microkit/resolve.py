"""From parameters to nodes: the compile-time half of dependency injection.

A parameter is filled, in this order, by: an explicit marker, special types and reserved names, a path parameter, a
provider of its annotation, the trigger's kind source, its default. Whatever is left fails here, at start-up.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import annotations, binding, params
from .annotations import Parameter
from .binding import Arguments, Binder, SourceContext
from .call import MISSING, Kind
from .catalog import Catalog, Recipe
from .container import Container
from .di import Depends, Scope, Tagged, TaggedServices, as_depends, class_dependencies, injected
from .errors import ResolutionError, nearest
from .graph import CALL, Dispose, Mode, Node, constant, disposal_of, mode_of

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .routing import Param
    from .triggers import Trigger

Bound = tuple[Callable[..., Any], list[Node]]  # a callable of positional arguments, and what fills them


@dataclass(frozen=True, eq=False)
class _Use:
    """A function whose parameters are being filled, and what asked for it."""

    func: Any
    label: str
    by: _Use | None = None
    is_service: bool = False
    is_handler: bool = False

    def chain(self) -> list[_Use]:
        """From the handler down to this one."""
        return [*(self.by.chain() if self.by is not None else ()), self]

    def __str__(self) -> str:
        return " -> ".join(each.label for each in self.chain())


class Resolver:
    """Resolves the parameters of one plan.

    Args:
        catalog: the application's.
        kind: kind of the calls.
        trigger: where plain parameters come from; None where there is no call data (app scope, container).
        endpoint: for hooks and messages.
        path: the dynamic segments of the route.
    """

    def __init__(
        self,
        catalog: Catalog,
        kind: Kind,
        trigger: Trigger | None = None,
        endpoint: Endpoint | None = None,
        path: Sequence[Param] = (),
    ) -> None:
        self.catalog = catalog
        self.kind = kind
        self.trigger = trigger
        self.endpoint = endpoint
        self.path = {param.name: (index, param.converter.type) for index, param in enumerate(path)}
        self._nodes: dict[Any, Node] = {}
        self._lazy: list[tuple[str, _Use, Scope]] = []  # tags whose services are made when they are iterated
        self._arguments: set[str] = set()  # RPC arguments that dependencies take
        self.plain: list[Parameter] = []  # parameters of the handler that the kind source fills

    # -- what is compiled ----------------------------------------------------------------------------------------------

    def handler(self, endpoint: Endpoint) -> Bound:
        """The handler as a callable of positional arguments, and the nodes that fill them."""
        use = _Use(endpoint.handler, endpoint.name, is_handler=True)
        found = annotations.parameters(endpoint.handler, endpoint.localns)
        given = {}
        if endpoint.owner is not None:
            owner = self.catalog.dependency(endpoint.owner, exact=True)
            if owner is None:
                raise self._error(None, use, f"{_type_name(endpoint.owner)} cannot be called to make an instance")
            given[found[0].name] = self._node(owner, use)
        return self._checked(self._fill(use, found, given))

    def middleware(self, func: Any, skip: int, label: str) -> Bound:
        """A middleware as a callable of its first `skip` arguments and the values of the nodes."""
        return self._checked(self._fill(_Use(func, label), self._parameters(func), skip=skip))

    def instance(self, cls: type, options: Mapping[str, Any]) -> Node:
        """The app-scoped node of one instance of a class: constructor arguments from `options`, the rest injected."""
        label = annotations.describe(cls)
        given = {name: constant(value, f"option {name}") for name, value in options.items()}
        make, nodes = self._checked(self._fill(_Use(cls, label, is_service=True), self._parameters(cls), given))
        self._check_captive(Scope.APP, label, nodes)
        return Node(label, Mode.SYNC, make, nodes, scope=Scope.APP)

    def service(self, key: Any) -> Node | None:
        """The node of a registered or overridden key; None if there is none."""
        try:
            recipe = self.catalog.service(key)
        except LookupError as exc:
            raise ResolutionError(str(exc)) from None
        return self._node(recipe, None) if recipe is not None else None

    def call(self, func: Any, extra: Mapping[str, Any]) -> Bound:
        """A function with some arguments given by name, as far as it takes them, and the others injected."""
        found = self._parameters(func)
        takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in found)
        known = {each.name for each in found}
        given = {name: constant(value) for name, value in extra.items() if takes_all or name in known}
        return self._fill(_Use(func, annotations.describe(func), is_service=True), found, given)

    def _parameters(self, func: Any) -> list[Parameter]:
        try:
            return annotations.parameters(func, self.endpoint.localns if self.endpoint is not None else None)
        except TypeError as exc:
            raise ResolutionError(f"{exc}. Wrap it in a function.") from None

    def _checked(self, bound: Bound) -> Bound:
        """`bound`, after the services that its collections will make later were resolved too."""
        while self._lazy:
            name, use, scope = self._lazy.pop()
            for provider in self.catalog.registry.tagged(name):
                recipe = self.catalog.service(provider.key)
                assert recipe is not None
                self._check_captive(scope, f"the collection of {name!r} in {use}", [self._node(recipe, None)])
        return bound

    # -- functions -----------------------------------------------------------------------------------------------------

    def _fill(
        self, use: _Use, found: Sequence[Parameter], given: Mapping[str, Node] | None = None, skip: int = 0
    ) -> Bound:
        filled = dict(given or {})
        annotated = {each.name: each.annotation for each in found}
        for name, marker in injected(use.func).items():
            filled[name] = self._depends(marker, annotated.get(name, annotations.Empty), use)
        variadic = {each.kind for each in found if each.variadic}
        unknown = [name for name in filled if name not in annotated]
        if unknown and inspect.Parameter.VAR_KEYWORD not in variadic:
            raise ResolutionError(
                f"{use.label} at {annotations.location(use.func)} takes no {', '.join(unknown)}; it takes "
                f"{', '.join(annotated) or 'nothing'}."
            )
        unclaimed: list[Parameter] = []
        for parameter in found[skip:]:
            if not parameter.variadic and parameter.name not in filled:
                node = self._claimed(parameter, use)
                if node is not None:
                    filled[parameter.name] = node
                else:
                    unclaimed.append(parameter)
        sources = self._sources(unclaimed, use)
        if use.is_handler:
            self.plain = [each for each in unclaimed if each.name in sources]
        for parameter in unclaimed:
            source = sources.get(parameter.name)
            filled[parameter.name] = _bound(source) if source else self._last_resort(parameter, use, len(found) == 1)
        call, names = annotations.positional(use.func, found, filled)
        nodes = [filled[name] for name in names]
        if not use.is_handler or self.trigger is None:
            return call, nodes
        others = self.trigger.others(
            self._arguments_of(use.func, found, unclaimed, nodes), self._context(use.func, use.is_handler)
        )
        return (call, nodes) if others is None else (_with_others(call), [_bound(others), *nodes])

    def _arguments_of(
        self, func: Any, found: Sequence[Parameter], unclaimed: list[Parameter], nodes: list[Node]
    ) -> Arguments:
        plain, kinds = {each.name for each in unclaimed}, {each.kind for each in found}
        claimed = {each.name for each in found if not each.variadic} - plain
        if inspect.ismethod(func):
            claimed.add(next(iter(inspect.signature(func.__func__).parameters)))  # its `self`
        args, kwargs = inspect.Parameter.VAR_POSITIONAL in kinds, inspect.Parameter.VAR_KEYWORD in kinds
        return Arguments(unclaimed, self._arguments, claimed, args, kwargs, any(map(_is_whole_call, nodes)))

    def _sources(self, unclaimed: list[Parameter], use: _Use) -> dict[str, Binder]:
        if not unclaimed or self.trigger is None or use.is_service:
            return {}
        try:
            sources = self.trigger.sources(unclaimed, self._context(use.func, use.is_handler))
        except TypeError as exc:
            raise self._error(unclaimed[0], use, str(exc)) from exc
        if not use.is_handler:
            self._arguments.update(sources)
        return sources

    def _last_resort(self, parameter: Parameter, use: _Use, alone: bool) -> Node:
        unresolved = isinstance(parameter.annotation, str)
        if parameter.default is not MISSING and (use.is_service or not unresolved):
            return constant(parameter.default, f"default {parameter.name}")
        if alone and use.is_service and not inspect.isclass(use.func) and parameter.annotation is annotations.Empty:
            return self._container()  # a factory of one plain parameter
        if parameter.optional and not unresolved:
            return constant(None, f"no {parameter.name}")
        raise self._error(parameter, use)

    def _context(self, func: Any, is_handler: bool) -> SourceContext:
        return SourceContext(self.catalog.validators, func, is_handler, len(self.path))

    # -- one parameter -------------------------------------------------------------------------------------------------

    def _claimed(self, parameter: Parameter, use: _Use) -> Node | None:
        marker = params.marker_of(parameter, (Depends, Tagged, params.Marker))
        if isinstance(marker, Tagged):
            return self._tagged(marker.name, use)
        if isinstance(marker, params.Marker):
            return self._marked(marker, parameter, use)
        if marker is not None:
            return self._depends(as_depends(marker), parameter.annotation, use, parameter)
        special = self._special(parameter, use)
        if special is not None:
            return special
        if parameter.name in self.path and not use.is_service:
            try:
                return _bound(binding.path_binder(parameter, *self.path[parameter.name], self.catalog.validators))
            except TypeError as exc:
                raise self._error(parameter, use, str(exc)) from exc
        key = parameter.name if parameter.annotation is annotations.Empty else parameter.annotation
        try:
            recipe = self.catalog.service(key)
        except LookupError as exc:
            raise self._error(parameter, use, str(exc)) from None
        return self._node(recipe, use) if recipe is not None else None

    def _marked(self, marker: params.Marker, parameter: Parameter, use: _Use) -> Node:
        place = params.Place(self.kind, self.trigger, self.path, self.catalog.validators, use.func)
        try:
            binder = marker.binder(params.unmarked(parameter, marker), place)
        except (TypeError, LookupError) as exc:
            raise self._error(parameter, use, str(exc.args[0])) from exc
        if binder is None and self.endpoint is not None:
            binder = self.catalog.bind(parameter, self.endpoint)
        if binder is not None:
            return _bound(binder)
        needs = "; install microkit-web for forms" if isinstance(marker, params.Form | params.File) else ""
        raise self._error(parameter, use, f"{type(marker).__name__} has no meaning in {self.kind.names()} calls{needs}")

    def _special(self, parameter: Parameter, use: _Use) -> Node | None:
        from .app import App

        annotation = parameter.annotation
        if inspect.isclass(annotation) and issubclass(annotation, App):
            return constant(self.catalog.app, "app")
        if annotation is Container or (parameter.name == "container" and annotation is annotations.Empty):
            return self._container()
        binder = self.catalog.bind(parameter, self.endpoint) if self.endpoint is not None else None
        if binder is None:
            return None
        if self.kind in binder.kinds:
            return _bound(binder)
        if annotation is annotations.Empty and self.trigger is not None and self.trigger.frees_names:
            return None
        if (
            parameter.default is not MISSING or parameter.optional
        ):  # it depends on the kind of call, so it lives no longer
            absent = parameter.default if parameter.default is not MISSING else None
            return constant(absent, f"no {parameter.name}", Scope.BACKGROUND)
        raise self._error(
            parameter,
            use,
            f"{binder.label or parameter.name} exists in {binder.kinds.names()} calls only, and this is a "
            f"{self.kind.names()} binding",
        )

    def _container(self) -> Node:
        app = self.catalog.app
        if self.trigger is None:
            return constant(app.container, "container")
        if "container" not in self._nodes:
            self._nodes["container"] = Node(
                "container", Mode.SYNC, lambda call: Container(app, call), (CALL,), scope=Scope.CALL, dynamic=True
            )
        return self._nodes["container"]

    def _tagged(self, name: str, use: _Use) -> Node:
        container = self._container()
        self._lazy.append((name, use, container.scope))
        return Node(
            f"tagged {name}", Mode.SYNC, lambda each: TaggedServices(each, name), (container,), scope=container.scope
        )

    # -- dependencies and services -------------------------------------------------------------------------------------

    def _depends(self, marker: Depends, annotation: Any, use: _Use, parameter: Parameter | None = None) -> Node:
        key = annotation if marker.dependency is None else marker.dependency
        try:
            recipe = self.catalog.dependency(key) if key is not annotations.Empty else None
        except LookupError as exc:
            raise self._error(parameter, use, str(exc)) from None
        if recipe is not None:
            return self._node(recipe, use, marker)
        if isinstance(key, str):
            names = sorted(str(each.key) for each in self.catalog.registry if isinstance(each.key, str))
            known = ", ".join(names) or "none"
            why = f"no service is registered as {key!r}.{nearest(key, names)} There are: {known}"
        elif key is annotations.Empty:
            why = "Depends() without a dependency needs an annotation to go by"
        else:
            why = f"{_type_name(key)} is no registered service, and cannot be called to make one"
        raise self._error(parameter, use, why)

    def _node(self, recipe: Recipe, use: _Use | None, marker: Depends | None = None) -> Node:
        """The node of a recipe: the one that exists already, unless the marker wants one of its own."""
        scope = recipe.scope if marker is None or marker.scope is None else Scope.of(marker.scope)
        thread = marker is not None and marker.thread
        key = (recipe.source, scope, thread)
        shared = marker is None or marker.use_cache
        for nodes in (self._nodes, self.catalog.nodes) if shared else ():
            if key in nodes:
                return nodes[key]
        node = self._make(recipe, use, scope, thread)
        if not shared:
            return node
        if not node.fake:
            node = self.catalog.kept.get(key, node)
        (self.catalog.nodes if node.scope >= Scope.CONNECTION else self._nodes)[key] = node
        return node

    def _make(self, recipe: Recipe, by: _Use | None, scope: Scope | None, thread: bool) -> Node:
        label, func = recipe.label, recipe.factory
        if recipe.value is not MISSING:
            if recipe.hooks == (None, None):
                return constant(recipe.value, label, fake=recipe.fake)
            return Node(label, func=lambda: recipe.value, scope=Scope.APP, plugin=recipe.plugin, hooks=recipe.hooks)
        chain = by.chain() if by is not None else []
        names = [each.label for each in chain]
        start = next((i for i, each in enumerate(chain) if each.func == func), None)
        if start is not None:
            raise ResolutionError(
                f"Dependency cycle: {' -> '.join([*names[start:], label])} (at {annotations.location(func)}). "
                f"Break it: let one of them take a Container and ask for the other when it is needed."
            )
        outlives = scope is not None and scope >= Scope.CONNECTION
        use = _Use(func, label, by, is_service=recipe.is_service or outlives)
        resolver = self._detached() if outlives else self
        call, nodes = resolver._fill(use, resolver._parameters(func))
        if inspect.isclass(func):
            call, nodes = resolver._with_attributes(func, call, nodes, use)
        dispose = disposal_of(func, recipe.key) if recipe.is_service else Dispose.NOTHING
        node = Node(
            label,
            mode_of(func),
            call,
            nodes,
            dispose=dispose,
            plugin=recipe.plugin,
            hooks=recipe.hooks,
            thread=thread,
            fake=recipe.fake,
        )
        node.scope = scope if scope is not None else self._longest(node, recipe.longest)
        self._check_captive(node.scope, label, nodes)
        if node.hooks != (None, None) and node.scope is not Scope.APP:
            raise ResolutionError(f"{label} has start or stop hooks, so it must be able to live as long as the app.")
        return node

    def _detached(self) -> Resolver:
        """The resolver of what outlives a call: no call data, and the application's container."""
        resolver = Resolver(self.catalog, self.kind, None, self.endpoint)
        resolver._lazy = self._lazy
        return resolver

    @staticmethod
    def _longest(node: Node, longest: Scope) -> Scope:
        """How long a node without a declared scope lives: as long as all that it holds."""
        lives = min([longest, *(each.scope for each in node.args)])
        return Scope.CALL if lives is Scope.BACKGROUND and node.needs_exit else lives

    def _with_attributes(self, cls: type, call: Callable[..., Any], nodes: list[Node], use: _Use) -> Bound:
        attributes = class_dependencies(cls)
        if not attributes:
            return call, nodes
        names, count = tuple(attributes), len(nodes)

        def build(*values: Any) -> Any:
            instance = call(*values[:count])
            for name, value in zip(names, values[count:], strict=True):
                setattr(instance, name, value)
            return instance

        return build, [*nodes, *(self._depends(each, annotations.Empty, use) for each in attributes.values())]

    @staticmethod
    def _check_captive(scope: Scope, label: str, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if node.scope < scope:
                held = f"call data ({node.label})" if node.args == (CALL,) else node.label
                lives = "call" if node.args == (CALL,) else node.scope.name.lower()
                raise ResolutionError(
                    f"{label} lives as long as the {scope.name.lower()}, but holds {held}, which lives for one {lives} "
                    f"only. Give {label} the scope {lives!r}, give what it holds the scope {scope.name.lower()!r}, or "
                    f"let it take a Container and ask when it is needed."
                )

    def _error(self, parameter: Parameter | None, use: _Use, why: str = "") -> ResolutionError:
        where = f"{annotations.describe(use.func)} at {annotations.location(use.func)}"
        needed = f"{use} for {f'binding {self.trigger}' if self.trigger is not None else 'a service'}"
        if parameter is None:
            return ResolutionError(f"A dependency of {where}, needed by {needed}, cannot be made: {why}.")
        annotation = parameter.annotation
        shown = parameter.name if annotation is annotations.Empty else f"{parameter.name}: {_type_name(annotation)}"
        if isinstance(annotation, str):
            why = why or f"the name {annotation!r} cannot be resolved (is it imported under TYPE_CHECKING only?)"
        tried = ["markers", "special types and names"]
        if not use.is_service:
            tried.append(f"path parameters ({', '.join(self.path) or 'none'})")
        tried.append("services by type and name")
        if not use.is_service and self.trigger is not None:
            tried.append(f"the source of plain values in {self.kind.names()} calls")
        tried.append("its default")
        return ResolutionError(
            f"Nothing fills the parameter {shown!r} of {where}, needed by {needed}{': ' + why if why else ''}. Tried: "
            f"{', '.join(tried)}. Register a service for that type, mark the parameter (Depends, Query, Body, ...), or "
            f"give it a default."
        )


def _is_whole_call(node: Node) -> bool:
    """Whether a node gives all arguments of a call, so that whoever takes it judges them."""
    return node.is_source and (node.label in ("call", "request", "rpc request") or node.label.startswith("payload "))


def _with_others(func: Callable[..., Any]) -> Callable[..., Any]:
    def call(others: Any, *values: Any) -> Any:
        return func(*values, *others[0], **others[1])

    return call


def _bound(binder: Binder) -> Node:
    mode = Mode.ASYNC if binder.is_async else Mode.SYNC
    return Node(binder.label, mode, binder.get, (CALL,), scope=Scope.BACKGROUND)


def _type_name(tp: Any) -> str:
    return annotations.describe(tp) if inspect.isclass(tp) else str(tp)
