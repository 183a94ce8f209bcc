"""From a site to bindings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from microkit import ConfigurationError
from microkit.annotations import location
from microkit.endpoint import Binding, Endpoint
from microkit.routing.controllers import marked_bindings

from .body import BODY_METHODS
from .exposure import Function, Mark, handlers_of, mark_of
from .settings import AutoSettings
from .site import OwnHandlers, Root, Site
from .triggers import AutoRoute, AutoSocket, Handler, PrivateRoute, PrivateSocket

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""What a handler answers that says nothing else: HEAD goes with GET, and OPTIONS is answered for it."""

_SOCKET = "ws_"


def site_bindings(obj: object, settings: AutoSettings) -> list[Binding] | None:
    """The bindings of a site; None if it is none.

    Args:
        obj: an instance of a subclass of `Root`; a subclass, of which an instance is injected per call; an `App`.
        settings: the plugin's.
    """
    site: Any = obj.app if isinstance(obj, OwnHandlers) else obj
    cls = site if inspect.isclass(site) else type(site)
    if not issubclass(cls, Root) and not isinstance(obj, OwnHandlers):
        return None
    explicit = marked_bindings(site) or []
    return [*explicit, *(each for found in handlers_of(cls) for each in _of_one(site, settings, *found))]


def _of_one(site: Any, settings: AutoSettings, name: str, func: Function, home: type[Site]) -> Iterator[Binding]:
    mark = mark_of(func) or Mark()
    private = name.startswith("_")
    bare = name.removeprefix("_") if private else name
    is_socket = bare.startswith(_SOCKET)
    owner = site if inspect.isclass(site) else None
    method = func if owner is not None else func.__get__(site)
    endpoint = Endpoint(method, owner=owner, localns=home._microkit_locals)
    if is_socket:
        if mark.methods is not None:
            raise ConfigurationError(f"{endpoint} is a WebSocket handler, which has no HTTP methods.")
        shown = name if private else bare.removeprefix(_SOCKET)
        if not shown or (not private and shown.startswith("_")):
            return
        handler = Handler(shown, name, settings, _socket_parameter(endpoint))
        trigger = PrivateSocket(handler) if private else AutoSocket(handler, _path(shown))
        yield Binding(endpoint, trigger, dict(mark.options))
        return
    handler = Handler(name, name, settings)
    methods = mark.methods or METHODS
    # Two plans: the calls of the one have no body, so that it need not ask for one.
    for body in (False, True):
        chosen = tuple(method for method in methods if (method in BODY_METHODS) is body)
        if chosen and private:
            yield Binding(endpoint, PrivateRoute(handler, chosen, body), dict(mark.options))
        elif chosen:
            yield Binding(endpoint, AutoRoute(handler, _path(name), chosen, body), dict(mark.options))


def _path(name: str) -> str:
    return "/" if name == "index" else f"/{name}"


def _socket_parameter(endpoint: Endpoint) -> str:
    """The parameter that takes the socket: the first one, whatever its name."""
    parameters = endpoint.parameters
    if not parameters or parameters[0].variadic or parameters[0].keyword_only:
        raise ConfigurationError(
            f"The WebSocket handler {endpoint.name} at {location(endpoint.handler)} needs a first parameter for the "
            f"socket: (self, ws)."
        )
    return parameters[0].name
