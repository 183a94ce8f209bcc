"""Which types pydantic validates, found out without importing it.

It takes models, dataclasses, TypedDicts, NamedTuples, containers and unions of them, types that bring a schema of
their own (`EmailStr`, `SecretStr`), IP addresses and paths, and every type with a constraint of pydantic's in its
`Annotated` metadata. Bare scalars stay with the kernel, and so does whatever holds a class that nobody knows.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections import abc
from pathlib import PurePath
from typing import Any, get_args, get_origin

from microkit.validation import (
    KERNEL_VALIDATOR,
    Convert,
    Shape,
    Source,
    ValidatorSpec,
    bare,
    metadata_in,
    shape_of,
)

_MODULES = ("pydantic", "pydantic_core", "pydantic_extra_types", "annotated_types")
_CONTAINERS = (
    abc.Mapping,
    abc.MutableMapping,
    abc.MutableSequence,
    abc.Set,
    abc.MutableSet,
    collections.deque,
    collections.defaultdict,
    collections.OrderedDict,
)


def claims(tp: Any) -> Shape | None:
    """The shape of a type that is left to pydantic, or None."""
    if is_constrained(tp):
        return shape_of(tp, _leaf) or Shape.SCALAR
    kernel = KERNEL_VALIDATOR.claims(tp)
    # The kernel keeps scalars; and there is nothing to validate in Any, in bare containers and in those of Any.
    if kernel is Shape.SCALAR or (kernel is not None and _is_untyped(bare(tp)) and not is_structured(tp)):
        return None
    return shape_of(tp, _leaf)


def _is_untyped(tp: Any) -> bool:
    parts = get_args(tp)
    return not parts or parts == (Any,) or (get_origin(tp) is dict and parts == (str, Any))


def is_constrained(tp: Any) -> bool:
    """Whether `Annotated` metadata anywhere in a type is for pydantic."""
    return any(_is_constraint(item) for item in metadata_in(tp))


def is_structured(tp: Any) -> bool:
    """Whether a type is, or holds, a model, dataclass, TypedDict or NamedTuple, or a constraint."""
    tp_bare = bare(tp)
    return (
        _is_structure(get_origin(tp_bare) or tp_bare)
        or any(is_structured(part) for part in get_args(tp_bare))
        or is_constrained(tp)
    )


def _is_constraint(item: Any) -> bool:
    cls = item if isinstance(item, type) else type(item)
    return any(base.__module__.partition(".")[0] in _MODULES for base in cls.__mro__) or hasattr(
        item, "__get_pydantic_core_schema__"
    )


def _is_structure(tp: Any) -> bool:
    if not isinstance(tp, type):
        return False
    return (
        dataclasses.is_dataclass(tp)
        or hasattr(tp, "__pydantic_decorators__")
        or (issubclass(tp, dict) and hasattr(tp, "__required_keys__"))
        or (issubclass(tp, tuple) and hasattr(tp, "_fields"))
    )


def _leaf(tp: Any) -> Shape | None:
    origin = get_origin(tp) or tp
    if _is_structure(origin):
        return Shape.MODEL
    if origin in _CONTAINERS:
        return None if None in [shape_of(part, _leaf) for part in get_args(tp)] else Shape.MODEL
    if isinstance(tp, type) and not issubclass(tp, enum.Enum) and _is_text(tp):
        return Shape.SCALAR
    return KERNEL_VALIDATOR.claims(tp)


def _is_text(tp: type) -> bool:
    return hasattr(tp, "__get_pydantic_core_schema__") or tp.__module__ == "ipaddress" or issubclass(tp, PurePath)


def _build(tp: Any, source: Source) -> Convert:
    from .adapters import converter

    return converter(tp, source)


VALIDATOR = ValidatorSpec("pydantic", claims, _build)
"""The validator; to put it before all others, and for use without discovery, `App(validator=VALIDATOR)`."""
