"""Conversion of configured values by annotation: text of the environment, native values of TOML and code."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_COLLECTIONS: dict[Any, Callable[[Any], Any]] = {
    list: list,
    tuple: tuple,
    Sequence: tuple,
    set: set,
    frozenset: frozenset,
    AbstractSet: frozenset,
}


def convert_text(text: str, annotation: Any) -> Any:
    """Parse the text of an environment variable.

    Collections are separated by commas, booleans are 1/0, true/false, yes/no or on/off, durations are seconds, enums
    are written by value or name, and empty text is None where None is allowed.

    Args:
        text: the text.
        annotation: type of the value.

    Returns:
        The value.

    Raises:
        ValueError: the text is no such value.
        TypeError: values of this type cannot be written as text.
    """
    origin, arguments = _parts(annotation)
    if origin is Union:
        if type(None) in arguments and (not text or (text.lower() == "none" and str not in arguments)):
            return None
        members = [member for member in arguments if member is not type(None)]
        # Any text is a str, so that is tried last.
        return _first(text, sorted(members, key=lambda member: member is str), convert_text)
    if origin is Literal:
        return _choose(text, arguments, str)
    if origin in _COLLECTIONS:
        parts = [part.strip() for part in text.split(",")] if text.strip() else []
        return _collect(parts, origin, arguments, convert_text)
    if origin in (str, Any, object):
        return text
    text = text.strip()
    if origin is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise ValueError
        return text.lower() in _TRUE
    if isinstance(origin, type) and issubclass(origin, Enum):
        return (
            origin[text]
            if text in origin.__members__
            else _choose(text, list(origin), lambda member: str(member.value))
        )
    if origin is timedelta:
        return timedelta(seconds=float(text))
    if origin in (int, float) or (isinstance(origin, type) and issubclass(origin, PurePath)):
        return origin(text)
    raise TypeError(f"{type_name(annotation)} cannot be written as text")


def convert_value(value: Any, annotation: Any) -> Any:
    """Check a value of TOML or code, and convert what TOML has no type for: tuples, sets, enums, paths and durations.

    Args:
        value: the value.
        annotation: its type.

    Returns:
        The value, as the annotation has it.

    Raises:
        ValueError: it has another type.
    """
    origin, arguments = _parts(annotation)
    if origin in (Any, object):
        return value
    if origin is Union:
        return _first(value, arguments, convert_value)
    if origin is Literal:
        return _choose((type(value), value), arguments, lambda member: (type(member), member))
    if origin in _COLLECTIONS:
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise ValueError
        return _collect(value, origin, arguments, convert_value)
    if not isinstance(origin, type):
        return value
    # A bool is an int, but never meant as one.
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, origin) and (number or origin not in (int, float)):
        return value
    if origin is float and number:
        return float(value)
    if origin is timedelta and number:
        return timedelta(seconds=value)
    if issubclass(origin, Enum):
        return origin(value)
    if issubclass(origin, PurePath) and isinstance(value, str):
        return origin(value)
    raise ValueError


def type_name(annotation: Any) -> str:
    """An annotation as a user would write it.

    Args:
        annotation: any type expression.

    Returns:
        Its text; for enums with their values.
    """
    origin, arguments = _parts(annotation)
    if origin is Union:
        return " or ".join(type_name(member) for member in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if isinstance(origin, type) and issubclass(origin, Enum):
        return f"one of {', '.join(repr(member.value) for member in origin)}"
    if origin is type(None):
        return "None"
    return origin.__name__ if isinstance(annotation, type) and not arguments else str(annotation).replace("typing.", "")


def _parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin = get_origin(annotation)
    if origin is types.UnionType:
        origin = Union
    return (annotation if origin is None else origin), get_args(annotation)


def _first(value: Any, members: Sequence[Any], convert: Callable[[Any, Any], Any]) -> Any:
    for member in members:
        try:
            return convert(value, member)
        except (ValueError, TypeError):
            continue
    raise ValueError


def _choose(value: Any, members: Sequence[Any], key: Callable[[Any], Any]) -> Any:
    for member in members:
        if key(member) == value:
            return member
    raise ValueError


def _collect(parts: Any, origin: Any, arguments: tuple[Any, ...], convert: Callable[[Any, Any], Any]) -> Any:
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return tuple(convert(part, argument) for part, argument in zip(parts, arguments, strict=True))
    member = arguments[0] if arguments else Any
    return _COLLECTIONS[origin](convert(part, member) for part in parts)
