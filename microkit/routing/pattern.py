"""Path patterns: `/users/{id:int}/files/{rest:path}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

from microkit.errors import RoutingError


@dataclass(frozen=True)
class Converter:
    """Turns a segment into a value, or says that it does not match.

    Attributes:
        name: as written after the colon.
        type: Python type of its values.
        parse: text to value; ValueError means no match.
        format: value to text, for `url_for`.
        rank: place in the fixed order in which converters are tried where several stand; lower is earlier. Equal ranks
            go by name.
        rest: takes all remaining segments; only as the last part of a pattern.
    """

    name: str
    type: Any
    parse: Callable[[str], Any]
    format: Callable[[Any], str] = str
    rank: int = 50
    rest: bool = False


_INT = re.compile(r"-?[0-9]{1,18}")
_FLOAT = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _matching(pattern: re.Pattern[str], convert: Callable[[str], Any]) -> Callable[[str], Any]:
    fullmatch = pattern.fullmatch

    def parse(text: str) -> Any:
        if fullmatch(text) is None:
            raise ValueError(text)
        return convert(text)

    return parse


def _integer(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and len(text) < 19) and _INT.fullmatch(text) is None:
        raise ValueError(text)
    return int(text)


STR = Converter("str", str, str, rank=90)
BUILT_IN = (
    Converter("int", int, _integer, rank=10),
    Converter("uuid", UUID, _matching(_UUID, UUID), rank=20),
    Converter("date", date, _matching(_DATE, date.fromisoformat), date.isoformat, rank=30),
    Converter("float", float, _matching(_FLOAT, float), lambda value: f"{Decimal(repr(float(value))):f}", rank=40),
    STR,
    Converter("path", str, str, rank=100, rest=True),
)


class Converters:
    """The converters of one application, by name."""

    def __init__(self) -> None:
        self._by_name = {converter.name: converter for converter in BUILT_IN}

    def __iter__(self) -> Iterator[Converter]:
        return iter(self._by_name.values())

    def register(self, converter: Converter) -> None:
        """Add a converter.

        Raises:
            RoutingError: the name is taken.
        """
        if converter.name in self._by_name:
            raise RoutingError(f"There is already a path converter {converter.name!r}; choose another name.")
        self._by_name[converter.name] = converter

    def get(self, name: str, pattern: str) -> Converter:
        """The converter of a name.

        Raises:
            RoutingError: there is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise RoutingError(
                f"The pattern {pattern!r} uses the unknown converter {name!r}. Known ones: "
                f"{', '.join(sorted(self._by_name))}; add your own with app.converters.register(Converter(...))."
            ) from None


@dataclass(frozen=True)
class Param:
    """A dynamic segment."""

    name: str
    converter: Converter


@dataclass(frozen=True)
class Pattern:
    """A parsed path pattern.

    Attributes:
        text: as written, with the prefixes of its groups.
        segments: static text or `Param`, one per segment.
    """

    text: str
    segments: tuple[str | Param, ...]

    @property
    def params(self) -> tuple[Param, ...]:
        """The dynamic segments in order."""
        return tuple(segment for segment in self.segments if isinstance(segment, Param))

    @property
    def names(self) -> tuple[str, ...]:
        """The parameter names in order."""
        return tuple(param.name for param in self.params)

    @property
    def static(self) -> bool:
        """Whether there is nothing dynamic in it."""
        return not self.params

    @property
    def shape(self) -> tuple[str, ...]:
        """What tells two patterns apart: static text, or the converter at that place."""
        return tuple(f"{{{s.converter.name}}}" if isinstance(s, Param) else s for s in self.segments)

    @property
    def precedence(self) -> tuple[tuple[bool, int, str], ...]:
        """Sort key: earlier is tried first; static before dynamic at every segment."""
        return tuple(
            (True, part.converter.rank, part.converter.name) if isinstance(part, Param) else (False, 0, "")
            for part in self.segments
        )

    def build(self, **values: Any) -> str:
        """The path for these values, every value escaped.

        Raises:
            ValueError: a value is missing, left over, or does not match its converter.
        """
        parts = []
        rest = dict(values)
        for segment in self.segments:
            if isinstance(segment, str):
                parts.append(quote(segment, safe="!$&'()*+,;=:@~-._"))
                continue
            if segment.name not in rest:
                raise ValueError(f"the path {self.text} needs a value for {segment.name!r}")
            converter = segment.converter
            value = rest.pop(segment.name)
            try:
                text = converter.format(value)
                converter.parse(text)
            except (TypeError, ValueError):
                raise ValueError(f"{value!r} is no {converter.name} for {segment.name!r} in {self.text}") from None
            if not text and not converter.rest:
                raise ValueError(f"the value of {segment.name!r} in {self.text} must not be empty")
            if "\0" in text or not {".", ".."}.isdisjoint(text.split("/") if converter.rest else (text,)):
                raise ValueError(f"with {text!r} for {segment.name!r} a client would not arrive at {self.text}")
            parts.append(quote(text, safe="/~-._" if converter.rest else "~-._"))
        if rest:
            raise ValueError(f"the path {self.text} takes no {', '.join(sorted(rest))}")
        path = "/" + "/".join(parts)
        if path.startswith("//"):
            raise ValueError("the path would begin with // and so lead to another origin")
        return path

    def __str__(self) -> str:
        return self.text


_DYNAMIC = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([A-Za-z_][A-Za-z0-9_]*))?\}")


def parse_pattern(text: str, converters: Converters) -> Pattern:
    """Parse a pattern.

    Args:
        text: begins with a slash; a dynamic part fills a whole segment.
        converters: what may stand after a colon.

    Raises:
        RoutingError: it is malformed.
    """
    if not text.startswith("/"):
        raise RoutingError(f"The path {text!r} must begin with a slash: {'/' + text!r}.")
    segments: list[str | Param] = []
    names: set[str] = set()
    parts = text[1:].split("/")
    for index, part in enumerate(parts):
        if "{" not in part and "}" not in part:
            segments.append(part)
            continue
        match = _DYNAMIC.fullmatch(part)
        if match is None:
            raise RoutingError(
                f"The segment {part!r} of {text!r} is not understood: a dynamic part is {{name}} or {{name:converter}} "
                f"and fills a whole segment."
            )
        name, converter = match[1], converters.get(match[2], text) if match[2] else STR
        if name in names:
            raise RoutingError(f"The path {text!r} has two parameters named {name!r}.")
        if converter.rest and index != len(parts) - 1:
            raise RoutingError(f"In {text!r}, {part} takes all remaining segments and so must be the last.")
        names.add(name)
        segments.append(Param(name, converter))
    return Pattern(text, tuple(segments))
