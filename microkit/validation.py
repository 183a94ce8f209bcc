"""Typed input: the kernel's small validator, and the choice among contributed ones.

The kernel keeps scalars, enums, UUID and dates for itself, whatever is installed, so that they behave the same
everywhere. Models and containers go to the first contributed validator that claims the type; without one the kernel
handles dataclasses, lists, sets, tuples and dicts of what it knows.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

from . import annotations
from .errors import PublicError, ValidationError

Convert = Callable[[Any], Any]
Problem = tuple[tuple[Any, ...], str, str]  # location below the value, message, type


class Source(enum.Enum):
    """What a validator is given."""

    TEXT = "text"  # str, or a list of str, of a path, query, header, cookie or form
    PYTHON = "python"  # a Python value: decoded JSON, or arguments of an in-process call
    JSON = "json"  # encoded JSON bytes


class Invalid(ValueError):
    """A value does not fit; raised by validators, turned into a `ValidationError` with its place by the caller.

    Args:
        problems: `(location, message, type)` each; the location is relative to the value.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem[1] for problem in problems))
        self.problems = problems


@dataclass(frozen=True)
class ValidatorSpec:
    """A contributed validator.

    Attributes:
        name: for messages and `explain`.
        claims: whether it handles a type.
        build: makes the converter for a type and a `Source`; it raises `Invalid`.
    """

    name: str
    claims: Callable[[Any], bool]
    build: Callable[[Any, Source], Convert]


class Shape(enum.Enum):
    """Where a parameter of a type may come from without a marker."""

    SCALAR = "scalar"  # a single text value
    SCALARS = "scalars"  # a list of text values
    MODEL = "model"  # a body or payload


class Validators:
    """The validators of one application.

    Args:
        specs: contributed ones, first claim wins.
    """

    def __init__(self, specs: Sequence[ValidatorSpec] = ()) -> None:
        self.specs = tuple(specs)

    def shape(self, tp: Any) -> Shape | None:
        """How values of `tp` travel; None if nobody knows the type."""
        if tp is annotations.Empty or _is_scalar(tp):
            return Shape.SCALAR
        if _scalar_items(tp) is not None:
            return Shape.SCALARS
        return Shape.MODEL if self._spec(tp) is not None else None

    def converter(self, tp: Any, source: Source) -> tuple[Convert | None, str]:
        """The converter of a type (None: nothing to do) and the name of the validator that made it.

        Raises:
            TypeError: no validator claims the type.
        """
        if tp is annotations.Empty or tp is Any or tp is object:
            if source is Source.JSON:
                from .codecs import json_loads

                return json_loads, "kernel"
            return None, "kernel"
        if _is_scalar(tp) and source is not Source.JSON:
            if tp is str and source is Source.TEXT:
                return None, "kernel"
            return _scalar(tp, source), "kernel"
        spec = self._spec(tp)
        if spec is None:
            raise TypeError(f"no validator handles {annotations.describe(tp)}")
        return spec.build(tp, source), spec.name

    def _spec(self, tp: Any) -> ValidatorSpec | None:
        if not _is_scalar(tp):
            for spec in self.specs:
                if spec.claims(tp):
                    return spec
        return KERNEL_VALIDATOR if kernel_claims(tp) else None


def to_validation_error(invalid: Invalid, where: tuple[Any, ...]) -> ValidationError:
    """`invalid` as the public error, with every location put below `where`."""
    return ValidationError(
        [{"loc": [*where, *location], "msg": message, "type": kind} for location, message, kind in invalid.problems]
    )


# -- the kernel's own --------------------------------------------------------------------------------------------------

_SCALARS: tuple[type, ...] = (str, int, float, bool, bytes, UUID, datetime, date, time, timedelta, Decimal)


def _is_scalar(tp: Any) -> bool:
    if inspect_is_enum(tp) or tp in _SCALARS or tp is type(None):
        return True
    origin = get_origin(tp)
    if origin is Literal:
        return all(isinstance(value, str | int | bool | None) for value in get_args(tp))
    if origin in (Union, types.UnionType):
        return all(_is_scalar(part) for part in get_args(tp))
    return False


def inspect_is_enum(tp: Any) -> bool:
    """Whether `tp` is an enum class."""
    return isinstance(tp, type) and issubclass(tp, enum.Enum)


_SEQUENCES: dict[Any, type] = {list: list, set: set, frozenset: frozenset, tuple: tuple, Sequence: list}


def _scalar_items(tp: Any) -> Any:
    origin = get_origin(tp) or tp
    if origin not in _SEQUENCES:
        return None
    items = [part for part in get_args(tp) if part is not Ellipsis] or [str]
    return items[0] if len(items) == 1 and _is_scalar(items[0]) else None


