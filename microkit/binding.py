"""Binders: functions that read one parameter's value out of a call, made at compile time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import annotations
from .annotations import Parameter
from .call import MISSING, Batch, Call, Kind, Message, RpcRequest
from .codecs import decode, is_json, media_type
from .errors import BadRequest, PublicError, UnsupportedMediaType, ValidationError
from .validation import Convert, Invalid, Shape, Source, Validators, to_validation_error

if TYPE_CHECKING:
    from .http import Request

Getter = Callable[[Any], Any]


@dataclass(frozen=True)
class Binder:
    """How one parameter gets its value.

    Attributes:
        get: takes the call, returns the value (or an awaitable, if `is_async`).
        label: for `explain`, such as `query page: int (kernel)`.
        is_async: whether `get` is a coroutine function.
        kinds: kinds of call that it works for.
    """

    get: Getter
    label: str = ""
    is_async: bool = False
    kinds: Kind = field(default_factory=Kind.all)


@dataclass
class SourceContext:
    """What a trigger knows when it is asked for the source of a parameter.

    Attributes:
        validators: the app's validators.
        owner: the function whose parameter it is.
        is_handler: the handler itself, not one of its dependencies.
    """

    validators: Validators
    owner: Any
    is_handler: bool


def valued(
    parameter: Parameter,
    where: tuple[Any, ...],
    extract: Getter,
    validators: Validators,
    source: Source,
    default: Any = MISSING,
) -> Binder:
    """A binder that extracts, falls back to the default, and validates.

    Args:
        where: location for errors, such as `("query", "page")`.
        extract: takes the call; MISSING when there is nothing.
    """
    default = parameter.default if default is MISSING else default
    convert, validator = validators.converter(parameter.declared, source)
    get = _guarded(extract, convert, default, where)
    shown = "" if parameter.annotation is annotations.Empty else f": {annotations.describe(parameter.annotation)}"
    return Binder(get, f"{where[0]} {where[-1]}{shown} ({validator})")


def _guarded(extract: Getter, convert: Convert | None, default: Any, where: tuple[Any, ...]) -> Getter:
    def get(call: Any) -> Any:
        raw = extract(call)
        if raw is MISSING:
            if default is MISSING:
                raise ValidationError([{"loc": list(where), "msg": "is missing", "type": "missing"}])
            return default
        if convert is None:
            return raw
        try:
            return convert(raw)
        except Invalid as exc:
            raise to_validation_error(exc, where) from None

    return get


def query_binder(parameter: Parameter, name: str, validators: Validators, default: Any = MISSING) -> Binder:
    """A value of the query string; a list annotation takes all values of the name."""
    if validators.shape(parameter.annotation) is Shape.SCALARS:

        def extract(call: Any) -> Any:
            return call.query.getlist(name) or MISSING
    else:

        def extract(call: Any) -> Any:
            return call.query.get(name, MISSING)

    return valued(parameter, ("query", name), extract, validators, Source.TEXT, default)


def header_binder(parameter: Parameter, name: str, validators: Validators, default: Any = MISSING) -> Binder:
    """A header (metadata) value."""
    if validators.shape(parameter.annotation) is Shape.SCALARS:

        def extract(call: Any) -> Any:
            return call.headers.getlist(name) or MISSING
    else:

        def extract(call: Any) -> Any:
            return call.headers.get(name, MISSING)

    return valued(parameter, ("header", name), extract, validators, Source.TEXT, default)


def cookie_binder(parameter: Parameter, name: str, validators: Validators, default: Any = MISSING) -> Binder:
    """A cookie's value."""
    return valued(
        parameter, ("cookie", name), lambda call: call.cookies.get(name, MISSING), validators, Source.TEXT, default
    )


def path_binder(parameter: Parameter, index: int, produces: Any, validators: Validators) -> Binder:
    """A value of the path; not validated again if the route's converter already produces the annotated type."""

    def extract(call: Any) -> Any:
        return call.values[index]

    if parameter.annotation is produces or parameter.annotation is annotations.Empty:
        return Binder(extract, f"path {parameter.name}")
    source = Source.TEXT if produces is str else Source.PYTHON
    return valued(parameter, ("path", parameter.name), extract, validators, source)


def body_binder(parameter: Parameter, context: SourceContext, *, embed: str = "", default: Any = MISSING) -> Binder:
    """The body of an HTTP request: bytes as they are, else JSON validated in one step.

    Args:
        embed: take this key of a JSON object instead of the whole body.
    """
    default = parameter.default if default is MISSING else default
    if parameter.annotation is bytes and not embed:
        return Binder(_raw_body, "body: bytes", is_async=True, kinds=Kind.HTTP)
    if parameter.annotation is str and not embed:
        return Binder(_text_body, "body: str", is_async=True, kinds=Kind.HTTP)
    source = Source.PYTHON if embed else Source.JSON
    convert, validator = context.validators.converter(parameter.declared, source)
    where = ("body", embed) if embed else ("body",)

    async def get(request: Request) -> Any:
        content_type = request.headers.get("content-type", "")
        if not is_json(content_type):
            if default is not MISSING and not content_type and not await request.body():
                return default
            raise UnsupportedMediaType(
                f"The body must be application/json, not {media_type(content_type) or 'without a content type'}."
            )
        if embed:
            document = await request.json()
            raw = document.get(embed, MISSING) if isinstance(document, dict) else MISSING
            if raw is MISSING:
                if default is not MISSING:
                    return default
                raise ValidationError([{"loc": ["body", embed], "msg": "is missing", "type": "missing"}])
        else:
            raw = await request.body()
        return _converted(convert, raw, where)

    return Binder(get, f"body: {annotations.describe(parameter.annotation)} ({validator})", True, Kind.HTTP)


