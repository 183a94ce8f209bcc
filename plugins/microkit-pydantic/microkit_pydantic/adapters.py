"""Converters: what pydantic makes of a type, compiled once.

Text is taken laxly, since it has no types. JSON is validated straight from its bytes and strictly: `"1"` is no
integer, but dates, UUIDs, enums and bytes are read from strings. An in-process value is taken if it is strictly valid,
or else if its JSON form is: whatever a remote caller may send, plus instances.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from microkit.annotations import describe
from microkit.codecs import json_loads
from microkit.validation import Convert, Source

from .problems import invalid

Adapter: TypeAlias = "TypeAdapter[Any]"


def adapter(tp: Any) -> Adapter:
    """The adapter of a type, complete.

    Raises:
        TypeError: pydantic has no schema for it, or a name in it cannot be resolved.
    """
    try:
        made: Adapter = TypeAdapter(tp)
        made.rebuild(raise_errors=True)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as exc:
        shown = describe(tp) if isinstance(tp, type) else str(tp)
        raise TypeError(f"pydantic cannot validate {shown}: {exc}") from exc
    return made


def converter(tp: Any, source: Source) -> Convert:
    """The converter of a type for one source of values; see the module's docstring."""
    validator = adapter(tp).validator
    validate_json, validate_python = validator.validate_json, validator.validate_python

    def from_text(value: Any) -> Any:
        try:
            return validate_python(value)
        except ValidationError as exc:
            raise invalid(exc, value) from None

    def from_json(data: bytes) -> Any:
        if b"NaN" in data or b"Infinity" in data:
            json_loads(data)  # pydantic takes these words for numbers, JSON does not
        try:
            return validate_json(data, strict=True)
        except ValidationError as exc:
            failure = exc
        # What pydantic cannot parse, this refuses as well: with a ValueError, not as an invalid value.
        raise invalid(failure, json_loads(data))

    def from_python(value: Any) -> Any:
        try:
            return validate_python(value, strict=True)
        except ValidationError as exc:
            failure = exc
        try:
            return validate_json(to_json(value, by_alias=True), strict=True)
        except ValidationError as exc:
            failure = exc
        except PydanticSerializationError:
            pass
        raise invalid(failure, value)

    return {Source.TEXT: from_text, Source.JSON: from_json, Source.PYTHON: from_python}[source]
