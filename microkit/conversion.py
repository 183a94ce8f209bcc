"""Conversion of settings by annotation: what the kernel's validator does, and what configuration has besides.

Besides are paths, lists in one variable, tuples of several types, and None as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from types import UnionType
from typing import Any, Union, get_args, get_origin

from microkit.validation import Invalid, Source, Validators

_PATH: Any = PathLike  # and not pathlib's, which takes its time to import
_VALIDATORS = Validators()
_COLLECTIONS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    list: list,
    tuple: tuple,
    Sequence: tuple,
    set: set,
    frozenset: frozenset,
}


def convert(value: Any, annotation: Any, source: Source) -> Any:
    """Convert one value.

    Text is parsed: collections are separated by commas, booleans are 1/0, true/false, yes/no or on/off, durations are
    seconds, enums are written by value; empty text, or `none` where no str is meant, is None where that is allowed.

    Args:
        value: a string of the environment, or a native value of TOML or code.
        annotation: its type, without `Annotated`.
        source: `Source.TEXT` for a string that is to be parsed, `Source.PYTHON` for a native value.

    Returns:
        The value, as the annotation has it.

    Raises:
        Invalid: it is no such value; the message quotes nothing of it.
    """
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, UnionType):
        return _convert_union(value, arguments, source)
    if origin in _COLLECTIONS:
        return _COLLECTIONS[origin](_convert_items(value, origin, arguments, source))
    if isinstance(origin, type) and issubclass(origin, _PATH):
        if isinstance(value, (str, origin)):
            return origin(value)
        raise _invalid("must be a path")
    try:
        converter, _ = _VALIDATORS.converter(annotation, source)
    except TypeError:
        # A type that nobody but its plugin knows: code may hand over an instance.
        if source is Source.PYTHON and (not isinstance(origin, type) or isinstance(value, origin)):
            return value
        raise _invalid("must be set in code") from None
    return value if converter is None else converter(value)


def _convert_union(value: Any, members: Sequence[Any], source: Source) -> Any:
    rest = [member for member in members if member is not type(None)]
    empty = (not value or (value.lower() == "none" and str not in rest)) if source is Source.TEXT else value is None
    if empty and len(rest) < len(members):
        return None
    messages: list[str] = []
    # Any text is a str, so that is tried last.
    for member in sorted(rest, key=lambda member: member is str):
        try:
            return convert(value, member, source)
        except Invalid as exc:
            messages.append(str(exc))
    raise _invalid(", or ".join(messages))


def _convert_items(value: Any, origin: Any, arguments: Sequence[Any], source: Source) -> list[Any]:
    if source is Source.TEXT:
        value = [part.strip() for part in value.split(",")] if value.strip() else []
    elif not isinstance(value, (list, tuple, set, frozenset)):
        raise _invalid("must be a list")
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise _invalid(f"must have {len(arguments)} items")
        return [convert(item, member, source) for item, member in zip(value, arguments, strict=True)]
    member = arguments[0] if arguments else Any
    return [convert(item, member, source) for item in value]


def _invalid(message: str) -> Invalid:
    return Invalid(((), message, "setting"))
