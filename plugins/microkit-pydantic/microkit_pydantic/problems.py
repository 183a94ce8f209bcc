"""pydantic's errors in words that are safe for the caller.

No input value, no class name and no text of an exception leaves: where a message of pydantic's would carry one, another
stands here. Messages of `PydanticCustomError` are passed on: raising it is the way of a validator to speak to the
caller. The text of a ValueError or AssertionError of a validator stays inside, since it may be anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from microkit.call import MISSING
from microkit.validation import MAX_PROBLEMS, Invalid, Problem

# Instead of the messages that quote an error, a class or the input.
MESSAGES: Mapping[str, str] = {
    "no_such_attribute": "is not known",
    "json_invalid": "must be valid JSON",
    "needs_python_object": "cannot be read from JSON",
    "get_attribute_error": "cannot be read",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dataclass_type": "must be an object",
    "dataclass_exact_type": "must be an object",
    "named_tuple_type": "must be an array or an object",
    "iteration_error": "must be an array",
    "mapping_type": "must be an object",
    "value_error": "is not valid",
    "assertion_error": "is not valid",
    "date_parsing": "must be an ISO 8601 date",
    "date_from_datetime_parsing": "must be an ISO 8601 date",
    "time_parsing": "must be an ISO 8601 time",
    "datetime_parsing": "must be an ISO 8601 date and time",
    "datetime_object_invalid": "must be an ISO 8601 date and time",
    "datetime_from_date_parsing": "must be an ISO 8601 date and time",
    "time_delta_parsing": "must be a duration",
    "is_instance_of": "is of the wrong type",
    "is_subclass_of": "is of the wrong type",
    "union_tag_invalid": "is none of the known kinds",
    "union_tag_not_found": "does not say of which kind it is",
    "url_parsing": "must be a URL",
    "url_syntax_violation": "must be a URL",
    "uuid_parsing": "must be a UUID",
    "missing": "is missing",
}


def invalid(exc: ValidationError, value: Any) -> Invalid:
    """The problems of a validation, placed in the value by names that the sender knows.

    Args:
        value: what was validated, decoded.
    """
    count = exc.error_count()
    if count > 10 * MAX_PROBLEMS:  # to list them would cost more than to find them
        return Invalid(((), f"has {count} problems", "too_many"))
    problems: list[Problem] = []
    for error in exc.errors(include_url=False, include_context=False, include_input=False)[:MAX_PROBLEMS]:
        kind = error["type"]
        problems.append((_place(error["loc"], value, kind), MESSAGES.get(kind, error["msg"]), kind))
    return Invalid(*problems)


def _place(location: Sequence[int | str], value: Any, kind: str) -> tuple[int | str, ...]:
    """`location` without what pydantic adds to it: names of union members, of validators and of classes."""
    place: list[int | str] = []
    for index, step in enumerate(location):
        found = _item(value, step)
        if found is not MISSING or (kind.startswith("missing") and index == len(location) - 1):
            place.append(step)
            value = found
    return tuple(place)


def _item(value: Any, step: int | str) -> Any:
    if isinstance(value, Mapping):
        return value.get(step, MISSING)
    if isinstance(step, int):
        indexed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return value[step] if indexed and -len(value) <= step < len(value) else MISSING
    return MISSING if isinstance(value, Sequence) else getattr(value, "__dict__", {}).get(step, MISSING)
