"""From declarations to plans: groups are flattened, included objects collected, every binding compiled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .annotations import describe
from .call import Call, Kind, Reply
from .catalog import Catalog
from .endpoint import Binding, Endpoint
from .errors import ConfigurationError, MethodNotAllowed, NotFound, RoutingError, contributed, nearest
from .executor import ExecutorSpec
from .graph import Node
from .http import Request, Response
from .layers import Layer
from .middleware import MiddlewareSpec
from .mounting import mount_bindings
from .plan import Plan
from .resolve import Resolver
from .routing.groups import Included, Mounted, Router, join
from .routing.matching import ANY, RouteEntry, RouterSpec
from .routing.pattern import Param, Pattern, parse_pattern
from .routing.table import Fallback, Miss, PathTable, Table, check_conflicts
from .triggers import Event, Procedure, Route, SocketRoute, Trigger, TriggerSpec

if TYPE_CHECKING:
    from .app import App

_HTTP_OPTIONS = {"max_body_size", "body_timeout", "check_origin", "task_group", "raw"}
_OPTIONS = frozenset({"name", "timeout", "executor", "inline", "retry", "tags", *_HTTP_OPTIONS})


@dataclass(eq=False)
class _Member:
    """A group where it is used: with the prefixes and middleware of the groups around it."""

    group: Router
    prefix: str
    layers: tuple[MiddlewareSpec, ...]
    executor: str = ""


class Builder:
    """Compiles one application.

    Args:
        app: the application; its plugins, settings and contributions are loaded.
        catalog: what parameters are resolved from.
    """

    def __init__(self, app: App, catalog: Catalog) -> None:
        self.app = app
        self.catalog = catalog
        self.members: list[_Member] = []
        self.plans: list[Plan] = []
        self._rows: list[tuple[_Member, Binding, Plan, Pattern | None]] = []
        self._class_nodes: dict[MiddlewareSpec, Node] = {}

    def build(self) -> Table:
        """Compile everything into a table.

        Raises:
            ConfigurationError: something cannot be resolved, told apart or bound.
        """
        root = _Member(self.app, "", (*self.app.contributed_middleware, *self.app.layers))
        for member, binding in self._walk(root):
            self._rows.append((member, binding, *self._plan(member, binding)))
        table = self._table()
        self._check_guards(table)
        for plan in table.plans:
            self.app.hooks.modify_plan(plan)
        self._check_guards(table)
        return table

    # -- collecting ----------------------------------------------------------------------------------------------------

    def _walk(self, member: _Member) -> Iterator[tuple[_Member, Binding]]:
        self.members.append(member)
        for item in [*member.group.items, *self._extra_items(member)]:
            if isinstance(item, Binding):
                yield member, item
            elif isinstance(item, Mounted):
                for binding in mount_bindings(item):
                    yield member, binding
            else:
                yield from self._included(member, item)

    def _extra_items(self, member: _Member) -> Iterator[Included]:
        """Services that are tagged as controllers include themselves."""
        for provider in self.app.registry.tagged("controller") if member.group is self.app else ():
            yield Included(provider.key if isinstance(provider.key, type) else provider.factory)

    def _included(self, member: _Member, item: Included) -> Iterator[tuple[_Member, Binding]]:
        obj = item.obj
        prefix = join(member.prefix, item.prefix)
        if isinstance(obj, Router):
            if any(each.group is obj and each.prefix == prefix for each in self.members):
                raise ConfigurationError(f"The router with prefix {obj.prefix!r} is included twice at the same place.")
            layers, executor = (*member.layers, *obj.layers), obj.executor or member.executor
            yield from self._walk(_Member(obj, join(prefix, obj.prefix), layers, executor))
            return
        found = self.app.hooks.collect(obj, self.app)
        if found is None:
            raise ConfigurationError(
                f"app.include({describe(obj)}) found nothing that it knows. Include a Router, a class with @route "
                f"methods, or install and enable the plugin that brings this kind of object."
            )
        inner = replace(member, prefix=prefix)
        for binding in found:
            yield inner, binding

    # -- one binding ---------------------------------------------------------------------------------------------------

    def _plan(self, member: _Member, binding: Binding) -> tuple[Plan, Pattern | None]:
        trigger = binding.trigger
        spec = self._trigger_spec(trigger)
        self._check_options(binding, spec)
        binding.group = member.group
        pattern = self._pattern(member, binding)
        path: tuple[Param, ...] = pattern.params if pattern is not None else ()
        resolver = Resolver(self.catalog, trigger.kind, trigger, binding.endpoint, path)
        layers = [self._layer(spec, resolver) for spec in member.layers if spec.wraps(trigger.kind)]
        names = tuple(param.name for param in path)
        plan = Plan(self.app, binding, resolver, layers, self._executor(member, binding), names)
        plan.ingress = spec.ingress
        if pattern is not None:
            plan.address = str(replace(trigger, path=pattern.text))  # type: ignore[type-var]
        self.plans.append(plan)
        return plan, pattern

    def _trigger_spec(self, trigger: Trigger) -> TriggerSpec:
        for base in type(trigger).__mro__:
            if base in self.app.trigger_specs:
                return self.app.trigger_specs[base]
        raise ConfigurationError(
            f"No plugin serves triggers of type {type(trigger).__name__}. Install or enable the one that brings it."
        )

    def _check_options(self, binding: Binding, spec: TriggerSpec) -> None:
        legal = _OPTIONS | spec.options
        for name in binding.options:
            if name not in legal:
                raise ConfigurationError(
                    f"The binding {binding} has the unknown option {name!r}.{nearest(name, legal)} It takes: "
                    f"{', '.join(sorted(legal))}."
                )
        retry = binding.options.get("retry")
        if retry is not None and (isinstance(retry, type) or not callable(retry)):
            raise ConfigurationError(
                f"The binding {binding} has retry={retry!r}, which is no retry policy. Give it one, such as "
                f"Backoff(max_retries=5) of microkit-workers, or a function of the message and the reply."
            )

    def _pattern(self, member: _Member, binding: Binding) -> Pattern | None:
        path = getattr(binding.trigger, "path", None)
        if not isinstance(path, str) or binding.trigger.kind not in Kind.HTTP | Kind.SOCKET:
            return None
        try:
            return parse_pattern(join(member.prefix, path), self.app.converters)
        except RoutingError as exc:
            raise RoutingError(f"{exc} It is the path of {binding.endpoint}.") from None

    def _executor(self, member: _Member, binding: Binding) -> ExecutorSpec | None:
        name = binding.options.get("executor") or ("inline" if binding.options.get("inline") else member.executor)
        if not name and binding.endpoint.is_async:
            return None
        return contributed(self.app.executors, name or "thread", "executor", binding)

    def _layer(self, spec: MiddlewareSpec, resolver: Resolver) -> Layer:
        import inspect

        if not inspect.isclass(spec.middleware):
            return Layer(spec, None, *resolver.middleware(spec.middleware, 2, spec.name))
        if spec not in self._class_nodes:
            self._class_nodes[spec] = Resolver(self.catalog, Kind.all()).instance(spec.middleware, spec.options)
        call = spec.middleware.__call__
        return Layer(spec, self._class_nodes[spec], *resolver.middleware(call, 3, spec.name))

    # -- tables --------------------------------------------------------------------------------------------------------

    def _table(self) -> Table:
        http: list[tuple[RouterSpec, RouteEntry]] = []
        sockets: list[tuple[RouterSpec, RouteEntry]] = []
        procedures: dict[str, Plan] = {}
        events: dict[tuple[str, str], list[Plan]] = {}
        ticks: dict[str, Plan] = {}
        others: dict[Any, list[Plan]] = {}
        for _, binding, plan, pattern in self._rows:
            trigger = binding.trigger
            if pattern is not None:
                rows = http if trigger.kind is Kind.HTTP else sockets
                rows += [(self._router(trigger), entry) for entry in _entries(trigger, pattern, plan)]
            elif isinstance(trigger, Procedure):
                _unique(procedures, trigger.name, plan, "procedure")
            elif isinstance(trigger, Event):
                events.setdefault(trigger.key, []).append(plan)
            elif trigger.kind is Kind.TICK:
                _unique(ticks, binding.name, plan, "schedule")
            else:
                others.setdefault(trigger.key, []).append(plan)
        for rows in (http, sockets):
            for spec in {spec.name: spec for spec, _ in rows}.values():
                check_conflicts([entry for each, entry in rows if each.name == spec.name], lambda plan: plan.endpoint)
        http += _head_rows(http)
        settings = self.app.settings
        default = self.app.router_spec
        order = lambda rows: sorted(rows, key=lambda row: (row[0] is not default, row[0].name))  # noqa: E731
        return Table(
            PathTable(order(http), self._fallbacks(Kind.HTTP), settings),
            PathTable(order(sockets), self._fallbacks(Kind.SOCKET), settings),
            procedures,
            events,
            ticks,
            others,
            self.plans,
            [(plan, pattern) for _, _, plan, pattern in self._rows if pattern is not None],
        )

    def _router(self, trigger: Trigger) -> RouterSpec:
        if trigger.router is None:
            return self.app.router_spec
        return self.app.router_named(trigger.router)

    def _fallbacks(self, kind: Kind) -> list[Fallback]:
        """A fallback plan per group, the group with the most static segments, then the longest prefix, first."""
        found: dict[tuple[str, ...], Fallback] = {}
        seen: dict[tuple[str, ...], list[Any]] = {}
        # A group without paths of its own says what wraps a miss only where no other group does.
        routed = {id(self.app), *(id(member.group) for member, _, _, pattern in self._rows if pattern is not None)}
        for member in sorted(self.members, key=lambda each: id(each.group) not in routed):
            at_root = member.prefix in ("", "/")
            pattern = Pattern("/", ()) if at_root else parse_pattern(member.prefix, self.app.converters)
            layers = [spec for spec in member.layers if spec.wraps(kind)]
            facts = [(spec.middleware, spec.kinds, spec.guard, spec.options) for spec in layers]
            if pattern.shape in found:
                if seen[pattern.shape] != facts and id(member.group) in routed:
                    raise ConfigurationError(
                        f"Two groups have the prefix {pattern} but different middleware, so it is open which of them "
                        f"wraps a 404 there. Put both into one group, or give them the same middleware."
                    )
                continue
            seen[pattern.shape] = facts
            trigger = Route(pattern.text) if kind is Kind.HTTP else SocketRoute(pattern.text)
            binding = Binding(Endpoint(_missing, name="fallback"), trigger, {"inline": True})
            resolver = Resolver(self.catalog, kind, trigger, binding.endpoint, pattern.params)
            wrapped = [self._layer(spec, resolver) for spec in layers]
            plan = Plan(self.app, binding, resolver, wrapped, self.app.executors["inline"], pattern.names)
            plan.address = f"{'HTTP' if kind is Kind.HTTP else 'WEBSOCKET'} fallback of {pattern}"
            self.plans.append(plan)
            found[pattern.shape] = Fallback(pattern, plan)

        def order(fallback: Fallback) -> Any:
            parts = fallback.prefix.segments
            return -sum(isinstance(part, str) for part in parts), -len(parts), fallback.prefix.precedence

        return sorted(found.values(), key=order)

    def _check_guards(self, table: Table) -> None:
        for member in self.members:
            guards = [spec for spec in member.layers if spec.guard and spec.kinds is None]
            for plan in table.plans if guards else ():
                if plan.binding.group is not member.group:
                    continue
                for guard in guards:
                    if guard not in [layer.spec for layer in plan.layers]:
                        raise ConfigurationError(
                            f"The guard {guard.name} does not protect {plan.address} ({plan.kind.names()}), which is "
                            f"in its group. Let its first parameter be a Call to cover every kind, or narrow it on "
                            f"purpose with kinds=Kind.HTTP | Kind.SOCKET when you add it."
                        )


def _entries(trigger: Any, pattern: Pattern, plan: Plan) -> Iterator[RouteEntry]:
    if trigger.kind is Kind.SOCKET:
        yield RouteEntry("WEBSOCKET", pattern, plan)
        return
    for method in trigger.methods or (ANY,):
        yield RouteEntry(method, pattern, plan)


def _head_rows(rows: Iterable[tuple[RouterSpec, RouteEntry]]) -> list[tuple[RouterSpec, RouteEntry]]:
    """HEAD for every GET that has no HEAD of its own."""
    rows = list(rows)
    taken = {entry.pattern.shape for _, entry in rows if entry.method == "HEAD"}
    return [
        (spec, RouteEntry("HEAD", entry.pattern, entry.target.for_head()))
        for spec, entry in rows
        if entry.method == "GET" and entry.pattern.shape not in taken
    ]


def _unique(plans: dict[str, Plan], name: str, plan: Plan, what: str) -> None:
    if name in plans:
        raise ConfigurationError(
            f"Two bindings have the {what} name {name!r}: {plans[name].endpoint} and {plan.endpoint}. Give one of them "
            f"another one (option name=...)."
        )
    plans[name] = plan


async def _missing(call: Call) -> Reply:
    """What answers when no route does: a redirect, automatic OPTIONS, 405, or 404."""
    miss: Miss = call.__dict__["miss"]
    if miss.error is not None:
        raise miss.error
    if miss.redirect:
        query = call.__dict__["scope"].get("query_string", b"").decode("latin-1")
        return Response(b"", 308, {"location": miss.redirect + (f"?{query}" if query else "")})
    if miss.allowed and isinstance(call, Request):
        allow = {"allow": ", ".join(sorted(miss.allowed))}
        if miss.method == "OPTIONS":
            return Response(b"", 204, allow)
        raise MethodNotAllowed("This path does not answer to that method.", allow)
    raise NotFound("Nothing is at this path.")
