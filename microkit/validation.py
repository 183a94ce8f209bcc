"""Typed input: the kernel's small validator, and the choice among contributed ones.

The kernel keeps text to scalars, enums, UUID and dates for itself, whatever is installed, so that they behave the same
everywhere. Models, containers and types with constraints (`Annotated[int, Field(gt=0)]`) go to the first contributed
validator that claims them; without one the kernel handles dataclasses and containers of what it knows. Unknown members
of an object are ignored.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from itertools import count, repeat
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from . import annotations
from .errors import PublicError, ValidationError

Convert = Callable[[Any], Any]
Problem = tuple[tuple[Any, ...], str, str]  # location below the value, message, type

MAX_PROBLEMS = 100
"""How many problems of one value are reported at most."""


class Source(enum.Enum):
    """What a validator is given."""

    TEXT = "text"  # str, or a list of str, of a path, query, header, cookie or form
    PYTHON = "python"  # a Python value: decoded JSON, or arguments of an in-process call
    JSON = "json"  # encoded JSON bytes; a converter raises ValueError if they are no JSON


class Shape(enum.Enum):
    """Where a parameter of a type may come from without a marker."""

    SCALAR = "scalar"  # a single text value
    SCALARS = "scalars"  # a list of text values
    MODEL = "model"  # a body or payload


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
        claims: the shape of a type that it handles, None for any other; the type has its `Annotated` metadata.
        build: makes the converter for a type and a `Source`; the converter raises `Invalid`, `build` itself raises
            TypeError if the type cannot be handled after all.
    """

    name: str
    claims: Callable[[Any], Shape | None]
    build: Callable[[Any, Source], Convert]


class Validators:
    """The validators of one application.

    Args:
        specs: contributed ones, first claim wins.
    """

    def __init__(self, specs: Sequence[ValidatorSpec] = ()) -> None:
        self.specs = tuple(specs)

    def shape(self, tp: Any) -> Shape | None:
        """How values of `tp` travel; None if nobody knows the type."""
        return self._claim(tp)[0]

    def converter(self, tp: Any, source: Source) -> tuple[Convert | None, str]:
        """The converter of a type (None: nothing to do) and the name of the validator that made it.

        Raises:
            TypeError: no validator handles the type.
        """
        untyped = tp in (annotations.Empty, Any, object)
        if (untyped and source is not Source.JSON) or (tp is str and source is Source.TEXT):
            return None, KERNEL_VALIDATOR.name
        shape, spec = self._claim(tp, source)
        if shape is None:
            raise TypeError(f"no validator handles {_shown(tp)}")
        return spec.build(tp, source), spec.name

    def _claim(self, tp: Any, source: Source | None = None) -> tuple[Shape | None, ValidatorSpec]:
        shape = kernel_shape(tp)
        own = shape is Shape.SCALAR or (shape is Shape.SCALARS and source is Source.TEXT)
        if not own or next(metadata_in(tp), None) is not None:
            for spec in self.specs:
                if claimed := spec.claims(tp):
                    return claimed, spec
        return shape, KERNEL_VALIDATOR


def to_validation_error(invalid: Invalid, where: tuple[Any, ...]) -> ValidationError:
    """`invalid` as the public error, every location below `where`; names that the sender chose are cut to 100 signs."""
    return ValidationError(
        [
            {"loc": [*where, *(s if type(s) is int else str(s)[:100] for s in place)], "msg": message, "type": kind}
            for place, message, kind in invalid.problems[:MAX_PROBLEMS]
        ]
    )


# -- what types look like ----------------------------------------------------------------------------------------------

_SEQUENCES: dict[Any, type] = {list: list, set: set, frozenset: frozenset, tuple: tuple, Sequence: list}


def bare(tp: Any) -> Any:
    """`tp` without `Annotated`, `NewType` and `type X = ...`."""
    while True:
        if get_origin(tp) is Annotated:
            tp = tp.__origin__
        elif isinstance(tp, getattr(typing, "TypeAliasType", ())):
            tp = tp.__value__
        elif isinstance(tp, typing.NewType):
            tp = tp.__supertype__
        else:
            return tp


