"""Explicit markers: where a parameter's value comes from, written as a default or inside `Annotated`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import binding
from .annotations import Parameter
from .binding import Binder, SourceContext
from .call import MISSING, Kind
from .validation import Validators

if TYPE_CHECKING:
    from .triggers import Trigger


@dataclass(frozen=True)
class Place:
    """Where a marked parameter stands.

    Attributes:
        kind: kind of the calls.
        trigger: what starts them; None where there is no call data.
        path: index and type of each dynamic segment of the route.
        validators: the application's.
        func: whose parameter it is.
    """

    kind: Kind
    trigger: Trigger | None
    path: Mapping[str, tuple[int, Any]]
    validators: Validators
    func: Any


class Marker:
    """Base of the markers that name a source.

    Args:
        default: value when the source has none; without one the parameter is required.
        alias: name at the source, when it differs from the parameter's.
    """

    source = ""

    def __init__(self, default: Any = MISSING, *, alias: str | None = None) -> None:
        self.default = default
        self.alias = alias

    def name_for(self, parameter: str) -> str:
        """The name to look up at the source."""
        return self.alias or parameter

    def binder(self, parameter: Parameter, place: Place) -> Binder | None:
        """What reads the parameter; None where this kind of call has no such source.

        Raises:
            TypeError: nothing validates its type.
            LookupError: there is no such name at the source.
        """
        return None


class Path(Marker):
    """A value of the matched path."""

    source = "path"

    def binder(self, parameter: Parameter, place: Place) -> Binder | None:
        name = self.name_for(parameter.name)
        if name not in place.path:
            raise LookupError(f"the path has no {{{name}}}")
        return binding.path_binder(parameter, *place.path[name], place.validators)


class _Text(Marker):
    """Base of the markers of single texts that a request carries beside its body."""

    kinds = Kind.HTTP | Kind.SOCKET

    def binder(self, parameter: Parameter, place: Place) -> Binder | None:
        if place.kind not in self.kinds:
            return None
        return binding.text_binder(parameter, self.source, self.name_for(parameter.name), place.validators)


class Query(_Text):
    """A value of the query string; a list annotation takes all values of the name."""

    source = "query"


class Header(_Text):
    """A request header (RPC and messages: metadata); underscores of the name stand for hyphens."""

    source = "header"
    kinds = Kind.all()

    def name_for(self, parameter: str) -> str:
        return self.alias or parameter.replace("_", "-")


class Cookie(_Text):
    """A cookie of the request."""

    source = "cookie"


class Body(Marker):
    """The whole body (payload), validated by the annotation.

    Args:
        embed: take the key of the parameter's name out of a JSON object instead of the whole body.
    """

    source = "body"

    def __init__(self, default: Any = MISSING, *, alias: str | None = None, embed: bool = False) -> None:
        super().__init__(default, alias=alias)
        self.embed = embed

    def binder(self, parameter: Parameter, place: Place) -> Binder | None:
        if place.trigger is None:
            return None
        if place.kind is Kind.HTTP:
            embed = self.name_for(parameter.name) if self.embed else ""
            return binding.body_binder(parameter, SourceContext(place.validators, place.func, False), embed=embed)
        found = place.trigger.sources([parameter], SourceContext(place.validators, place.func, True))
        return found.get(parameter.name)


class Form(Marker):
    """A field of a form body; needs a plugin that parses forms, such as microkit-web."""

    source = "form"


class File(Marker):
    """An uploaded file of a multipart body; needs a plugin that parses forms, such as microkit-web."""

    source = "file"


def marker_of(parameter: Parameter, kinds: tuple[type, ...]) -> Any:
    """The marker of a parameter, of one of `kinds`: its default, or in its metadata; None if there is none."""
    for item in (parameter.default, *parameter.metadata):
        if isinstance(item, kinds) or hasattr(type(item), "__microkit_depends__"):
            return item
        if inspect.isclass(item) and issubclass(item, kinds):
            return item()
    return None


def unmarked(parameter: Parameter, marker: Marker) -> Parameter:
    """The parameter with the default that its marker gives it."""
    default = parameter.default if parameter.default is not marker else marker.default
    return replace(parameter, metadata=(), default=marker.default if default is MISSING else default)
