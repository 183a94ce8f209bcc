"""Explicit markers: where a parameter's value comes from, written as a default or inside `Annotated`."""

from __future__ import annotations

from typing import Any

from .call import MISSING


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


class Path(Marker):
    """A value of the matched path."""

    source = "path"


class Query(Marker):
    """A value of the query string; a list annotation takes all values of the name."""

    source = "query"


class Header(Marker):
    """A request header (RPC and messages: metadata); underscores of the name stand for hyphens."""

    source = "header"

    def name_for(self, parameter: str) -> str:
        return self.alias or parameter.replace("_", "-")


class Cookie(Marker):
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


class Form(Marker):
    """A field of a form body; needs a plugin that parses forms, such as microkit-web."""

    source = "form"


class File(Marker):
    """An uploaded file of a multipart body; needs a plugin that parses forms, such as microkit-web."""

    source = "file"