def kernel_claims(tp: Any) -> bool:
    """Whether the kernel's own validator handles `tp`."""
    if tp is Any or tp is object or tp is dict or tp is list or _is_scalar(tp):
        return True
    if isinstance(tp, type) and dataclasses.is_dataclass(tp):
        return True
    origin = get_origin(tp)
    if origin in _SEQUENCES or origin in (Union, types.UnionType, dict):
        return all(part is Ellipsis or kernel_claims(annotations._strip(part)[0]) for part in get_args(tp))
    return False


def _build(tp: Any, source: Source) -> Convert:
    if source is Source.JSON:
        from .codecs import json_loads

        inner = _python(tp)
        return lambda raw: inner(json_loads(raw))
    return _items(tp, source) if source is Source.TEXT and _scalar_items(tp) is not None else _python(tp)


KERNEL_VALIDATOR = ValidatorSpec("kernel", kernel_claims, _build)


def _fail(message: str, kind: str) -> Invalid:
    return Invalid(((), message, kind))


def _scalar(tp: Any, source: Source) -> Convert:
    return _text(tp) if source is Source.TEXT else _python(tp)


def _items(tp: Any, source: Source) -> Convert:
    build, convert = _SEQUENCES[get_origin(tp) or tp], _scalar(_scalar_items(tp), source)

    def items(values: Any) -> Any:
        return build(_each(values if isinstance(values, list) else [values], convert))

    return items


def _each(values: Any, convert: Convert) -> list[Any]:
    result, problems = [], []
    for index, value in enumerate(values):
        try:
            result.append(convert(value))
        except Invalid as exc:
            problems += [((index, *location), message, kind) for location, message, kind in exc.problems]
    if problems:
        raise Invalid(*problems)
    return result


_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def _parse_bool(text: str) -> bool:
    if (word := text.strip().lower()) in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError


def _parse_int(text: str) -> int:
    if len(text) > 4300 or "_" in text or not text.isascii():  # int() takes underscores and foreign digits
        raise ValueError
    return int(text)


def _parse_float(text: str) -> float:
    if len(text) > 400 or "_" in text or not text.isascii():
        raise ValueError
    value = float(text)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError
    return value


