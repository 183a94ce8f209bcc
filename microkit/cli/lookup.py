"""Finding the binding that a user means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microkit.cli.loading import CommandError
from microkit.errors import nearest
from microkit.http import Request
from microkit.inspect import BindingInfo, bound_plans, inspect_binding

if TYPE_CHECKING:
    from microkit.app import App
    from microkit.plan import Plan


def find_plan(app: App, text: str) -> Plan:
    """The first binding that `text` names.

    Args:
        app: the application; it is built if it was not.
        text: a name, an address as `microkit routes` prints it, `METHOD /path` with a pattern or a concrete path, a
            path, or the name of the handler with or without its module.

    Raises:
        CommandError: there is none; the message has the nearest names.
    """
    found = [(plan, inspect_binding(plan)) for plan in bound_plans(app)]
    for matches in (_is_address, _is_name):
        for plan, info in found:
            if matches(text, info):
                return plan
    plan = _by_concrete_path(app, text)
    if plan is not None:
        return plan
    known = {name for _, info in found for name in (info.address, info.name, info.endpoint) if name}
    listed = f"It has {', '.join(sorted({info.address for _, info in found})[:10])}" if found else "It has no bindings"
    more = ", and more" if len(found) > 10 else ""
    raise CommandError(
        f"The application {app.name!r} has no endpoint {text!r}.{nearest(text, known)} {listed}{more}; "
        f"`microkit routes` lists all."
    )


def _is_address(text: str, info: BindingInfo) -> bool:
    if text == info.address:
        return True
    method, _, path = text.rpartition(" ")
    return bool(info.path) and path == info.path and (not method or not info.methods or method.upper() in info.methods)


def _is_name(text: str, info: BindingInfo) -> bool:
    return text in (info.name, info.endpoint) or info.endpoint.endswith(f".{text}")


def _by_concrete_path(app: App, text: str) -> Plan | None:
    method, _, path = text.partition(" ")
    if not path.startswith("/"):
        return None
    method = method.upper()
    table = app.table.sockets if method == "WEBSOCKET" else app.table.http
    request = Request(method, path)
    found, _ = table.match(method, request.scope, request)
    return next((plan for plan in bound_plans(app) if plan.binding is found.binding), None)
