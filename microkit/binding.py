"""Binders: functions that read one parameter's value out of a call, made at compile time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import annotations
from .annotations import Parameter
from .call import MISSING, Kind, RpcRequest
from .codecs import decode, is_json, media_type
from .errors import BadRequest, UnsupportedMediaType, ValidationError
from .messages import Batch, Message
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
        path_values: how many values of `call.values` have names in the path's pattern.
    """

    validators: Validators
    owner: Any
    is_handler: bool
    path_values: int = 0


@dataclass(frozen=True)
class Arguments:
    """What of a handler takes plain arguments; a trigger says by it what becomes of all others.

    Attributes:
        parameters: the unclaimed ones, in the order of the signature.
        names: what its dependencies take, by name.
        claimed: names of the parameters that something else fills, so that no argument can.
        args, kwargs: whether it has `*args` and `**kwargs`.
        whole: a parameter takes the whole call, and so judges its arguments.
    """

    parameters: Sequence[Parameter]
    names: Collection[str]
    claimed: Collection[str]
    args: bool
    kwargs: bool
    whole: bool


def valued(
    parameter: Parameter, where: tuple[Any, ...], extract: Getter, validators: Validators, source: Source
) -> Binder:
    """A binder that extracts, falls back to the default, and validates.

    Args:
        where: location for errors, such as `("query", "page")`.
        extract: takes the call; MISSING when there is nothing.
    """
    default = parameter.default
    convert, validator = validators.converter(parameter.declared, source)

    def get(call: Any) -> Any:
        raw = extract(call)
        if raw is not MISSING:
            return raw if convert is None else _converted(convert, raw, where)
        if default is MISSING:
            raise _missing(where)
        return default

    return Binder(get, f"{where[0]} {where[-1]}{_shown(parameter)} ({validator})")


def _shown(parameter: Parameter) -> str:
    return "" if parameter.annotation is annotations.Empty else f": {annotations.describe(parameter.annotation)}"


def _missing(where: tuple[Any, ...]) -> ValidationError:
    return ValidationError([{"loc": list(where), "msg": "is missing", "type": "missing"}])


def _converted(convert: Convert | None, raw: Any, where: tuple[Any, ...]) -> Any:
    if convert is None:
        return raw
    try:
        return convert(raw)
    except Invalid as exc:
        raise to_validation_error(exc, where) from None
    except RecursionError:
        raise BadRequest("The input is nested too deeply.") from None


def _from_json(convert: Convert | None, raw: bytes, where: tuple[Any, ...], what: str) -> Any:
    try:
        return _converted(convert, raw, where)
    except ValueError:  # it is no JSON; whatever else a validator refuses is Invalid
        raise BadRequest(f"The {what} is not valid JSON.") from None


_READ: dict[str, Getter] = {
    "query": lambda call: call.query,
    "header": lambda call: call.headers,
    "cookie": lambda call: call.cookies,
}


def text_binder(parameter: Parameter, place: str, name: str, validators: Validators) -> Binder:
    """A value of the query, the headers (metadata) or the cookies; a list annotation takes all values of the name."""
    read, shape = _READ[place], validators.shape(parameter.declared)
    if shape is Shape.MODEL:
        raise TypeError(f"{parameter.declared} is more than a single {place} value can be")

    def extract(call: Any) -> Any:
        return read(call).get(name, MISSING)

    def extract_all(call: Any) -> Any:
        values = read(call)
        # Cookies, and the headers of messages, are plain mappings.
        return (values.getlist(name) if hasattr(values, "getlist") else values.get(name)) or MISSING

    get = extract_all if shape is Shape.SCALARS else extract
    return valued(parameter, (place, name), get, validators, Source.TEXT)


def path_binder(parameter: Parameter, index: int, produces: Any, validators: Validators) -> Binder:
    """A value of the path; not validated again if the route's converter already produces the annotated type."""

    def extract(call: Any) -> Any:
        return call.values[index]

    if parameter.declared in (produces, annotations.Empty):
        return Binder(extract, f"path {parameter.name}")
    source = Source.TEXT if produces is str else Source.PYTHON
    return valued(parameter, ("path", parameter.name), extract, validators, source)