def _parse_datetime(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _parse_date(text: str) -> date:
    if len(text) != 10:
        raise ValueError
    return date.fromisoformat(text)


def _parse_decimal(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite():
        raise ValueError
    return value


_PARSE: dict[Any, tuple[Callable[[str], Any], str]] = {
    str: (str, "a string"),
    int: (_parse_int, "an integer"),
    float: (_parse_float, "a finite number"),
    bool: (_parse_bool, "true or false"),
    bytes: (lambda text: text.encode(), "a string"),
    UUID: (UUID, "a UUID"),
    datetime: (_parse_datetime, "an ISO 8601 date and time"),
    date: (_parse_date, "an ISO 8601 date"),
    time: (time.fromisoformat, "an ISO 8601 time"),
    timedelta: (lambda text: timedelta(seconds=_parse_float(text)), "a number of seconds"),
    Decimal: (_parse_decimal, "a decimal number"),
}


def _text(tp: Any) -> Convert:
    if tp in _PARSE:
        parse, expected = _PARSE[tp]
        kind = tp.__name__

        def convert(value: Any) -> Any:
            try:
                return parse(value)
            except (ValueError, InvalidOperation, OverflowError, TypeError):
                raise _fail(f"must be {expected}", kind) from None

        return convert
    if inspect_is_enum(tp):
        # An enum's value as text: 1 and "1" are the same in a URL.
        return _choice({str(member.value): member for member in tp})
    if get_origin(tp) is Literal:
        return _choice({str(value): value for value in get_args(tp)})
    parts = [part for part in get_args(tp) if part is not type(None)]
    # str takes everything, so it is tried last.
    return _first([_text(part) for part in sorted(parts, key=lambda part: part is str)])


def _choice(members: dict[str, Any]) -> Convert:
    def convert(value: Any) -> Any:
        try:
            return members[value]
        except (KeyError, TypeError):
            raise _fail(f"must be one of {', '.join(members)}", "enum") from None

    return convert


def _first(converters: list[Convert]) -> Convert:
    def convert(value: Any) -> Any:
        problem: Invalid | None = None
        for each in converters:
            try:
                return each(value)
            except Invalid as exc:
                problem = problem or exc
        raise problem or _fail("has no legal value", "union")

    return convert if len(converters) != 1 else converters[0]


_LITERAL_TYPES: tuple[Any, ...] = (str, int, float, bool, bytes)


def _python(tp: Any) -> Convert:
    """Strict conversion of a Python value: JSON's types must match; what JSON lacks is parsed from its text."""
    if tp is Any or tp is object or tp is annotations.Empty:
        return lambda value: value
    if tp is type(None):
        return _exact(type(None), "null")
    if tp in (dict, list):
        return _exact(tp, "an object" if tp is dict else "an array")
    if inspect_is_enum(tp):
        return _enum(tp)
    if get_origin(tp) is Literal:
        allowed = get_args(tp)

        def literal(value: Any) -> Any:
            for each in allowed:
                if each == value and type(each) is type(value):
                    return each
            raise _fail(f"must be one of {', '.join(map(repr, allowed))}", "literal")

        return literal
    if tp in _PARSE:
        return _number(tp) if tp in (int, float) else _parsed(tp)
    if isinstance(tp, type) and dataclasses.is_dataclass(tp):
        return _dataclass(tp)
    origin, parts = get_origin(tp), [annotations._strip(part)[0] for part in get_args(tp)]
    if origin in _SEQUENCES:
        build, convert = _SEQUENCES[origin], _python(parts[0] if parts else Any)

        def sequence(value: Any) -> Any:
            if not isinstance(value, list | tuple | set | frozenset):
                raise _fail("must be an array", "list")
            return build(_each(value, convert))

        return sequence
    if origin is dict:
        key, item = (_text(parts[0]) if parts[0] is not str else _python(str)), _python(parts[1])

        def mapping(value: Any) -> Any:
            if not isinstance(value, dict):
                raise _fail("must be an object", "dict")
            names = list(value)
            return dict(zip(_each(names, key), _named({n: item for n in names}, value), strict=True))

        return mapping
    return _first([_python(part) for part in parts])


def _named(converters: dict[str, Convert], value: dict[str, Any]) -> list[Any]:
    result, problems = [], []
    for name, convert in converters.items():
        try:
            result.append(convert(value[name]))
        except Invalid as exc:
            problems += [((name, *location), message, kind) for location, message, kind in exc.problems]
    if problems:
        raise Invalid(*problems)
    return result


def _exact(tp: type, expected: str) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, tp):
            raise _fail(f"must be {expected}", tp.__name__)
        return value

    return convert


def _number(tp: type) -> Convert:
    expected = _PARSE[tp][1]

    def convert(value: Any) -> Any:
        # bool is an int to Python, but not to a caller.
        if type(value) is tp or (isinstance(value, tp) and not isinstance(value, bool)):
            return value
        if tp is float and type(value) is int:
            return float(value)
        raise _fail(f"must be {expected}", tp.__name__)

    return convert


def _parsed(tp: Any) -> Convert:
    parse, expected = _PARSE[tp]

    def convert(value: Any) -> Any:
        if isinstance(value, tp) and (tp is not date or not isinstance(value, datetime)):
            return value
        try:
            if tp is timedelta and type(value) in (int, float):
                return timedelta(seconds=value)
            if tp is Decimal and type(value) in (int, float):
                return Decimal(str(value))
            if type(value) is str and tp is not bool:
                return parse(value)
        except (ValueError, InvalidOperation, OverflowError):
            pass
        raise _fail(f"must be {expected}", tp.__name__)

    return convert


def _enum(tp: type[enum.Enum]) -> Convert:
    expected = ", ".join(repr(member.value) for member in tp)

    def convert(value: Any) -> Any:
        try:
            return value if isinstance(value, tp) else tp(value)
        except ValueError:
            raise _fail(f"must be one of {expected}", "enum") from None

    return convert


def _dataclass(tp: Any) -> Convert:
    converters: dict[str, Convert] | None = None  # made at first use: a dataclass may hold itself
    fields = {field.name: field for field in dataclasses.fields(tp) if field.init}
    missing = dataclasses.MISSING
    required = [
        name for name, field in fields.items() if field.default is missing and field.default_factory is missing
    ]

    def convert(value: Any) -> Any:
        nonlocal converters
        if isinstance(value, tp):
            return value
        if not isinstance(value, dict):
            raise _fail("must be an object", "object")
        if converters is None:
            hints = typing.get_type_hints(tp)
            converters = {name: _python(hints[name]) for name in fields}
        problems: list[Problem] = [((name,), "is missing", "missing") for name in required if name not in value]
        problems += [((name,), "is not known", "unknown") for name in value if name not in fields]
        given = {name: converters[name] for name in fields if name in value}
        try:
            values = _named(given, value)
        except Invalid as exc:
            problems += exc.problems
        if problems:
            raise Invalid(*problems)
        try:
            return tp(**dict(zip(given, values, strict=True)))
        except PublicError:
            raise
        except (ValueError, TypeError):  # __post_init__ refused; its text may be internal
            raise _fail("is not valid", "object") from None

    return convert
