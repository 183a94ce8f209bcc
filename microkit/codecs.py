"""Media types to values and back. JSON uses orjson if it is installed; the results are equal either way."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .errors import BadRequest, UnsupportedMediaType

if TYPE_CHECKING:
    from .http import FormData, Request

try:
    import orjson
except ImportError:  # the standard library serves as well, slower
    orjson = None


@dataclass(frozen=True)
class CodecSpec:
    """A media type and its two functions.

    Attributes:
        media_type: such as `application/json`, without parameters.
        encode: value to bytes.
        decode: bytes to value; raises ValueError on malformed input.
        read: for a media type of forms: reads the body of a request, as a stream if it likes; see `Request.form`.
    """

    media_type: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    read: Callable[[Request], Awaitable[FormData]] | None = None


MAX_DEPTH = 200
"""How deep JSON may be nested that is read: what was read can be walked and written again."""


def _default(value: Any) -> Any:
    """What a value that JSON does not know is written as."""
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "model_dump"):  # a pydantic model inside a plain container
        return value.model_dump(mode="json", by_alias=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        return {name: getattr(value, name) for name in names}
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent as JSON")


def _plain(value: Any) -> Any:
    """A copy of JSON's own types: NaN and infinity become null, keys become text."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return _plain(_default(value))


def _key(key: Any) -> str:
    if isinstance(key := _plain(key), str):
        return key
    if isinstance(key, dict | list):
        raise TypeError("a key of an object cannot be sent as JSON")
    return json.dumps(key)


def _stdlib_dumps(value: Any) -> bytes:
    try:
        text = json.dumps(value, default=_default, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError):
        text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    return text.encode()


_BIG = 2**64


def _int(digits: str) -> int | float:
    if len(digits) < 19:
        return int(digits)
    value = int(digits) if len(digits) < 22 else _BIG * 2
    # orjson reads integers beyond 64 bits as floats; so does this, so that the answer does not depend on the machine.
    return value if -(_BIG // 2) <= value < _BIG else _float(digits)


def _float(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise ValueError("a number is out of range")
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_UNSTRUCTURED = bytes(set(range(256)) - set(b'[]{}"\\'))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def _check_depth(data: bytes) -> None:
    if len(data) <= 2 * MAX_DEPTH or data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    marks = data.translate(None, _UNSTRUCTURED)
    if b"\\" in marks or b'"' in (marks := marks.replace(b'""', b"")):  # a string has an escape or a bracket inside
        marks = _STRING.sub(b"", data).translate(None, _UNSTRUCTURED)
    if max(accumulate(_STEPS.get(mark, 0) for mark in marks), default=0) > MAX_DEPTH:
        raise ValueError("the JSON is nested too deeply")


def _stdlib_loads(data: bytes) -> Any:
    _check_depth(data)
    value = json.loads(bytes(data).decode("utf-8"), parse_int=_int, parse_float=_float, parse_constant=_refuse)
    if _ESCAPED_SURROGATE.search(data):
        json.dumps(
            value, ensure_ascii=False
        ).encode()  # a lone surrogate is no text: UnicodeEncodeError is a ValueError
    return value


if orjson is None:
    _dumps, _loads = _stdlib_dumps, _stdlib_loads
else:
    _orjson_loads, _orjson_dumps = orjson.loads, orjson.dumps
    # Of a dataclass orjson would write every attribute that the instance happens to have, not the fields.
    _FIELDS = orjson.OPT_PASSTHROUGH_DATACLASS
    _KEYS = orjson.OPT_NON_STR_KEYS | _FIELDS

    def _dumps(value: Any) -> bytes:
        try:
            return _orjson_dumps(value, _default, _FIELDS)
        except TypeError:
            try:
                return _orjson_dumps(value, _default, _KEYS)
            except TypeError:
                return _stdlib_dumps(value)  # integers beyond 64 bits

    def _loads(data: bytes) -> Any:
        _check_depth(data)
        return _orjson_loads(data)


json_dumps: Callable[[Any], bytes] = _dumps
"""A value as compact UTF-8 JSON. NaN and infinity become null; a dataclass gives its fields without leading `_`.

Raises TypeError if a value has no JSON form, ValueError if a text holds a lone surrogate.
"""

json_loads: Callable[[bytes], Any] = _loads
"""The value of UTF-8 JSON bytes. Of a repeated key the last value counts; integers beyond 64 bits become floats.

Raises ValueError if it is not JSON, is nested more than `MAX_DEPTH` deep, or holds NaN, a number out of the range of a
float, a byte order mark or a lone surrogate.
"""

JSON_LIBRARY = "json" if orjson is None else "orjson"

JSON_CODEC = CodecSpec("application/json", json_dumps, json_loads)
TEXT_CODEC = CodecSpec("text/plain", lambda value: str(value).encode(), lambda data: data.decode())
BYTES_CODEC = CodecSpec("application/octet-stream", bytes, bytes)

_BUILT_IN = {codec.media_type: codec for codec in (JSON_CODEC, TEXT_CODEC, BYTES_CODEC)}


def media_type(content_type: str) -> str:
    """The bare, lower-case media type of a Content-Type value."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """Whether a Content-Type means JSON (RFC 8259, or a `+json` suffix by RFC 6839)."""
    bare = media_type(content_type)
    return bare == "application/json" or (bare.startswith("application/") and bare.endswith("+json"))


def decode(body: bytes, content_type: str, codecs: Mapping[str, CodecSpec] = _BUILT_IN) -> Any:
    """The value of a body.

    Raises:
        BadRequest: the bytes are not what the media type says.
        UnsupportedMediaType: no codec knows the media type.
    """
    bare = content_type
    if bare not in codecs:
        bare = "application/json" if is_json(content_type) else media_type(content_type)
    codec = codecs.get(bare)
    if codec is None:
        raise UnsupportedMediaType(f"Content of type {bare or 'unknown'} cannot be read here.")
    try:
        return codec.decode(body)
    except ValueError:
        raise BadRequest(f"The body is not valid {bare}.") from None
