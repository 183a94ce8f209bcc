"""Re-routing: a middleware sends a call to another handler, or to another application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from microkit import App, Kind, MethodNotAllowed, MiddlewareSpec, NotFound, Reply, Response
from microkit.annotations import describe
from microkit.http import HTTPConnection
from microkit.http import Request as KernelRequest
from microkit.layers import Invoke, Layer, repeatable
from microkit.plan import Plan
from microkit.routing.table import Table

from .current import within_call
from .request import Request
from .triggers import Handler

_KEY = "_auto_route"


@dataclass(frozen=True)
class _ToHandler:
    handler: str | Callable[..., Any]
    segments: tuple[str, ...]


@dataclass(frozen=True)
class _ToApp:
    app: App
    mount_path: str
    path: str | None


def reroute(request: Request | HTTPConnection, handler: str | Callable[..., Any], *segments: str) -> None:
    """Let another handler answer than the one that the path means; for middleware, before it goes on.

    The middleware inside of the caller still runs. Private handlers are reached in no other way.

    Args:
        request: the call.
        handler: name of a handler as written (`greet`, `ws_chat`, `_secret`), or the method itself, which tells equal
            names of several sites apart. A private one is declared by `@handler()`.
        segments: path segments for its parameters.
    """
    Request(request).call.__dict__[_KEY] = _ToHandler(handler, segments)


def reroute_to_app(
    request: Request | HTTPConnection, app: App, *, mount_path: str = "", path: str | None = None
) -> None:
    """Let another microkit application answer; for middleware, before it goes on.

    Args:
        request: an HTTP request.
        app: a mounted application, whose lifespan is therefore run. Any mount path will do.
        mount_path: what the other application takes for the path that it is mounted at.
        path: the path below it; None: the request's path, without `mount_path`.
    """
    Request(request).call.__dict__[_KEY] = _ToApp(app, mount_path, path)


class Targets:
    """What calls of one application can be re-routed to.

    Attributes:
        handlers: those of the last build; see `update`.
        shielded, late: what some of their plans need, as of a `Plan`.
    """

    def __init__(self) -> None:
        self._table: Table | None = None
        self.handlers: list[Handler] = []
        self.shielded = self.late = False

    def update(self, app: App) -> None:
        """Find the handlers, if the application was built anew."""
        if self._table is app.table:
            return
        self._table = app.table
        every = (getattr(plan.binding.trigger, "handler", None) for plan in self._table.plans)
        self.handlers = list(dict.fromkeys(each for each in every if isinstance(each, Handler)))
        plans = [plan for handler in self.handlers for plan in handler.bare.values()]
        self.shielded, self.late = any(each.shielded for each in plans), any(each.late for each in plans)

    async def middleware(self, call: Any, call_next: Invoke) -> Reply:
        """The innermost middleware of a site: all others have said by now where the call goes."""
        wanted = call.__dict__.get(_KEY)
        if wanted is None:
            return await call_next(call)
        if isinstance(wanted, _ToApp):
            return await _run_app(call, wanted)
        return await self._run(call, self._handler(call, wanted.handler), wanted.segments)

    def _handler(self, call: HTTPConnection, wanted: str | Callable[..., Any]) -> Handler:
        found = [each for each in self.handlers if _kind(each) is call.kind and _is(each, wanted)]
        if len(found) > 1:  # the site of the path comes first
            group = call.plan.binding.group
            found = [each for each in found if _any_plan(each).binding.group is group] or found
        if len(found) != 1:
            name = wanted if isinstance(wanted, str) else describe(wanted)
            why = "is the name of several: give the method" if found else "is none, or is not declared by @handler()"
            raise RuntimeError(f"a middleware re-routes to the handler {name!r}, which {why}")
        return found[0]

    async def _run(self, call: Any, handler: Handler, segments: tuple[str, ...]) -> Reply:
        method = "WEBSOCKET" if call.kind is Kind.SOCKET else call.method
        if method == "HEAD" and method not in handler.plans:
            method = "GET"
        plan = handler.plans.get(method)
        if plan is None:
            methods = {*handler.plans, "OPTIONS", *(["HEAD"] if "GET" in handler.plans else [])}
            allow = {"allow": ", ".join(sorted(methods))}
            if method == "OPTIONS":
                return Response(b"", 204, allow)
            raise MethodNotAllowed("This path does not answer to that method.", allow)
        if len(segments) > handler.positions and not handler.settings.ignore_surplus_segments:
            raise NotFound("Nothing is at this path.")
        ran = [layer.spec for layer in call.plan.layers]
        missed = [layer.spec.name for layer in plan.layers if layer.spec not in ran and layer.spec is not _SPEC]
        if missed:
            raise RuntimeError(f"a re-routed call would go round the middleware {', '.join(missed)} of {plan.endpoint}")
        prefix = call.path_params
        if lacking := [name for name in plan.value_names if name not in prefix]:
            raise RuntimeError(f"the path of a re-routed call has no {', '.join(lacking)}, which {plan.endpoint} needs")
        call.values = (*(prefix[name] for name in plan.value_names), *segments)
        call.plan = plan
        return await handler.bare[method].invoke(call)


def _any_plan(handler: Handler) -> Plan:
    return next(iter(handler.plans.values()))


def _kind(handler: Handler) -> Kind:
    return _any_plan(handler).kind


def _is(handler: Handler, wanted: str | Callable[..., Any]) -> bool:
    if isinstance(wanted, str):
        return handler.attribute == wanted
    method = _any_plan(handler).endpoint.handler
    # A bound method is that of one instance, a function that of any.
    return method == wanted or getattr(method, "__func__", method) is wanted


async def _run_app(call: Any, wanted: _ToApp) -> Reply:
    if call.kind is not Kind.HTTP:
        raise RuntimeError("a WebSocket cannot be re-routed to another application; mount it at a path")
    if not any(mounted.app is wanted.app for mounted in call.app.mounts()):
        raise RuntimeError(f"{wanted.app!r} is not mounted, so nobody starts and stops it: app.mount(path, that_app)")
    root: str = (call.scope.get("root_path") or "").rstrip("/")
    scope = {**call.scope, "root_path": root + wanted.mount_path, "path": root + call.path}
    if wanted.path is not None:
        scope["path"] = scope["root_path"] + wanted.path
        scope["raw_path"] = quote(scope["path"]).encode()
    elif wanted.mount_path and not f"{call.path}/".startswith(f"{wanted.mount_path}/"):
        raise RuntimeError(f"the path of the request is not below {wanted.mount_path}; say which path it is to have")
    request = KernelRequest.__new__(KernelRequest)
    request.__dict__.update(scope=scope, receive=call.receive, _body=call._body)
    return await wanted.app.handle(request)


def add_rerouting(plan: Plan, targets: Targets) -> None:
    """Let calls of a plan be re-routed, if it has middleware that could do that."""
    if not plan.layers:
        return
    plan.layers.append(Layer(_SPEC, None, targets.middleware))

    def prepare(invoke: Invoke) -> Invoke:
        """What a target must leave, the call must be ready for that it begins as."""
        targets.update(plan.app)
        plan.late = plan.late or targets.late
        if targets.shielded:
            plan.shielded, plan.grace = True, plan.app.settings.teardown_timeout
        return invoke

    plan.around.append(prepare)


def add_bare(plan: Plan, handler: Handler) -> None:
    """Compile what a handler's plan is without its middleware, beside it."""
    bare = plan
    if plan.layers:
        bare = Plan(plan.app, plan.binding, plan.resolver, [], plan.executor, plan.value_names)
        bare.around += [repeatable, within_call]  # the middleware that re-routes may be cut short by another one

        def freeze_too(invoke: Invoke) -> Invoke:
            bare.freeze()
            return invoke

        plan.around.append(freeze_too)
    for method in getattr(plan.binding.trigger, "methods", ("WEBSOCKET",)):
        handler.plans[method], handler.bare[method] = plan, bare


async def rerouting(call: Any, call_next: Invoke) -> Reply:
    """Stands for `Targets.middleware` where middleware is listed."""
    return await call_next(call)


_SPEC = MiddlewareSpec(rerouting, kinds=Kind.HTTP | Kind.SOCKET, plugin="auto")
