"""Results of handlers, checked and filtered by the handler's return annotation.

It happens by itself where the annotation of an HTTP or RPC handler holds a model, dataclass, TypedDict, NamedTuple or
constraint. A result may be an instance, a mapping, or an object with the attributes of a model (of an ORM); what the
annotation does not name is left out. Replies (`Response` and its family) and streams are not touched; a handler that
returns `Any` is not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, wraps
from types import UnionType
from typing import Any, Union, get_args, get_origin

from microkit.annotations import Empty, describe, is_async, is_async_generator, is_generator
from microkit.call import Kind, Reply
from microkit.endpoint import Endpoint
from microkit.plan import Plan
from microkit.renderers import RendererSpec, json_reply
from microkit.validation import bare

from .claims import claims, is_structured


def check_results(plan: Plan) -> None:
    """Let the results of a plan's handler pass through its return annotation, if that is one of pydantic's.

    Raises:
        TypeError: pydantic has no schema for the annotation.
    """
    handler = plan.endpoint.handler
    if plan.kind not in Kind.HTTP | Kind.RPC or is_generator(handler) or is_async_generator(handler):
        return
    tp = _checked_part(plan.endpoint.returns, plan.kind)
    if tp is Empty or isinstance(tp, str) or not is_structured(tp) or claims(tp) is None:
        return
    check = result_check(tp, plan.endpoint, to_json=plan.kind is Kind.HTTP)
    run = plan.handler

    @wraps(run)
    async def checked(*args: Any) -> Any:
        return check(await run(*args))

    @wraps(run)
    def checked_inline(*args: Any) -> Any:
        return check(run(*args))

    plan.handler = checked if is_async(handler) else checked_inline


def _checked_part(tp: Any, kind: Kind) -> Any:
    """The annotation without replies, and of `tuple[int, X]`, which is a status and a body, the body."""
    origin, parts = get_origin(bare(tp)), get_args(bare(tp))
    if origin in (Union, UnionType):
        rest = [part for part in parts if not (isinstance(part, type) and issubclass(part, Reply))]
        if len(rest) < len(parts):
            return reduce(lambda a, b: a | b, rest) if rest else Empty
    if kind is Kind.HTTP and origin is tuple:
        return parts[1] if len(parts) > 1 and bare(parts[0]) is int else Empty
    return tp


def result_check(tp: Any, endpoint: Endpoint, *, to_json: bool) -> Callable[[Any], Any]:
    """A function that returns what a result is sent as.

    Args:
        to_json: a `Response` with the JSON, else the validated value.
    """
    from pydantic import ValidationError
    from pydantic_core import PydanticSerializationError

    from .adapters import adapter
    from .problems import invalid

    made = adapter(tp)
    validate, serialize = made.validator.validate_python, made.serializer.to_json

    def check(result: Any) -> Any:
        if isinstance(result, Reply):
            return result
        if to_json and type(result) is tuple and len(result) in (2, 3) and type(result[0]) is int:
            return (result[0], check(result[1]), *result[2:])
        try:
            value = validate(result, from_attributes=True)
            if not to_json or value is None or isinstance(value, str | bytes):
                return value
            # A model that was changed after its validation is judged here.
            return json_reply(serialize(value, by_alias=True, warnings="error"))
        except ValidationError as exc:
            problems = "; ".join(
                f"{'.'.join(map(str, place)) or 'it'}: {message}" for place, message, _ in invalid(exc, result).problems
            )
        except PydanticSerializationError:
            problems = "a part of it cannot be serialized as its annotation says"
        # The cause would carry the values of the result into the log.
        raise ResultError(f"the result of {endpoint} is no {_shown(tp)}: {problems}")

    return check


class ResultError(TypeError):
    """A handler returned what its annotation does not allow: the fault of the service, not of its caller."""


def _shown(tp: Any) -> str:
    return describe(tp) if isinstance(tp, type) else str(tp)


def _render(model: Any) -> Reply:
    return json_reply(model.__pydantic_serializer__.to_json(model, by_alias=True))


MODEL_RENDERER = RendererSpec("pydantic.main.BaseModel", _render)
"""Models that a handler returns without an annotation, straight to JSON."""
