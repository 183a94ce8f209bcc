"""Routing: patterns, the protocol of routers, groups of routes, and the kernel's own linear router."""

from .controllers import connect, delete, get, head, on, options, patch, post, put, route, trace, websocket
from .groups import Router
from .matching import ANY, Matcher, RouteEntry, RouterSpec
from .pattern import Converter, Converters, Param, Pattern, parse_pattern

__all__ = [
    "ANY",
    "Converter",
    "Converters",
    "Matcher",
    "Param",
    "Pattern",
    "RouteEntry",
    "Router",
    "RouterSpec",
    "connect",
    "delete",
    "get",
    "head",
    "on",
    "options",
    "parse_pattern",
    "patch",
    "post",
    "put",
    "route",
    "trace",
    "websocket",
]
