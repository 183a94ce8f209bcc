"""Media types to values and back. JSON uses orjson if it is installed; the results are equal either way."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from .errors import BadRequest, UnsupportedMediaType

try:
    import orjson
except ImportError:  # the standard library serves as well, slower
    orjson = None  # type: ignore[assignment]


@dataclass(frozen=True)
class CodecSpec:
    """A media type and its two functions.

    Attributes:
        media_type: such as `application/json`, without parameters.
        encode: value to bytes.
        decode: bytes to value; raises ValueError on malformed input.
    """

    media_type: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):  # a pydantic model inside a plain container
        return value.model_dump(mode="json")
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent as JSON")


def _finite(value: Any) -> Any:
    """A copy without NaN and infinity, which JSON does not have: they become null, as orjson does it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _stdlib_dumps(value: Any) -> bytes:
    try:
        text = json.dumps(value, default=_default, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), default=_default, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


_BIG = 2**64


def _int(digits: str) -> int | float:
    if len(digits) < 19:
        return int(digits)
    value = int(digits) if len(digits) < 22 else _BIG * 2
    # orjson reads integers beyond 64 bits as floats; so does this, so that the answer does not depend on the machine.
    return value if -(_BIG // 2) <= value < _BIG else float(digits)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _stdlib_loads(data: bytes) -> Any:
    text = bytes(data).decode("utf-8")
    try:
        value = json.loads(text, parse_int=_int, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if _ESCAPED_SURROGATE.search(data):
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text: UnicodeEncodeError is a ValueError
    return value


if orjson is not None:
    _orjson_dumps = orjson.dumps
    _KEYS = orjson.OPT_NON_STR_KEYS

    def json_dumps(value: Any) -> bytes:
        """`value` as compact UTF-8 JSON.

        Raises:
            TypeError: a value has no JSON form.
        """
        try:
            return _orjson_dumps(value, _default)
        except TypeError:
            try:
                return _orjson_dumps(value, _default, _KEYS)
            except TypeError:
                return _stdlib_dumps(value)  # integers beyond 64 bits

    def json_loads(data: bytes) -> Any:
        """The value of UTF-8 JSON bytes.

        Raises:
            ValueError: it is not JSON, is nested too deeply, or holds NaN, infinity or a lone surrogate.
        """
        return orjson.loads(data)

else:

    def json_dumps(value: Any) -> bytes:
        """`value` as compact UTF-8 JSON.

        Raises:
            TypeError: a value has no JSON form.
        """
        return _stdlib_dumps(value)

    def json_loads(data: bytes) -> Any:
        """The value of UTF-8 JSON bytes.

        Raises:
            ValueError: it is not JSON, is nested too deeply, or holds NaN, infinity or a lone surrogate.
        """
        return _stdlib_loads(data)


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
    bare = "application/json" if is_json(content_type) else media_type(content_type)
    codec = codecs.get(bare)
    if codec is None:
        raise UnsupportedMediaType(f"Content of type {bare or 'unknown'} cannot be read here.")
    try:
        return codec.decode(body)
    except ValueError:
        raise BadRequest(f"The body is not valid {bare}.") from None
