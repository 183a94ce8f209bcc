"""Where parameters get their values from, in this order: path, query, form, JSON, file, session, default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args, get_origin

from microkit import Kind, ValidationError
from microkit.annotations import Parameter
from microkit.binding import Arguments, Binder, SourceContext
from microkit.call import MISSING
from microkit.errors import BadRequest
from microkit.http import FormFile
from microkit.params import Marker, Place
from microkit.validation import Convert, Invalid, Shape, Source, to_validation_error

from .body import NO_BODY, Body, load_body, loaded_body
from .settings import AutoSettings


class InvalidInput(ValidationError):
    """400: a parameter is missing or does not fit its annotation."""

    http_status = 400


class FromSession(Marker):
    """Marks a parameter that is filled from the session alone: nothing that a client sends stands in for it.

    Args:
        default: value when the session has none; without one the request is refused.
        alias: name in the session, when it differs from the parameter's.
    """

    source = "session"

    def binder(self, parameter: Parameter, place: Place) -> Binder | None:
        if place.kind not in Kind.HTTP | Kind.SOCKET:
            return None
        name, default = self.name_for(parameter.name), parameter.default

        def get(call: Any) -> Any:
            value = call.session.get(name, default)
            if value is MISSING:
                raise _missing(name)
            return value

        return Binder(get, f"session {name}", kinds=Kind.HTTP | Kind.SOCKET)


def positional(parameters: Sequence[Parameter], context: SourceContext, socket: str) -> list[str]:
    """The names of the parameters that take a path segment each, in order.

    Args:
        parameters: the unclaimed ones of a handler, in the order of the signature.
        socket: name of the one that takes the socket.
    """
    return [
        each.name for each in parameters if not each.keyword_only and each.name != socket and _takes_text(each, context)
    ]


def _takes_text(parameter: Parameter, context: SourceContext) -> bool:
    shape = context.validators.shape(parameter.declared)
    return shape in (Shape.SCALAR, Shape.SCALARS) or parameter.annotation in (Any, object)


def _is_file(annotation: Any) -> bool:
    return annotation is FormFile or (get_origin(annotation) is list and get_args(annotation) == (FormFile,))


def sources_of(
    parameters: Sequence[Parameter], context: SourceContext, settings: AutoSettings, socket: str, *, body: bool
) -> dict[str, Binder]:
    """As `Trigger.sources`.

    Args:
        settings: the plugin's.
        socket: name of the parameter that takes the socket; empty for HTTP.
        body: the calls have bodies, which were read before.
    """
    order = positional(parameters, context, socket) if context.is_handler else []
    found: dict[str, Binder] = {}
    for each in parameters:
        if each.name == socket and context.is_handler:
            found[socket] = Binder(lambda call: call, "websocket", kinds=Kind.SOCKET)
        elif _is_file(each.annotation) or context.validators.shape(each.declared) is not None:
            at = order.index(each.name) + context.path_values if each.name in order else -1
            found[each.name] = _Sources(each, context, at, settings, body=body).binder()
    return found


class _Sources:
    """The sources of one parameter, compiled.

    Args:
        parameter: the parameter.
        context: whose it is.
        at: place of its path segment in `call.values`; -1 if it takes none.
        settings: the plugin's.
        body: the calls have bodies.
    """

    def __init__(
        self, parameter: Parameter, context: SourceContext, at: int, settings: AutoSettings, *, body: bool
    ) -> None:
        self.name = parameter.name
        self.default = parameter.default
        self.at = at
        self.body = body
        self.session = settings.session_values
        self.is_file = _is_file(parameter.annotation)
        self.several = get_origin(parameter.annotation) is list if self.is_file else False
        self.takes_text = not self.is_file and _takes_text(parameter, context)
        self.text: Convert | None = None
        self.native: Convert | None = None
        if not self.is_file:
            validators = context.validators
            self.several = validators.shape(parameter.declared) is Shape.SCALARS
            if self.takes_text:
                self.text, _ = validators.converter(parameter.declared, Source.TEXT)
            self.native, _ = validators.converter(parameter.declared, Source.PYTHON)

    def binder(self) -> Binder:
        """What reads the parameter."""
        places = ["path"] * (self.at >= 0) + ["query"] * self.takes_text
        places += ["form", "JSON", "file"] * self.body + ["session"] * self.session
        label = f"{', '.join(places)} {self.name}"
        return Binder(self._full() if self.body or self.session else self._plain(), label)

    def _plain(self) -> Callable[[Any], Any]:
        """Of calls without a body: path, query, default. Most requests are of this kind, so it asks no method."""
        name, at, default, convert, several = self.name, self.at, self.default, self.text, self.several
        takes_text = self.takes_text

        def get(call: Any) -> Any:
            if 0 <= at < len(call.values):
                raw = call.values[at]
            elif takes_text and call.scope["query_string"]:
                raw = (call.query.getlist(name) or MISSING) if several else call.query.get(name, MISSING)
            else:
                raw = MISSING
            if raw is not MISSING:
                return raw if convert is None else _fit(convert, raw, name)
            if default is MISSING:
                raise _missing(name)
            return default

        return get

    def _full(self) -> Callable[[Any], Any]:
        name, at, default, several, session = self.name, self.at, self.default, self.several, self.session

        def get(call: Any) -> Any:
            if 0 <= at < len(call.values):
                return _fit(self.text, call.values[at], name)
            raw, convert = self._sent(call, several)
            if session:
                kept = call.session.get(name, MISSING)
                if kept is not MISSING:
                    if raw is not MISSING:  # who sends what the session knows may not replace it
                        raise InvalidInput(
                            [{"loc": [name], "msg": "is given twice", "type": "duplicate"}],
                            f"The parameter {name!r} is a value of the session.",
                        )
                    return kept
            if raw is not MISSING:
                return _fit(convert, raw, name)
            if default is MISSING:
                raise _missing(name)
            return default

        return get

    def _sent(self, call: Any, several: bool) -> tuple[Any, Convert | None]:
        """What the client sent beside the path, and how it is converted."""
        name = self.name
        if self.takes_text and call.scope["query_string"]:
            raw = (call.query.getlist(name) or MISSING) if several else call.query.get(name, MISSING)
            if raw is not MISSING:
                return raw, self.text
        body: Body = loaded_body(call) or NO_BODY
        if self.takes_text and name in body.fields:
            return body.fields.getlist(name) if several else body.fields[name], self.text
        if not self.is_file and name in body.members:
            return body.members[name], self.native
        if files := body.files.get(name):
            return files if several else files[0], None
        return MISSING, None


def others_of(arguments: Arguments, taken: int, *, body: bool) -> Binder | None:
    """As `Trigger.others`; it also reads the body, ahead of all that asks for its fields.

    Args:
        taken: how many of `call.values` parameters take.
    """
    known = frozenset(each.name for each in arguments.parameters).union(arguments.names, arguments.claimed)

    def rest(call: Any, body: Body) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args = call.values[taken:] if arguments.args else ()
        if not arguments.kwargs:
            return args, {}
        given: dict[str, Any] = {name: files[0] for name, files in body.files.items() if files}
        given |= body.members
        for pairs in (body.fields.pairs, call.query.pairs):
            given |= dict(reversed(pairs))  # the first of several
        return args, {name: value for name, value in given.items() if name not in known}

    async def with_body(call: Any) -> Any:
        return rest(call, await load_body(call))

    if body:
        return Binder(with_body, "body, and what no parameter takes", is_async=True)
    if arguments.args or arguments.kwargs:
        return Binder(lambda call: rest(call, NO_BODY), "what no parameter takes")
    return None


def _fit(convert: Convert | None, raw: Any, name: str) -> Any:
    if convert is None:
        return raw
    try:
        return convert(raw)
    except Invalid as exc:
        errors = to_validation_error(exc, (name,)).errors
        raise InvalidInput(errors, f"The parameter {name!r} is not valid.") from None
    except RecursionError:
        raise BadRequest("The input is nested too deeply.") from None


def _missing(name: str) -> InvalidInput:
    return InvalidInput(
        [{"loc": [name], "msg": "is missing", "type": "missing"}], f"Missing required parameter {name!r}."
    )