def metadata_in(tp: Any) -> Iterator[Any]:
    """What `Annotated` carries anywhere in a type (not in the fields of classes), without the markers of microkit."""
    if get_origin(tp) is Annotated:
        yield from filter(annotations.is_foreign, tp.__metadata__)
        yield from metadata_in(tp.__origin__)
    elif get_origin(inner := bare(tp)) is not Literal:
        for part in get_args(inner) if inner is tp else (inner,):
            yield from metadata_in(part)


def shape_of(tp: Any, leaf: Callable[[Any], Shape | None]) -> Shape | None:
    """The shape of a type that is made of unions, sequences and dicts.

    Args:
        leaf: the shape of what is none of these (without `Annotated`), None if it is unknown.
    """
    tp = bare(tp)
    origin, parts = get_origin(tp) or tp, get_args(tp)
    if origin in (Union, types.UnionType):
        shapes = {shape_of(part, leaf) for part in parts if part is not type(None)}
        return None if None in shapes else shapes.pop() if len(shapes) == 1 else Shape.MODEL
    if origin in _SEQUENCES:
        shapes = {shape_of(part, leaf) for part in parts if part is not ...}
        several = origin is tuple and parts[1:] not in ((), (...,))
        return None if None in shapes else Shape.SCALARS if shapes <= {Shape.SCALAR} and not several else Shape.MODEL
    if origin is dict:
        return None if None in [shape_of(part, leaf) for part in parts] else Shape.MODEL
    return leaf(tp)


def kernel_shape(tp: Any) -> Shape | None:
    """The shape of a type that the kernel's validator handles, else None."""
    return shape_of(tp, _kernel_leaf)


def _kernel_leaf(tp: Any) -> Shape | None:
    if get_origin(tp) is Literal:
        return Shape.SCALAR if all(isinstance(value, str | int | None) for value in get_args(tp)) else None
    if isinstance(tp, type) and (tp in _PARSE or tp in (annotations.Empty, type(None)) or issubclass(tp, enum.Enum)):
        return Shape.SCALAR
    return Shape.MODEL if tp in (Any, object) or (isinstance(tp, type) and dataclasses.is_dataclass(tp)) else None


def _shown(tp: Any) -> str:
    return annotations.describe(tp) if isinstance(tp, type) else str(tp)


# -- the kernel's own --------------------------------------------------------------------------------------------------


def _build(tp: Any, source: Source) -> Convert:
    convert = _compile(tp, source is Source.TEXT, {})
    if source is not Source.JSON:
        return convert
    from .codecs import json_loads

    return lambda raw: convert(json_loads(raw))


KERNEL_VALIDATOR = ValidatorSpec("kernel", kernel_shape, _build)


def _compile(tp: Any, text: bool, known: dict[Any, Convert]) -> Convert:
    """The converter of one type.

    Args:
        text: from text; otherwise strictly: JSON's types must match, and what JSON lacks is parsed from its strings.
        known: converters of dataclasses on the way, which may hold themselves.
    """
    for item in metadata_in(tp):
        if type(item).__module__.partition(".")[0] in ("annotated_types", "pydantic"):
            raise TypeError(f"no validator checks {item!r}; install microkit-pydantic")
    tp = bare(tp)
    origin, parts = get_origin(tp) or tp, get_args(tp)
    if tp in (Any, object, annotations.Empty):
        return lambda value: value
    if tp is type(None):
        return _choice({None: None}, text)
    if tp in _PARSE:
        return _scalar(tp, text)
    if origin is Literal:
        return _choice({value: value for value in parts}, text)
    if isinstance(tp, type) and issubclass(tp, enum.Enum):
        return _choice({member.value: member for member in tp}, text, tp)
    if origin in (Union, types.UnionType):
        # str takes any text and None has none, so they are tried last.
        order = sorted(parts, key=lambda part: (part is type(None), text and part is str))
        return _first([_compile(part, text, known) for part in order if not text or part is not type(None)])
    if origin in _SEQUENCES:
        items = [_compile(part, text, known) for part in parts or (Any,) if part is not ...]
        fixed = origin is tuple and bool(parts) and parts[-1] is not ...
        return _sequence(_SEQUENCES[origin], items, fixed=fixed, text=text)
    if origin is dict:
        key, item = parts or (Any, Any)
        if key is str and item in (Any, object):
            return _plain_object
        return _mapping(_compile(key, key is not str, known), _compile(item, False, known))
    if isinstance(tp, type) and dataclasses.is_dataclass(tp):
        return _dataclass(tp, known)
    raise TypeError(f"no validator handles {_shown(tp)}")


