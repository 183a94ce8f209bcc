"""JSON reads and writes the same with orjson as without it, and nothing that a client sends breaks it."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections import UserDict
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from microkit import App, Request
from microkit.codecs import JSON_LIBRARY, MAX_DEPTH, _stdlib_dumps, _stdlib_loads, is_json, json_dumps, json_loads
from tests.properties import STEADY

BOTH = pytest.mark.parametrize("loads", [json_loads, _stdlib_loads], ids=["installed", "stdlib"])
_numbers = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**400), 10**400)
)
_documents = st.recursive(
    st.none() | st.booleans() | _numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def _exact(value: Any) -> Any:
    """With types, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    return [_exact(item) for item in value] if isinstance(value, list) else (type(value).__name__, repr(value))


def _outcome(function: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return _exact(function(argument))
    except (ValueError, TypeError) as exc:
        return TypeError if isinstance(exc, TypeError) else ValueError


@pytest.mark.feature("F004-21")
def test_these_tests_compare_two_libraries() -> None:
    assert JSON_LIBRARY == "orjson"


@pytest.mark.feature("F004-21")
@STEADY
@given(st.one_of(_documents.map(lambda value: json.dumps(value).encode()), st.binary(), st.text().map(str.encode)))
@example(b"1e999")
@example(b'"\\ud800"')
@example(b'"\\udc00\\ud800"')
@example(b"-0")
def test_both_libraries_read_the_same(data: bytes) -> None:
    assert _outcome(json_loads, data) == _outcome(_stdlib_loads, data)


@pytest.mark.feature("F004-21")
@STEADY
@given(_documents.map(lambda value: json.dumps(value, ensure_ascii=False)), st.data())
def test_both_libraries_refuse_the_same_damage(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    junk = data.draw(st.sampled_from(["", "x", ",", '"', "\\", "[", "}", "0", "\ufeff", "\x00", "NaN", "\x0c", " "]))
    damaged = (text[:at] + junk + text[at + data.draw(st.integers(0, 1)) :]).encode()
    assert _outcome(json_loads, damaged) == _outcome(_stdlib_loads, damaged)


class Level(enum.IntEnum):
    HIGH = 2


class Name(str, enum.Enum):  # noqa: UP042  # the older way is to be written right as well
    A = "a"


class Plain(enum.Enum):
    X = (1, 2)


@dataclasses.dataclass
class Point:
    x: float
    tags: frozenset[str] = frozenset()
    _hidden: int = 1

    def __post_init__(self) -> None:
        self.secret = "not a field"


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Any
    _hidden: int = 1


class Ratio(float):
    pass


class Pair(NamedTuple):
    left: Any
    right: Any


_instant = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
_id = UUID(int=7)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(
        [Level.HIGH, Name.A, Plain.X, _id, Decimal("1.50"), timedelta(seconds=1.5), Ratio(0.5), Ratio("nan")]
    ),
    st.sampled_from([_instant, _instant.replace(tzinfo=None), date(2026, 1, 2), time(1, 2), time(1, 2, tzinfo=UTC)]),
)
_keys = st.one_of(
    st.text("ab"), st.integers(), st.booleans(), st.none(), st.sampled_from([_id, date(2026, 1, 2), Name.A])
)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Pair, inner, inner),
        st.dictionaries(_keys, inner, max_size=3),
        st.dictionaries(st.text("ab"), inner, max_size=2).map(UserDict),
        st.builds(Slotted, inner),
    ),
    max_leaves=10,
)


@pytest.mark.feature("F004-21")
@STEADY
@given(_values)
@example(Point(float("nan"), frozenset({"a"})))
@example({"deep": [Point(float("inf"))]})
@example({2**70: {_id: float("nan")}})
@example({(1, 2): 3})
@example([object()])
def test_both_libraries_write_the_same(value: Any) -> None:
    def written(dumps: Callable[[Any], bytes]) -> Any:
        try:
            return _exact(json.loads(dumps(value), parse_constant=lambda word: pytest.fail(f"{word} is no JSON")))
        except TypeError:
            return TypeError

    assert written(json_dumps) == written(_stdlib_dumps)


@pytest.mark.feature("F004-21")
@pytest.mark.parametrize("dumps", [json_dumps, _stdlib_dumps])
def test_a_dataclass_is_written_as_its_public_fields(dumps: Callable[[Any], bytes]) -> None:
    assert json.loads(dumps({"p": Point(1.5)})) == {"p": {"x": 1.5, "tags": []}}


@pytest.mark.feature("FX-24")
@pytest.mark.guarantee("G10")
@BOTH
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"9" * 5000,
        b"\xef\xbb\xbf1",
        b"1 x",
        b"[1,]",
        b"{'a':1}",
        b'"\\ud800"',
        b'"\xff"',
        b'"\x00"',
        b"\xff\xfe1\x00",
        b"01",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=lambda data: f"{data[:12]!r}-{len(data)}",
)
def test_what_is_no_json_is_refused(loads: Callable[[bytes], Any], data: bytes) -> None:
    with pytest.raises(ValueError):
        loads(data)


@BOTH
@pytest.mark.parametrize(("data", "value"), [(b'{"a":1,"a":2}', {"a": 2}), (b"18446744073709551616", 2.0**64)])
def test_documented_choices(loads: Callable[[bytes], Any], data: bytes, value: Any) -> None:
    assert _exact(loads(data)) == _exact(value)


@pytest.mark.feature("FX-24")
@pytest.mark.guarantee("G10")
@BOTH
@pytest.mark.parametrize("inside", [b"1", b'"[["', b'"\\"[["', b'"\\\\"', b'"]]]"'])
def test_the_depth_is_that_of_brackets_outside_of_strings(loads: Callable[[bytes], Any], inside: bytes) -> None:
    legal = b'["]",' * MAX_DEPTH + inside + b"]" * MAX_DEPTH
    loads(legal)
    loads(b"[" + b",".join([b'[{"a":"[{"}]', inside] * MAX_DEPTH) + b"]")
    with pytest.raises(ValueError):
        loads(b"[" + legal + b"]")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/problem+json", True),
        ("text/plain;x=application/json", False),
        ("text/json", False),
        ("application/jsonx", False),
        ("", False),
    ],
)
def test_what_counts_as_json(content_type: str, expected: bool) -> None:
    assert is_json(content_type) is expected


@pytest.mark.feature("F004-21")
async def test_the_deepest_legal_body_can_be_sent_back() -> None:
    app = App(plugins=[], discover=False)

    @app.post("/")
    async def echo(document: Any) -> Any:
        return document

    def post(depth: int) -> Request:
        return Request("POST", "/", {"content-type": "application/json"}, b"[" * depth + b"]" * depth)

    reply = await app.handle(post(MAX_DEPTH))
    assert (reply.http_status, reply.body) == (200, b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert (await app.handle(post(MAX_DEPTH + 1))).http_status == 400
