"""The route table of an application: static paths in a dict, the rest with routers, and what answers on a miss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from microkit.errors import HTTPException, RoutingError
from microkit.http.connection import HTTPConnection
from microkit.http.paths import path_segments

from .matching import ANY, Matcher, RouteEntry, RouterSpec, match_segments
from .pattern import Pattern

if TYPE_CHECKING:
    from microkit.plan import Plan
    from microkit.settings import KernelSettings

Match = tuple["Plan", tuple[Any, ...]]
_Row = tuple[RouterSpec, RouteEntry]


@dataclass
class Fallback:
    """The plans of one group that answer when no route does.

    Attributes:
        prefix: the group's pattern.
        missing: 404, 405 and automatic OPTIONS, decided by the call's `miss`.
    """

    prefix: Pattern
    missing: Plan


@dataclass(frozen=True)
class Miss:
    """Why no route answers; read by the fallback handlers.

    Attributes:
        allowed: methods under which the path exists; empty: it does not.
        method: the method that was asked for.
        redirect: where the path with or without its trailing slash is, if the policy redirects.
        error: the path could not be parsed, or a converter failed.
    """

    method: str
    allowed: frozenset[str] = frozenset()
    redirect: str = ""
    error: Exception | None = None


class PathTable:
    """Matches method and path to plans.

    Args:
        rows: routers and their entries; explicit routers before automatic ones.
        fallbacks: most specific first.
        settings: the kernel's.
    """

    def __init__(self, rows: Iterable[_Row], fallbacks: Sequence[Fallback], settings: KernelSettings) -> None:
        self._trailing_slash = settings.trailing_slash
        self._max_headers = settings.max_headers
        self.fallbacks = fallbacks
        self._fixed: dict[str, dict[str, Match]] = {}
        tables: dict[str, tuple[RouterSpec, list[RouteEntry]]] = {}
        for spec, entry in rows:
            tables.setdefault(spec.name, (spec, []))[1].append(entry)
        first = next(iter(tables), None)
        for name, (_, entries) in tables.items():
            if name == first:  # only the explicit router's: its static paths come before everything else
                self._add_fixed(entries)
        self._routers: list[Matcher] = [spec.build(tuple(entries)) for spec, entries in tables.values()]

    def _add_fixed(self, entries: Iterable[RouteEntry]) -> None:
        for entry in entries:
            if isinstance(entry.pattern, Pattern) and entry.pattern.static:
                path = "/" + "/".join(entry.pattern.segments)  # type: ignore[arg-type]
                self._fixed.setdefault(path, {})[entry.method] = entry.target, ()

    def match(self, method: str, scope: dict[str, Any], call: HTTPConnection) -> Match:
        """The plan for a request, and its path values; on a miss a fallback plan, with `call.miss` set."""
        if len(scope["headers"]) > self._max_headers:
            text = f"The request has more than {self._max_headers} header fields."
            return self.refuse(method, HTTPException(431, text), call)
        path, raw = scope["path"], scope.get("raw_path")
        plain = not scope.get("root_path") and (raw is None or b"%" not in raw)
        methods = self._fixed.get(path)
        if methods is not None and plain:
            found = methods.get(method) or methods.get(ANY)
            if found is not None:
                return found
        try:
            segments = path.split("/")
            if segments.pop(0) or not plain or not segments or "\0" in path:
                segments = path_segments(scope)
            for router in self._routers:
                found = router.match(method, segments)
                if found is not None:
                    return found
            return self._miss(method, segments, call)
        except Exception as exc:  # a malformed path, or a converter that raises something else than ValueError
            return self.refuse(method, exc, call)

    def _miss(self, method: str, segments: list[str], call: HTTPConnection) -> Match:
        forms = [segments]
        if self._trailing_slash != "strict" and len(segments) + bool(segments[-1]) > 1:
            other = [*segments, ""] if segments[-1] else segments[:-1]
            found = next((found for router in self._routers if (found := router.match(method, other))), None)
            if self._trailing_slash == "ignore":
                if found is not None:
                    return found
                forms.append(other)
            elif found is not None and (last := segments[-1] or segments[-2]) not in (".", ".."):
                # Relative to the last segment, so that it leads nowhere else under any prefix or host.
                redirect = f"{quote(last, '')}/" if segments[-1] else f"../{quote(last, '')}"
                return self._missed(Miss(method, redirect=redirect), segments, call)
        allowed = {each for form in forms for router in self._routers for each in router.allowed(form)}
        if allowed - {"WEBSOCKET"}:
            allowed.add("OPTIONS")
        return self._missed(Miss(method, frozenset(allowed)), segments, call)

    def refuse(self, method: str, error: Exception, call: HTTPConnection) -> Match:
        """The plan that refuses a call with an error, with the middleware of its group."""
        return self._missed(Miss(method, error=error), call.path[1:].split("/"), call)

    def _missed(self, miss: Miss, segments: list[str], call: HTTPConnection) -> Match:
        call.__dict__["miss"] = miss
        for fallback in self.fallbacks:
            try:
                values = match_segments(fallback.prefix.segments, segments, prefix=True)
            except Exception:  # noqa: S112 - the converter that brought us here; the application's own group has none
                continue
            if values is not None:
                return fallback.missing, values
        raise RuntimeError("the application group has no fallback plan")


def check_conflicts(entries: Iterable[RouteEntry], describe: Any) -> None:
    """Refuse routes that can never be told apart.

    Args:
        describe: target to text for the message.

    Raises:
        RoutingError: two entries have patterns of one shape and a method in common.
    """
    seen: dict[tuple[str, ...], list[RouteEntry]] = {}
    for entry in entries:
        for other in seen.setdefault(entry.pattern.shape, []):
            if entry.method == other.method or ANY in (entry.method, other.method):
                method = entry.method if other.method == ANY else other.method
                raise RoutingError(
                    f"Two routes can never be told apart: {method} {entry.pattern} is bound to "
                    f"{describe(other.target)} (as {other.pattern}) and to {describe(entry.target)}. Change "
                    f"one path or its methods."
                )
        seen[entry.pattern.shape].append(entry)


@dataclass
class Table:
    """Everything that calls are looked up in; replaced as a whole, never changed.

    Attributes:
        http, sockets: by path.
        procedures: by name.
        events: by (source, name); several bindings may share an event.
        ticks: by schedule name.
        others: plans of plugins' own triggers, by trigger key.
        plans: all of them.
        paths: those with a path, and its pattern.
        names: patterns by name of their binding, for `url_for`; by text, since several bindings may share one path.
    """

    http: PathTable
    sockets: PathTable
    procedures: dict[str, Plan] = field(default_factory=dict)
    events: dict[tuple[str, str], list[Plan]] = field(default_factory=dict)
    ticks: dict[str, Plan] = field(default_factory=dict)
    others: dict[Any, list[Plan]] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)
    paths: list[tuple[Plan, Pattern]] = field(default_factory=list)
    names: dict[str, dict[str, Pattern]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for plan, pattern in self.paths:
            self.names.setdefault(plan.binding.name, {})[pattern.text] = pattern