def _fail(message: str, kind: str) -> Invalid:
    return Invalid(((), message, kind))


def _digits(text: str) -> str:
    if len(text) > 4300 or "_" in text or not text.isascii():  # int() takes underscores and foreign digits
        raise ValueError
    return text


def _number(text: str) -> float:
    if abs(value := float(_digits(text))) < float("inf"):  # not so for NaN
        return value
    raise ValueError


def _decimal(text: str) -> Decimal:
    value = Decimal(_digits(text))
    if not value.is_finite() or abs(value.adjusted()) > 4300:  # 1e999999999 is short, but not as an integer
        raise ValueError
    return value


_BOOLS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_PARSE: dict[Any, tuple[Callable[[str], Any], str]] = {
    str: (str, "a string"),
    int: (lambda text: int(_digits(text)), "an integer"),
    float: (_number, "a finite number"),
    bool: (lambda text: _BOOLS[text.strip().lower()], "true or false"),
    bytes: (str.encode, "a string"),
    UUID: (UUID, "a UUID"),
    # Without a time it is no datetime, with one it is no date; an empty text is neither.
    datetime: (lambda text: datetime.fromisoformat(text if len(text) > 10 else ""), "an ISO 8601 date and time"),
    date: (lambda text: date.fromisoformat(text if len(text) == 10 else ""), "an ISO 8601 date"),
    time: (time.fromisoformat, "an ISO 8601 time"),
    timedelta: (lambda text: timedelta(seconds=_number(text)), "a number of seconds"),
    Decimal: (_decimal, "a decimal number"),
}
_UNPARSABLE = (ValueError, KeyError, InvalidOperation, OverflowError, TypeError, AttributeError)


# What else than an instance or a string is taken for a type.
_NUMBERS: dict[Any, Callable[[Any], Any]] = {
    float: float,
    timedelta: lambda value: timedelta(seconds=value),
    Decimal: lambda value: _decimal(str(value)),
}


def _scalar(tp: Any, text: bool) -> Convert:
    parse, expected = _PARSE[tp]
    from_number = None if text else _NUMBERS.get(tp)
    from_text = parse if text or tp not in (int, float, bool) else None
    # A bool is an int and a datetime is a date to Python, but not to a caller.
    subtype = bool if tp is int else datetime if tp is date else None

    def convert(value: Any) -> Any:
        kind = type(value)
        if kind is tp or (isinstance(value, tp) and kind is not subtype):
            return value
        try:
            if from_number is not None and kind in (int, float):
                return from_number(value)
            if from_text is not None and kind is str:
                return from_text(value)
        except _UNPARSABLE:
            pass
        raise _fail(f"must be {expected}", tp.__name__)

    return convert