def body_binder(parameter: Parameter, context: SourceContext, *, embed: str = "") -> Binder:
    """The body of an HTTP request: bytes as they are, else JSON validated in one step. An empty body is none.

    Args:
        embed: take this key of a JSON object instead of the whole body.
    """
    default = parameter.default
    if parameter.declared is bytes and not embed:
        return Binder(_raw_body, "body: bytes", is_async=True, kinds=Kind.HTTP)
    if parameter.declared is str and not embed:
        return Binder(_text_body, "body: str", is_async=True, kinds=Kind.HTTP)
    source = Source.PYTHON if embed else Source.JSON
    convert, validator = context.validators.converter(parameter.declared, source)

    async def get(request: Request) -> Any:
        if default is not MISSING and not await request.body():
            return default
        content_type = request.headers.get("content-type", "")
        if content_type != "application/json" and not is_json(content_type):
            raise UnsupportedMediaType(
                f"The body must be application/json, not {media_type(content_type) or 'without a content type'}."
            )
        if not embed:
            return _from_json(convert, await request.body(), ("body",), "body")
        document = await request.json()
        if not isinstance(document, dict):
            raise ValidationError([{"loc": ["body"], "msg": "must be an object", "type": "object"}])
        if embed in document:
            return _converted(convert, document[embed], ("body", embed))
        if default is MISSING:
            raise _missing(("body", embed))
        return default

    return Binder(get, f"body{_shown(parameter)} ({validator})", True, Kind.HTTP)


async def _raw_body(request: Request) -> bytes:
    return await request.body()


async def _text_body(request: Request) -> str:
    return await request.text()


def payload_binder(parameter: Parameter, context: SourceContext) -> Binder:
    """The payload of a message."""
    if parameter.declared is bytes:
        return Binder(lambda message: message.body, "payload: bytes")
    from_json, validator = context.validators.converter(parameter.declared, Source.JSON)
    from_python, _ = context.validators.converter(parameter.declared, Source.PYTHON)

    def get(message: Message) -> Any:
        if message._payload is MISSING and is_json(message.content_type):
            return _from_json(from_json, message.body, ("payload",), "payload")
        return _converted(from_python, message.payload, ("payload",))

    return Binder(get, f"payload {parameter.name} ({validator})", kinds=Kind.MESSAGE)


def batch_binder(parameter: Parameter, context: SourceContext) -> Binder:
    """The payloads of a batch, as a list."""
    convert, validator = context.validators.converter(parameter.declared, Source.PYTHON)

    def get(batch: Batch) -> Any:
        return _converted(convert, batch.payloads, ("payload",))

    return Binder(get, f"payloads {parameter.name} ({validator})", kinds=Kind.BATCH)


def rpc_payload_binder(parameter: Parameter, context: SourceContext) -> Binder:
    """The whole payload of an RPC call, as one model; an in-process caller may pass it by the parameter's name."""
    from_json, validator = context.validators.converter(parameter.declared, Source.JSON)
    from_python, _ = context.validators.converter(parameter.declared, Source.PYTHON)
    name, default, where = parameter.name, parameter.default, ("payload",)

    def get(request: RpcRequest) -> Any:
        if request.raw is not None and is_json(request.content_type):
            if not request.raw and default is not MISSING:
                return default
            return _from_json(from_json, request.raw or b"{}", where, "payload")
        args, kwargs = arguments_of(request)
        if not args and not kwargs and default is not MISSING:
            return default
        if args or list(kwargs) != [name]:
            return _converted(from_python, request.payload, where)
        try:
            return _converted(from_python, kwargs[name], where)
        except ValidationError as by_name:
            try:
                return _converted(from_python, kwargs, where)
            except ValidationError:
                raise by_name from None

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
        decoded = decode(request.raw, request.content_type, request.app.codecs) if request.raw else {}
        request.raw = None
        if isinstance(decoded, dict):
            request.kwargs = decoded
        else:
            request.args = tuple(decoded) if isinstance(decoded, list) else (decoded,)
    return request.args, request.kwargs


def other_arguments(arguments: Arguments) -> Binder:
    """The arguments of an RPC call that no parameter takes, for `*args` and `**kwargs`; refused without these."""
    known = frozenset(each.name for each in arguments.parameters).union(arguments.names)
    positional = sum(not each.keyword_only for each in arguments.parameters)

    def get(request: RpcRequest) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = arguments_of(request)
        args, kwargs = args[positional:], {name: value for name, value in kwargs.items() if name not in known}
        problems: list[dict[str, Any]] = []
        if args and not arguments.args:
            problems.append({"loc": ["arguments"], "msg": f"at most {positional} positional", "type": "too_many"})
        unknown = [name for name in kwargs if not arguments.kwargs or name in arguments.claimed]
        problems += [{"loc": ["arguments", str(n)[:100]], "msg": "is not known", "type": "unknown"} for n in unknown]
        if problems:
            raise ValidationError(problems)
        return args, kwargs

    return Binder(get, "other arguments", kinds=Kind.RPC)
