"""The compiled plan of a binding, as plain data and as text; what `microkit explain` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from microkit import annotations
from microkit.call import Kind
from microkit.cli.output import as_text
from microkit.di import Scope
from microkit.graph import CALL, Mode, Node
from microkit.inspect import OWN, BindingInfo, inspect_binding
from microkit.resolve import _type_name

if TYPE_CHECKING:
    from microkit.plan import Plan


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One middleware of a plan; `injected`: what fills its further parameters."""

    name: str
    plugin: str
    guard: bool
    location: str
    injected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """One parameter of a handler; `source`: what fills it, and which validator judges it."""

    name: str
    type: str
    source: str
    plugin: str


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One value that a plan makes.

    Attributes:
        label: what it is.
        scope: how long it lives.
        mode: how it is made, such as `sync`, `async generator` or `sync in a thread`.
        needs: labels of the values that it is made from.
        teardown: whether something is left to do at the end of its scope.
        plugin: who contributed it.
    """

    label: str
    scope: str
    mode: str
    needs: tuple[str, ...]
    teardown: bool
    plugin: str


@dataclass(frozen=True, slots=True)
class PlanInfo:
    """The compiled plan of a binding.

    Attributes:
        binding: what it serves.
        parts: what it was compiled with: role (`trigger`, `router`, `executor`), name and plugin.
        layers: the middleware, outermost first.
        parameters: of the handler, in the order in which they are passed.
        steps: every value that is made, in the order in which it is made.
        teardown: labels of what is left at the end of a call, in that order.
        delivery: what becomes of the reply.
    """

    binding: BindingInfo
    parts: tuple[Mapping[str, str], ...]
    layers: tuple[LayerInfo, ...]
    parameters: tuple[ParameterInfo, ...]
    steps: tuple[StepInfo, ...]
    teardown: tuple[str, ...]
    delivery: str


def inspect_plan(plan: Plan) -> PlanInfo:
    """Describe one compiled plan."""
    nodes = _entered([*plan.outer.order, *plan.inner.order, *plan.nodes])
    binders = _binder_plugins(plan, nodes)
    layers = tuple(
        LayerInfo(
            layer.spec.name,
            layer.spec.plugin or OWN,
            layer.spec.guard,
            annotations.location(layer.spec.middleware),
            tuple(node.label for node in layer.nodes),
        )
        for layer in plan.layers
    )
    steps = tuple(
        StepInfo(
            node.label,
            "call" if node.is_source else node.scope.name.lower(),
            node.mode.name.lower().replace("_", " ") + (" in a thread" if node.thread else ""),
            tuple(each.label for each in node.args),
            node.needs_exit,
            node.plugin or binders.get(node.label, OWN),
        )
        for node in nodes
        if node.mode is not Mode.CONSTANT
    )
    return PlanInfo(
        inspect_binding(plan),
        tuple(_parts(plan)),
        layers,
        _parameters(plan, binders),
        steps,
        tuple(_teardown(plan)),
        _delivery(plan),
    )


def plan_text(info: PlanInfo) -> str:
    """A plan for people: the binding, then its parts in the order in which a call meets them."""
    binding = info.binding
    timeout = "none" if binding.timeout is None else f"{binding.timeout:g} s"
    lines = [
        f"{binding.kind} {binding.address} ({binding.name})",
        f"  handler   {binding.endpoint} at {binding.location}",
        f"  plugin    {binding.plugin}",
        f"  group     {binding.group}",
        f"  executor  {binding.executor}",
        f"  deadline  {timeout}",
        f"  delivery  {info.delivery}",
    ]
    numbered = [{"": number, **asdict(layer)} for number, layer in enumerate(info.layers, 1)]
    teardown = [{"": number, "value": label} for number, label in enumerate(info.teardown, 1)]
    for title, rows in (
        ("Compiled with", info.parts),
        ("Middleware, outermost first", numbered),
        ("Parameters", [asdict(each) for each in info.parameters]),
        ("Values, in the order in which they are made", [asdict(each) for each in info.steps]),
        ("Teardown, in order, before delivery", teardown),
    ):
        lines += ["", title, *(f"  {line}" for line in (as_text(rows) or "none").splitlines())]
    return "\n".join(lines)


def _parts(plan: Plan) -> Iterator[dict[str, str]]:
    hooks, trigger = plan.app.hooks, plan.binding.trigger
    givers = {each.value.type: each.plugin for each in hooks.triggers()}
    found = next((givers[base] for base in type(trigger).__mro__ if base in givers), OWN)
    yield {"role": "trigger", "name": type(trigger).__name__, "plugin": found}
    if plan.kind in Kind.HTTP | Kind.SOCKET:
        router = trigger.router or plan.app.router_spec.name
        routers = {each.value.name: each.plugin for each in hooks.routers()}
        yield {"role": "router", "name": router, "plugin": routers.get(router, OWN)}
    if plan.executor is not None:
        executors = {each.value.name: each.plugin for each in hooks.executors()}
        yield {"role": "executor", "name": plan.executor.name, "plugin": executors.get(plan.executor.name, OWN)}


def _teardown(plan: Plan) -> list[str]:
    """What a call leaves: its own scope in reverse, then what its middleware hold, then the background scope."""

    # What lives longer than a call is left by its owner.
    order = [
        each for each in [*plan.outer.order, *plan.inner.order] if each.needs_exit and each.scope < Scope.CONNECTION
    ]
    late = [node for node in order if node.scope is Scope.BACKGROUND]
    return [node.label for node in reversed(order) if node not in late] + [
        f"{node.label} (after the background tasks)" for node in reversed(late)
    ]


def _parameters(plan: Plan, binders: Mapping[str, str]) -> tuple[ParameterInfo, ...]:
    found = [each for each in plan.endpoint.parameters if not each.variadic]
    found.sort(key=lambda each: each.keyword_only)  # stable: these are passed last
    # Before them may stand the instance of the handler's class, and what *args and **kwargs take.
    nodes = plan.nodes[len(plan.nodes) - len(found) :]
    return tuple(
        ParameterInfo(
            each.name,
            "" if each.annotation is annotations.Empty else _type_name(each.declared),
            node.label,
            node.plugin or binders.get(node.label, OWN),
        )
        for each, node in zip(found, nodes, strict=True)
    )


def _binder_plugins(plan: Plan, nodes: Iterable[Node]) -> dict[str, str]:
    """Who made the binders, by their labels: the kernel's triggers, or an implementation of `microkit_bind_parameter`.

    Those of the handler's parameters are asked again, since pluggy does not say who answered.
    """
    implementations = plan.app.plugins.hook.microkit_bind_parameter.get_hookimpls()
    found: dict[str, str] = {node.label: "kernel" for node in nodes if CALL in node.args and node.is_source}
    for parameter in plan.endpoint.parameters:
        arguments = {"parameter": parameter, "endpoint": plan.endpoint}
        for each in reversed([each for each in implementations if not (each.wrapper or each.hookwrapper)]):
            binder: Any = each.function(*(arguments[name] for name in each.argnames))
            if binder is not None:
                found[binder.label] = each.plugin_name
                break
    return found


def _entered(roots: Iterable[Node]) -> list[Node]:
    """Nodes and all that they are made from, inputs first, without the call itself."""
    found: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node is not CALL and node not in found:
            for each in node.args:
                visit(each)
            found[node] = None

    for root in roots:
        visit(root)
    return list(found)


def _delivery(plan: Plan) -> str:
    if plan.kind is Kind.HTTP:
        return "status, headers, and a body or stream"
    if plan.kind is Kind.SOCKET:
        return "close code"
    if plan.kind is Kind.RPC:
        return "payload or stream, with a status"
    if plan.kind is Kind.TICK:
        return "log"
    retry = plan.options.get("retry")
    policy = "retry what is retryable, else dead-letter" if retry is None else f"by {annotations.describe(retry)}"
    each = ", each message by itself" if plan.kind is Kind.BATCH else ""
    return f"settled: ack, or on failure {policy}{each}"