def _choice(choices: dict[Any, Any], text: bool, tp: Any = None) -> Convert:
    """One of some values; `tp` is the enum whose members they stand for."""
    words = {True: "true", False: "false", None: "null"}
    shown = {words[value] if isinstance(value, bool | None) else str(value): value for value in choices}
    # 1 == True, but is another value.
    known: dict[Any, Any] = dict(shown) if text else {(type(value), value): value for value in choices}

    def convert(value: Any) -> Any:
        try:
            return choices[known[value if text else (type(value), value)]]
        except (KeyError, TypeError):
            pass
        if tp is not None:
            if isinstance(value, tp):
                return value
            try:
                if isinstance(member := tp._missing_(value), tp):  # the enum's own rule for other values
                    return member
            except (ValueError, TypeError):
                pass
        raise _fail(f"must be {'one of ' * (len(choices) > 1)}{', '.join(shown)}", "enum")

    return convert


def _first(converters: list[Convert]) -> Convert:
    """The first of several converters that takes the value."""

    def convert(value: Any) -> Any:
        failures: list[Invalid] = []
        for each in converters:
            try:
                return each(value)
            except Invalid as exc:
                failures.append(exc)
        deep = next((exc for exc in failures if any(place for place, _, _ in exc.problems)), None)
        if deep is not None or len(failures) == 1:
            raise deep or failures[0]
        raise _fail(", or ".join(dict.fromkeys(map(str, failures))), "union")

    return convert if len(converters) != 1 else converters[0]


def _each(items: Iterable[tuple[Any, Convert, Any]]) -> list[Any]:
    """Convert values, given with their keys; what is wrong is told of all of them."""
    result: list[Any] = []
    problems: list[Problem] = []
    for key, convert, value in items:
        try:
            result.append(convert(value))
        except Invalid as exc:
            problems += [((key, *place), message, kind) for place, message, kind in exc.problems]
            if len(problems) >= MAX_PROBLEMS:
                break
    if problems:
        raise Invalid(*problems)
    return result


def _sequence(build: type, items: list[Convert], *, fixed: bool, text: bool) -> Convert:
    def convert(value: Any) -> Any:
        if text and isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple | set | frozenset):
            raise _fail("must be an array", "list")
        if fixed and len(value) != len(items):
            raise _fail(f"must have {len(items)} items", "list")
        values = _each(zip(count(), items if fixed else repeat(items[0]), value, strict=False))
        try:
            return build(values)
        except TypeError:  # a set of what cannot be hashed
            raise _fail("must have simple items", "list") from None

    return convert


def _plain_object(value: Any) -> Any:
    if isinstance(value, dict) and all(type(each) is str for each in value):
        return value
    raise _fail("must be an object", "dict")


def _mapping(key: Convert, item: Convert) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _fail("must be an object", "dict")
        keys = _each((name, key, name) for name in value)
        return dict(zip(keys, _each((name, item, each) for name, each in value.items()), strict=True))

    return convert


def _absent(value: Any) -> Any:
    raise _fail("is missing", "missing")


def _dataclass(tp: Any, known: dict[Any, Convert]) -> Convert:
    if tp in known:
        return lambda value: known[tp](value)
    known[tp] = lambda value: value  # taken; replaced below
    fields = {field.name: field for field in dataclasses.fields(tp) if field.init}
    try:
        hints = typing.get_type_hints(tp, include_extras=True)
        converters = {name: _compile(hints[name], False, known) for name in fields}
    except (NameError, TypeError) as exc:
        raise TypeError(f"the fields of {_shown(tp)} cannot be validated: {exc}") from exc
    required = {f.name for f in fields.values() if f.default is f.default_factory is dataclasses.MISSING}

    def convert(value: Any) -> Any:
        if isinstance(value, tp):
            return value
        if not isinstance(value, dict):
            raise _fail("must be an object", "object")
        given = [name for name in converters if name in value or name in required]
        values = _each((n, converters[n] if n in value else _absent, value.get(n)) for n in given)
        try:
            return tp(**dict(zip(given, values, strict=True)))
        except PublicError:
            raise
        except (ValueError, TypeError):  # __post_init__ refused; its text may be internal
            raise _fail("is not valid", "object") from None

    known[tp] = convert
    return convert
