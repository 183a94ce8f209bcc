"""The kernel's own validator, type by type."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import pytest

from microkit.validation import MAX_PROBLEMS, Invalid, Shape, Source, Validators

VALIDATORS = Validators()
UserId = NewType("UserId", int)


class Color(enum.Enum):
    RED = "red"
    TWO = 2


class Level(enum.IntEnum):
    ONE = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Loose(enum.Enum):
    A = "a"

    @classmethod
    def _missing_(cls, value: object) -> Loose | None:
        return cls.A if value == "A" else None


@dataclass
class Address:
    city: str
    zip: int = 0


@dataclass
class Person:
    name: str
    home: Address
    tags: set[str] = field(default_factory=set)
    boss: Person | None = None
    since: date | None = None


@dataclass
class Picky:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError("internal: /etc/passwd")


@dataclass
class Unknown:
    thing: object
    what: Shape
    where: Validators


def convert(tp: Any, value: Any, source: Source) -> Any:
    function, name = VALIDATORS.converter(tp, source)
    assert name == "kernel"
    return value if function is None else function(value)


_NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LEGAL_TEXT = [
    (str, "x", "x"),
    (int, " -5 ", -5),
    (float, "1e3", 1000.0),
    (bool, "Yes", True),
    (bool, "off", False),
    (bytes, "é", b"\xc3\xa9"),
    (UUID, "00000000-0000-0000-0000-000000000007", UUID(int=7)),
    (datetime, "2026-01-02T12:00:00Z", _NOON),
    (datetime, "2026-01-02 13:00+01:00", _NOON),
    (date, "2026-01-02", date(2026, 1, 2)),
    (time, "12:30", time(12, 30)),
    (timedelta, "1.5", timedelta(seconds=1.5)),
    (Decimal, "1.10", Decimal("1.10")),
    (Color, "red", Color.RED),
    (Color, "2", Color.TWO),
    (Level, "1", Level.ONE),
    (Loose, "A", Loose.A),
    (Literal["a", 1, True], "a", "a"),
    (Literal["a", 2], "2", 2),
    (Literal[True], "true", True),
    (int | str, "5", 5),
    (int | str, "five", "five"),
    (str | int, "5", 5),
    (float | None, "5", 5.0),
    (list[int], ["1", "2"], [1, 2]),
    (list[int] | None, ["1"], [1]),
    (set[Color], ["red", "red"], {Color.RED}),
    (tuple[int, ...], ["1", "2"], (1, 2)),
    (Sequence[str], ["a"], ["a"]),
    (list, ["a"], ["a"]),
    (UserId, "3", 3),
    (Annotated[int, "documentation"], "3", 3),
]


@pytest.mark.feature("F001-43")
@pytest.mark.parametrize(("tp", "text", "expected"), LEGAL_TEXT, ids=lambda value: str(value)[:40])
def test_text(tp: Any, text: Any, expected: Any) -> None:
    value = convert(tp, text, Source.TEXT)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.feature("F001-43")
@pytest.mark.parametrize(
    ("tp", "text"),
    [
        *[(int, text) for text in ("", "1.0", "1_000", "٣", "9" * 4301, "0x1", "true")],
        *[(float, text) for text in ("nan", "inf", "-Infinity", "1e999", "1_0", "")],
        *[(bool, text) for text in ("", "2", "y")],
        *[(Decimal, text) for text in ("NaN", "Infinity", "1e99999", "1_0", "٣", "x")],
        *[(datetime, text) for text in ("2026-01-02", "20260102", "2026-13-01T00:00:00", "now", "")],
        *[(date, text) for text in ("2026-01-02T00:00:00", "20260102", "2026-02-30")],
        (time, "25:00"),
        *[(timedelta, text) for text in ("1e300", "nan", "x")],
        (UUID, "7"),
        (Color, "RED"),
        (Literal[True], "True"),
        (int | None, ""),
        (list[int], ["1", "x"]),
        (None | int, "None"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_illegal_text(tp: Any, text: Any) -> None:
    with pytest.raises(Invalid):
        convert(tp, text, Source.TEXT)


@pytest.mark.parametrize(
    ("tp", "value", "expected"),
    [
        (int, 2**70, 2**70),
        (float, 1, 1.0),
        (Decimal, 1.1, Decimal("1.1")),
        (Decimal, "2", Decimal(2)),
        (timedelta, 2, timedelta(seconds=2)),
        (datetime, "2026-01-02T12:00:00Z", _NOON),
        (bytes, "x", b"x"),
        (Color, "red", Color.RED),
        (Color, Color.RED, Color.RED),
        (Right, 3, Right.READ | Right.WRITE),
        (Literal[1, "a"], 1, 1),
        (date | datetime, "2026-01-02", date(2026, 1, 2)),
        (datetime | date, "2026-01-02", date(2026, 1, 2)),
        (None | int, None, None),
        (Any, [1], [1]),
        (dict, {"a": [1]}, {"a": [1]}),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (dict[int, date], {"1": "2026-01-02"}, {1: date(2026, 1, 2)}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (list[tuple[str, ...]], [["a", "b"], []], [("a", "b"), ()]),
        (frozenset[str], ["a", "a"], frozenset("a")),
        (list[Address], [{"city": "x"}], [Address("x")]),
        (Address, {"city": "x", "more": 1}, Address("x")),
        (Address | int, {"city": "x"}, Address("x")),
    ],
    ids=lambda value: str(value)[:40],
)
def test_strict_values(tp: Any, value: Any, expected: Any) -> None:
    converted = convert(tp, value, Source.PYTHON)
    assert (converted, type(converted)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("tp", "value"),
    [
        *[(int, value) for value in (True, 1.0, "1", None, [1])],
        *[(float, value) for value in (True, "1", 10**400)],
        *[(bool, value) for value in (1, "true", None)],
        *[(str, value) for value in (1, None, b"x")],
        *[(date, value) for value in (_NOON, 0, "2026-01-02T00:00:00Z")],
        *[(Decimal, value) for value in (True, "NaN", float("inf"), "1e99999")],
        *[(timedelta, value) for value in (True, 1e300, float("nan"))],
        (datetime, "2026-01-02"),
        (bytes, "\ud800"),
        (Level, True),
        (Level, 1.0),
        (Level, [1]),
        (Literal[1], True),
        (list[int], "12"),
        (list[int], {"a": 1}),
        (set[Any], [[1]]),
        (tuple[int, str], [1]),
        (tuple[int, str], [1, 2]),
        (dict[int, int], {"x": 1}),
        (dict[str, int], [["a", 1]]),
        (Address, ["x"]),
        (Address, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_strict_values_that_do_not_fit(tp: Any, value: Any) -> None:
    with pytest.raises(Invalid):
        convert(tp, value, Source.PYTHON)


def problems(tp: Any, value: Any) -> dict[tuple[Any, ...], str]:
    with pytest.raises(Invalid) as caught:
        convert(tp, json.dumps(value).encode(), Source.JSON)
    return {place: message for place, message, _ in caught.value.problems}


@pytest.mark.feature("F001-47")
def test_every_problem_of_a_document_has_its_place() -> None:
    document = {"home": {"zip": "1", "city": 5}, "tags": ["a", 1], "boss": {"name": "x", "home": 3}, "since": "soon"}
    assert problems(Person, document) == {
        ("name",): "is missing",
        ("home", "city"): "must be a string",
        ("home", "zip"): "must be an integer",
        ("tags", 1): "must be a string",
        ("boss", "home"): "must be an object",
        ("since",): "must be an ISO 8601 date, or must be null",
    }
    assert problems(dict[str, list[int]], {"a": [1, "x"]}) == {("a", 1): "must be an integer"}
    assert problems(dict[int, int], {"x": 1}) == {("x",): "must be an integer"}
    assert problems(Picky, {"n": -1}) == {(): "is not valid"}


@pytest.mark.feature("F001-47")
def test_a_recursive_dataclass() -> None:
    document = {"name": "a", "home": {"city": "x"}, "boss": {"name": "b", "home": {"city": "y"}, "boss": None}}
    found = convert(Person, json.dumps(document).encode(), Source.JSON)
    assert found == Person("a", Address("x"), boss=Person("b", Address("y")))
    assert convert(Person, found, Source.PYTHON) is found


@pytest.mark.guarantee("G10")
def test_the_number_of_problems_is_bounded() -> None:
    assert len(problems(list[int], ["x"] * 10_000)) == MAX_PROBLEMS


@pytest.mark.parametrize(
    ("tp", "shape"),
    [
        (int, Shape.SCALAR),
        (int | None, Shape.SCALAR),
        (UserId, Shape.SCALAR),
        (list[int], Shape.SCALARS),
        (list[int] | None, Shape.SCALARS),
        (tuple[int, str], Shape.MODEL),
        (list[list[int]], Shape.MODEL),
        (Address | None, Shape.MODEL),
        (dict[str, int], Shape.MODEL),
        (Validators, None),
        (list[Validators], None),
        (int | Validators, None),
        ("Unresolved", None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_shapes(tp: Any, shape: Shape | None) -> None:
    assert VALIDATORS.shape(tp) is shape


def test_a_field_of_an_unknown_type_is_named_when_the_converter_is_made() -> None:
    with pytest.raises(TypeError, match=r"fields of .*Unknown cannot be validated: no validator handles .*Validators"):
        VALIDATORS.converter(Unknown, Source.JSON)