async def _raw_body(request: Request) -> bytes:
    return await request.body()


async def _text_body(request: Request) -> str:
    return await request.text()


def _converted(convert: Convert | None, raw: Any, where: tuple[Any, ...]) -> Any:
    if convert is None:
        return raw
    try:
        return convert(raw)
    except Invalid as exc:
        raise to_validation_error(exc, where) from None
    except PublicError:
        raise
    except ValueError:
        raise BadRequest("The body is not valid JSON.") from None


def payload_binder(parameter: Parameter, context: SourceContext) -> Binder:
    """The payload of a message."""
    if parameter.annotation is bytes:
        return Binder(lambda message: message.body, "payload: bytes")
    typed = parameter.annotation is not annotations.Empty
    from_json, validator = context.validators.converter(parameter.declared, Source.JSON) if typed else (None, "kernel")
    from_python, _ = context.validators.converter(parameter.declared, Source.PYTHON)

    def get(message: Message) -> Any:
        if message._payload is MISSING:
            if from_json is not None and is_json(message.content_type):
                return _converted(from_json, message.body, ("payload",))
            return _converted(from_python, decode(message.body, message.content_type), ("payload",))
        return _converted(from_python, message._payload, ("payload",))

    return Binder(get, f"payload {parameter.name} ({validator})", kinds=Kind.MESSAGE)


def batch_binder(parameter: Parameter, context: SourceContext) -> Binder:
    """The payloads of a batch, as a list."""
    convert, validator = context.validators.converter(parameter.declared, Source.PYTHON)

    def get(batch: Batch) -> Any:
        return _converted(convert, batch.payloads, ("payload",))

    return Binder(get, f"payloads {parameter.name} ({validator})", kinds=Kind.BATCH)


def rpc_payload_binder(parameter: Parameter, context: SourceContext) -> Binder:
    """The whole payload of an RPC call, as one model."""
    from_json, validator = context.validators.converter(parameter.declared, Source.JSON)
    from_python, _ = context.validators.converter(parameter.declared, Source.PYTHON)
    name, tp = parameter.name, parameter.annotation

    def get(request: RpcRequest) -> Any:
        if request.raw is not None and is_json(request.content_type):
            return _converted(from_json, request.raw, ("payload",))
        kwargs = request.kwargs
        # An in-process caller may pass the model itself by name.
        if len(kwargs) == 1 and name in kwargs and not request.args and isinstance(kwargs[name], tp):
            return kwargs[name]
        return _converted(from_python, request.payload, ("payload",))

    return Binder(get, f"payload {name} ({validator})", kinds=Kind.RPC)


def argument_binder(parameter: Parameter, index: int, validators: Validators) -> Binder:
    """An argument of an RPC call, by position or by name."""
    name = parameter.name

    def extract(request: RpcRequest) -> Any:
        args, kwargs = arguments_of(request)
        if 0 <= index < len(args):
            if name in kwargs:
                raise ValidationError([{"loc": [name], "msg": "is given twice", "type": "duplicate"}])
            return args[index]
        return kwargs.get(name, MISSING)

    binder = valued(parameter, ("arguments", name), extract, validators, Source.PYTHON)
    return Binder(binder.get, binder.label, kinds=Kind.RPC)


def arguments_of(request: RpcRequest) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments; an encoded payload is decoded once (an array or an object)."""
    if request.raw is not None:
        decoded = decode(request.raw, request.content_type) if request.raw else {}
        request.raw = None
        if isinstance(decoded, dict):
            request.kwargs = decoded
        else:
            request.args = tuple(decoded) if isinstance(decoded, list) else (decoded,)
    return request.args, request.kwargs


def check_arguments(names: list[str], positional: int, *, extra_args: bool, extra_kwargs: bool) -> Getter:
    """A function that refuses arguments that no parameter takes."""
    known = frozenset(names)

    def check(request: Call) -> None:
        args, kwargs = arguments_of(request)  # type: ignore[arg-type]
        problems = []
        if not extra_args and len(args) > positional:
            problems.append(
                {"loc": ["arguments"], "msg": f"at most {positional} positional", "type": "too_many"}
            )
        if not extra_kwargs:
            problems += [
                {"loc": ["arguments", str(name)[:100]], "msg": "is not known", "type": "unknown"}
                for name in kwargs
                if name not in known
            ]
        if problems:
            raise ValidationError(problems)

    return check
