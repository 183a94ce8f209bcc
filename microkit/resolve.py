"""From parameters to nodes: the compile-time half of dependency injection.

A parameter is filled, in this order, by: an explicit marker, special types and reserved names, a path parameter, a
provider of its annotation, the trigger's kind source, its default. Whatever is left fails here, at start-up.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args, get_origin

from . import annotations, binding, params
from .annotations import Parameter
from .binding import Binder, SourceContext
from .call import MISSING, Kind
from .di import Depends, Provider, Registry, Scope, Tagged, TaggedServices, as_depends, class_dependencies, injected
from .errors import ResolutionError
from .graph import CALL, Dispose, Mode, Node, constant
from .validation import Validators

if TYPE_CHECKING:
    from .app import App
    from .endpoint import Endpoint
    from .routing import Param
    from .triggers import Trigger


@dataclass
class Catalog:
    """What all plans of one application are compiled from.

    Attributes:
        app: the application.
        registry: its providers.
        validators: its validators.
        bind: the `bind_parameter` hook.
        overrides: replacements for dependencies, by callable or key.
        app_nodes: the one node of each app-scoped key.
        base_nodes: those of the application without overrides; kept where no override is below them.
    """

    app: App
    registry: Registry
    validators: Validators
    bind: Callable[[Parameter, Endpoint], Binder | None]
    overrides: Mapping[Any, Any] = field(default_factory=dict)
    app_nodes: dict[Any, Node] = field(default_factory=dict)
    base_nodes: Mapping[Any, Node] = field(default_factory=dict)


_Trail = tuple[tuple[Any, str], ...]


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
        self.nodes: dict[Any, Node] = {}

    # -- functions -----------------------------------------------------------------------------------------------------

    def handler(self, endpoint: Endpoint) -> tuple[Callable[..., Any], list[Node]]:
        """The handler as a callable of positional arguments, and the nodes that fill them."""
        trail: _Trail = ((endpoint.handler, endpoint.name),)
        call, nodes = self._function(
            endpoint.handler, endpoint.parameters, trail, handler=True, extra=injected(endpoint.handler)
        )
        if endpoint.owner is not None:
            nodes = [self._depends(Depends(endpoint.owner), endpoint.owner, trail), *nodes]
        return call, nodes

    def middleware(self, func: Any, skip: int, label: str) -> list[Node]:
        """The nodes of a middleware's parameters after the first `skip` ones."""
        found = annotations.parameters(func)[skip:]
        _, nodes = self._function(func, found, ((func, label),), positional_only=True)
        return nodes

    def _function(
        self,
        func: Any,
        found: Sequence[Parameter],
        trail: _Trail,
        *,
        handler: bool = False,
        service: bool = False,
        positional_only: bool = False,
        extra: Mapping[str, Depends] | None = None,
    ) -> tuple[Callable[..., Any], list[Node]]:
        extra = extra or {}
        filled: dict[str, Node] = {}
        unclaimed: list[Parameter] = []
        for parameter in found:
            if parameter.name in extra:
                filled[parameter.name] = self._depends(extra[parameter.name], parameter.annotation, trail)
            elif not parameter.variadic:
                node = self._claimed(parameter, func, trail, service=service)
                if node is not None:
                    filled[parameter.name] = node
                else:
                    unclaimed.append(parameter)
        binders: dict[str, Binder] = {}
        if unclaimed and self.trigger is not None and not service:
            try:
                binders = self.trigger.sources(unclaimed, SourceContext(self.catalog.validators, func, handler))
            except TypeError as exc:
                raise self._error(unclaimed[0], func, trail, service, str(exc)) from exc
        for parameter in unclaimed:
            binder = binders.get(parameter.name)
            if binder is not None:
                filled[parameter.name] = self._bound(binder)
            elif parameter.default is not MISSING:
                filled[parameter.name] = constant(parameter.default, f"default {parameter.name}")
            elif service and self._is_plain_factory(func, found):
                filled[parameter.name] = self._container()
            elif parameter.optional:
                filled[parameter.name] = constant(None, f"no {parameter.name}")
            else:
                raise self._error(parameter, func, trail, service)
        return self._adapt(func, found, filled, unclaimed if handler else None, positional_only)

    def _adapt(
        self,
        func: Any,
        found: Sequence[Parameter],
        filled: dict[str, Node],
        arguments: list[Parameter] | None,
        positional_only: bool,
    ) -> tuple[Callable[..., Any], list[Node]]:
        """Make `func` callable with positional arguments alone."""
        plain = [each.name for each in found if not each.variadic and (positional_only or not each.keyword_only)]
        named = [each.name for each in found if each.keyword_only and each.name not in plain]
        nodes = [filled[name] for name in (*plain, *named)]
        if self.kind is Kind.RPC and arguments is not None:  # only the handler answers for the arguments of a call
            rest = {each.kind: each for each in found if each.variadic}
            if arguments or rest or not filled:
                return self._adapt_rpc(func, plain, named, nodes, arguments, rest)
        if not named:
            return func, nodes
        count, names = len(plain), tuple(named)
        return (lambda *v: func(*v[:count], **dict(zip(names, v[count:], strict=True)))), nodes

    def _adapt_rpc(
        self,
        func: Any,
        plain: list[str],
        named: list[str],
        nodes: list[Node],
        arguments: list[Parameter],
        rest: Mapping[Any, Parameter],
    ) -> tuple[Callable[..., Any], list[Node]]:
        """Let `*args` and `**kwargs` of a procedure take what no parameter took, and refuse it where there are none."""
        taken = [each.name for each in arguments]
        positional = sum(not each.keyword_only for each in arguments)
        if any(node.label.startswith("payload ") for node in nodes):
            return func, nodes  # the payload is one model, which judges its own fields
        check = binding.check_arguments(
            taken,
            positional,
            extra_args=inspect.Parameter.VAR_POSITIONAL in rest,
            extra_kwargs=inspect.Parameter.VAR_KEYWORD in rest,
        )
        known, count, names = frozenset(taken), len(plain), tuple(named)

        def more(request: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
            check(request)
            args, kwargs = binding.arguments_of(request)
            return args[positional:], {name: value for name, value in kwargs.items() if name not in known}

        source = Node("other arguments", Mode.SYNC, more, (CALL,), scope=Scope.BACKGROUND)

        def call(other: Any, *values: Any) -> Any:
            return func(*values[:count], *other[0], **dict(zip(names, values[count:], strict=True)), **other[1])

        return call, [source, *nodes]

    @staticmethod
    def _is_plain_factory(func: Any, found: Sequence[Parameter]) -> bool:
        """A service factory with one bare parameter is called with the container."""
        return not inspect.isclass(func) and len(found) == 1 and found[0].annotation is annotations.Empty

    # -- one parameter -------------------------------------------------------------------------------------------------

    def _claimed(self, parameter: Parameter, func: Any, trail: _Trail, *, service: bool) -> Node | None:
        marker = self._marker(parameter)
        if marker is not None:
            return self._marked(marker, parameter, func, trail, service)
        special = self._special(parameter, func, trail, service)
        if special is not None:
            return special
        if parameter.name in self.path and not service and self.trigger is not None:
            index, produces = self.path[parameter.name]
            try:
                return self._bound(binding.path_binder(parameter, index, produces, self.catalog.validators))
            except TypeError as exc:
                raise self._error(parameter, func, trail, service, str(exc)) from exc
        return self._provided(parameter, trail)

    @staticmethod
    def _marker(parameter: Parameter) -> Any:
        kinds = (Depends, Tagged, params.Marker)
        if isinstance(parameter.default, kinds):
            return parameter.default
        for item in (parameter.default, *parameter.metadata):
            if isinstance(item, kinds):
                return item
            if inspect.isclass(item) and issubclass(item, Depends | params.Marker):
                return item()
            if item is not MISSING and hasattr(type(item), "__microkit_depends__"):
                return as_depends(item)
        return None

    def _marked(self, marker: Any, parameter: Parameter, func: Any, trail: _Trail, service: bool) -> Node:
        if isinstance(marker, Depends):
            return self._depends(marker, parameter.annotation, trail)
        if isinstance(marker, Tagged):
            container = self._container()
            name = marker.name
            return Node(
                f"tagged {name}",
                Mode.SYNC,
                lambda each: TaggedServices(each, name),
                (container,),
                scope=container.scope,
            )
        default = parameter.default if not isinstance(parameter.default, params.Marker) else marker.default
        if default is MISSING:
            default = marker.default
        bare = Parameter(
            parameter.name, parameter.annotation, (), default, parameter.kind, parameter.optional, parameter.declared
        )
        name = marker.name_for(parameter.name)
        validators = self.catalog.validators
        http = Kind.HTTP | Kind.SOCKET
        try:
            if isinstance(marker, params.Path):
                if name not in self.path:
                    raise self._error(parameter, func, trail, service, f"the path has no {{{name}}}")
                index, produces = self.path[name]
                return self._bound(binding.path_binder(bare, index, produces, validators))
            if isinstance(marker, params.Header):
                return self._bound(binding.header_binder(bare, name, validators))
            if isinstance(marker, params.Body) and self.trigger is not None:
                if self.kind is Kind.HTTP:
                    context = SourceContext(validators, func, False)
                    return self._bound(binding.body_binder(bare, context, embed=name if marker.embed else ""))
                context = SourceContext(validators, func, True)
                found = self.trigger.sources([bare], context)
                if bare.name in found:
                    return self._bound(found[bare.name])
            elif isinstance(marker, params.Query | params.Cookie) and self.kind in http:
                make = binding.query_binder if isinstance(marker, params.Query) else binding.cookie_binder
                return self._bound(make(bare, name, validators))
        except TypeError as exc:
            raise self._error(parameter, func, trail, service, str(exc)) from exc
        if self.endpoint is not None:
            binder = self.catalog.bind(parameter, self.endpoint)
            if binder is not None:
                return self._bound(binder)
        needs = "; install microkit-web for forms" if isinstance(marker, params.Form | params.File) else ""
        raise self._error(
            parameter,
            func,
            trail,
            service,
            f"{type(marker).__name__} has no meaning in {self.kind.names()} calls{needs}",
        )

    def _special(self, parameter: Parameter, func: Any, trail: _Trail, service: bool) -> Node | None:
        from .app import App
        from .container import Container

        annotation = parameter.annotation
        if inspect.isclass(annotation) and issubclass(annotation, App):
            return constant(self.catalog.app, "app")
        if annotation is Container or (parameter.name == "container" and annotation is annotations.Empty):
            return self._container()
        if self.endpoint is None:
            return None
        binder = self.catalog.bind(parameter, self.endpoint)
        if binder is None:
            return None
        if self.kind not in binder.kinds:
            if parameter.default is not MISSING:
                return constant(parameter.default, f"default {parameter.name}")
            raise self._error(
                parameter,
                func,
                trail,
                service,
                f"{binder.label or parameter.name} exists in {binder.kinds.names()} calls only, and this is a "
                f"{self.kind.names()} binding",
            )
        return self._bound(binder)

    def _bound(self, binder: Binder) -> Node:
        mode = Mode.ASYNC if binder.is_async else Mode.SYNC
        return Node(binder.label, mode, binder.get, (CALL,), scope=Scope.BACKGROUND)

    def _container(self) -> Node:
        from .container import Container

        if self.trigger is None:
            return constant(self.catalog.app.container, "container")
        app = self.catalog.app
        return self._cached(
            "container", lambda: Node("container", Mode.SYNC, lambda c: Container(app, c), (CALL,), scope=Scope.CALL)
        )

    def _provided(self, parameter: Parameter, trail: _Trail) -> Node | None:
        annotation = parameter.annotation
        if annotation is annotations.Empty or isinstance(annotation, str):
            provider = self.catalog.registry.find(parameter.name) if annotation is annotations.Empty else None
            if provider is None and isinstance(annotation, str):
                provider = self.catalog.registry.find(annotation)
            return self._provider(provider, trail) if provider is not None else None
        provider = self.catalog.registry.find(annotation)
        if _hashable(annotation) and annotation in self.catalog.overrides:
            return self._override(annotation, trail, provider.scope if provider is not None else Scope.CALL)
        return self._provider(provider, trail) if provider is not None else None

    # -- dependencies and services -------------------------------------------------------------------------------------

    def _depends(self, marker: Depends, annotation: Any, trail: _Trail) -> Node:
        key = annotation if marker.dependency is None else marker.dependency
        if key is annotations.Empty or (
            isinstance(key, str) and key not in self.catalog.registry and key not in self.catalog.overrides
        ):
            names = sorted(str(each.key) for each in self.catalog.registry if isinstance(each.key, str))
            raise ResolutionError(
                f"Depends({key if isinstance(key, str) else ''!r}) in {_chain(trail)}: no service is registered under "
                f"that name. Registered names: {', '.join(names) or 'none'}. Use app.registry.register({key!r}, factory)."
            )
        provider = self.catalog.registry.find(key) if not inspect.isfunction(key) else None
        if _hashable(key) and key in self.catalog.overrides:
            return self._override(key, trail, marker.scope or (provider.scope if provider is not None else Scope.CALL))
        if provider is not None:
            return self._provider(provider, trail, marker)
        if not callable(key) or get_origin(key) is not None:
            raise ResolutionError(
                f"Depends({annotations.describe(key)}) in {_chain(trail)}: it is neither callable nor the key of a service."
            )

        def make() -> Node:
            return self._callable(
                key, annotations.describe(key), trail, marker.scope or Scope.CALL, thread=marker.thread
            )

        if not marker.use_cache:
            return make()
        return self._cached((key, marker.scope, marker.thread), make)

    def instance(self, cls: type, options: Mapping[str, Any]) -> Node:
        """The app-scoped node of one instance of a class: constructor arguments from `options`, the rest injected."""
        label = annotations.describe(cls)
        wanted = [each for each in annotations.parameters(cls) if each.name not in options and not each.variadic]
        known = {each.name for each in annotations.parameters(cls)}
        if any(name not in known for name in options) and not any(e.variadic for e in annotations.parameters(cls)):
            unknown = ", ".join(name for name in options if name not in known)
            raise ResolutionError(f"{label} takes no option {unknown}; it takes {', '.join(known) or 'none'}.")
        names = tuple(each.name for each in wanted)
        _, nodes = self._function(cls, wanted, ((cls, label),), service=True, positional_only=True)
        self._check_captive(Scope.APP, label, nodes)

        def make(*values: Any) -> Any:
            return cls(**dict(zip(names, values, strict=True)), **options)

        return Node(label, Mode.SYNC, make, nodes, scope=Scope.APP)

    def _override(self, key: Any, trail: _Trail, scope: Scope | str | None = Scope.CALL) -> Node:
        fake = self.catalog.overrides[key]
        if isinstance(fake, Depends):
            fake = fake.dependency
        label = f"override of {annotations.describe(key)}"
        if not callable(fake) or (inspect.isclass(key) and not inspect.isclass(fake) and isinstance(fake, key)):
            return self._cached(("override", key), lambda: constant(fake, label))
        return self._cached(("override", key), lambda: self._callable(fake, label, trail, scope))

    def _provider(self, provider: Provider, trail: _Trail, marker: Depends | None = None) -> Node:
        if _hashable(provider.key) and provider.key in self.catalog.overrides:
            return self._override(provider.key, trail, provider.scope)
        if provider.value is not MISSING:
            return self._app_node(provider, lambda: constant(provider.value, annotations.describe(provider.key)))
        if provider in self.catalog.app_nodes:
            return self.catalog.app_nodes[provider]
        label = annotations.describe(provider.key)
        scope = provider.scope if marker is None or marker.scope is None else marker.scope

        def make() -> Node:
            node = self._callable(
                provider.factory, label, trail, scope, service=True, plugin=provider.plugin, disposes=provider.key
            )
            node.hooks = (provider.on_startup, provider.on_shutdown)
            if node.scope is Scope.APP:
                base = self.catalog.base_nodes.get(provider)
                if base is not None and not _overridden(node):
                    node = base  # its instance may exist already
                self.catalog.app_nodes[provider] = node
            return node

        return self._cached(provider, make)

    def _app_node(self, key: Any, make: Callable[[], Node]) -> Node:
        if key not in self.catalog.app_nodes:
            self.catalog.app_nodes[key] = make()
        return self.catalog.app_nodes[key]

    def _cached(self, key: Any, make: Callable[[], Node]) -> Node:
        if not _hashable(key):
            return make()
        if key not in self.nodes:
            self.nodes[key] = make()
        return self.nodes[key]

    def _callable(
        self,
        func: Any,
        label: str,
        trail: _Trail,
        scope: Scope | str | None,
        *,
        service: bool = False,
        thread: bool = False,
        plugin: str = "",
        disposes: Any = None,
    ) -> Node:
        if any(func == each for each, _ in trail):
            cycle = [name for each, name in trail]
            start = next(i for i, (each, _) in enumerate(trail) if each == func)
            raise ResolutionError(f"Dependency cycle: {' -> '.join([*cycle[start:], label])}. Break it with a factory.")
        trail = (*trail, (func, label))
        app_scoped = scope is Scope.APP
        resolver = self if not app_scoped else Resolver(self.catalog, self.kind, None, self.endpoint)
        call, nodes = resolver._function(
            func, annotations.parameters(func), trail, service=service or app_scoped, extra=injected(func)
        )
        if inspect.isclass(func):
            call, nodes = resolver._with_attributes(func, call, nodes, trail)
        lives = min((node.scope for node in nodes), default=Scope.APP)
        if scope is None:
            scope = lives if lives in (Scope.APP, Scope.CONNECTION) else Scope.CALL
        assert isinstance(scope, Scope)
        self._check_captive(scope, label, nodes)
        dispose = _disposal(func, disposes) if service or inspect.isclass(func) else Dispose.NOTHING
        return Node(label, _mode(func, thread), call, nodes, scope=scope, dispose=dispose, plugin=plugin)

    def _with_attributes(
        self, cls: type, call: Callable[..., Any], nodes: list[Node], trail: _Trail
    ) -> tuple[Callable[..., Any], list[Node]]:
        attributes = class_dependencies(cls)
        if not attributes:
            return call, nodes
        names, count = tuple(attributes), len(nodes)

        def build(*values: Any) -> Any:
            instance = call(*values[:count])
            for name, value in zip(names, values[count:], strict=True):
                setattr(instance, name, value)
            return instance

        more = [self._depends(each, annotations.Empty, trail) for each in attributes.values()]
        return build, [*nodes, *more]

    @staticmethod
    def _check_captive(scope: Scope, label: str, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if node.scope < scope:
                shorter = "call data" if node.args == (CALL,) else node.label
                raise ResolutionError(
                    f"{label} lives as long as the {scope.name.lower()}, but holds {shorter} ({node.label}), which lives "
                    f"only for one {node.scope.name.lower()}. Give {label} the scope "
                    f"{Scope.CALL.name.lower() if node.scope < Scope.CONNECTION else 'connection'!r}, or let it ask for "
                    f"a factory instead."
                )

    # -- errors --------------------------------------------------------------------------------------------------------

    def _error(self, parameter: Parameter, func: Any, trail: _Trail, service: bool, why: str = "") -> ResolutionError:
        annotation = parameter.annotation
        shown = (
            f"{parameter.name}: {annotation!r} (the name cannot be resolved)"
            if isinstance(annotation, str)
            else parameter.name
            if annotation is annotations.Empty
            else f"{parameter.name}: {_type_name(annotation)}"
        )
        tried = ["markers", "special types and names"]
        if not service:
            tried.append(f"path parameters ({', '.join(self.path) or 'none'})")
        tried.append("services by type and name")
        if not service and self.trigger is not None:
            tried.append(f"the source of plain values in {self.kind.names()} calls")
        tried.append("its default")
        what = f"binding {self.trigger}" if self.trigger is not None else "a service"
        return ResolutionError(
            f"Nothing fills the parameter {shown!r} of {annotations.describe(func)} at {annotations.location(func)}, "
            f"needed by {_chain(trail)} for {what}{': ' + why if why else ''}. Tried: {', '.join(tried)}. Register a "
            f"service for that type, mark the parameter (Depends, Query, Body, ...), or give it a default."
        )


def _overridden(node: Node) -> bool:
    return node.label.startswith("override of") or any(map(_overridden, node.args))


def nearest_name(name: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)` if some known name is close, else an empty string."""
    import difflib

    found = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _chain(trail: _Trail) -> str:
    return " -> ".join(name for _, name in trail)


def _type_name(tp: Any) -> str:
    return annotations.describe(tp) if inspect.isclass(tp) and not get_args(tp) else str(tp)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _mode(func: Any, thread: bool) -> Mode:
    if annotations.is_async_generator(func):
        return Mode.ASYNC_GENERATOR
    if annotations.is_generator(func):
        return Mode.THREAD_GENERATOR if thread else Mode.GENERATOR
    if annotations.is_async(func):
        return Mode.ASYNC
    return Mode.THREAD if thread else Mode.SYNC


def _disposal(factory: Any, key: Any) -> Dispose:
    """How instances end. A factory's product is judged by the class it is registered for."""
    if annotations.is_generator(factory) or annotations.is_async_generator(factory):
        return Dispose.NOTHING
    cls = factory if inspect.isclass(factory) else key
    if not inspect.isclass(cls):
        return Dispose.NOTHING
    for name, dispose in (
        ("__aenter__", Dispose.ASYNC_CONTEXT),
        ("__enter__", Dispose.CONTEXT),
        ("aclose", Dispose.ACLOSE),
        ("close", Dispose.CLOSE),
    ):
        if callable(getattr(cls, name, None)):
            return dispose
    return Dispose.NOTHING
