"""Signatures as the compiler wants them: every annotation resolved, unwrapped and classified, once."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ForwardRef, Union, get_args, get_origin

from .call import MISSING

Empty = inspect.Parameter.empty


@dataclass(frozen=True)
class Parameter:
    """One parameter of a handler, dependency or constructor.

    Attributes:
        name: its name.
        annotation: resolved type without `Annotated` and without `| None`; `Empty` if there is none; a str if it could
            not be resolved.
        metadata: what `Annotated` carried.
        default: its default, or MISSING.
        kind: `inspect.Parameter` kind.
        optional: whether None is a legal value.
        declared: the resolved annotation with `| None` and foreign metadata (what a validator needs).
    """

    name: str
    annotation: Any = Empty
    metadata: tuple[Any, ...] = ()
    default: Any = MISSING
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    optional: bool = False
    declared: Any = field(default=Empty, compare=False)

    @property
    def variadic(self) -> bool:
        """Whether it is `*args` or `**kwargs`."""
        return self.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

    @property
    def keyword_only(self) -> bool:
        """Whether it can be passed by name only."""
        return self.kind is inspect.Parameter.KEYWORD_ONLY


class Locals(dict[str, Any]):
    """The names that a function had when it declared something: where the functions and classes in it look first.

    Args:
        names: its local variables.
        prefix: begins the qualified names of what is defined in it, such as `make_app.<locals>.`.
    """

    def __init__(self, names: Mapping[str, Any], prefix: str) -> None:
        super().__init__(names)
        self.prefix = prefix

    def of(self, obj: Any) -> Mapping[str, Any]:
        """These names if `obj` was defined in that function, else none: names of others mean something else there."""
        return self if getattr(obj, "__qualname__", "").startswith(self.prefix) else {}


def is_async(func: Any) -> bool:
    """Whether calling `func` gives a coroutine; sees through partials, callable objects and `functools.wraps`."""
    func = _called(func)
    if inspect.iscoroutinefunction(func):
        return True
    plain = not inspect.isgeneratorfunction(func) and not inspect.isasyncgenfunction(func)
    return plain and hasattr(func, "__wrapped__") and is_async(func.__wrapped__)


def is_generator(func: Any) -> bool:
    """Whether calling `func` gives a sync generator."""
    return inspect.isgeneratorfunction(_called(func))


def is_async_generator(func: Any) -> bool:
    """Whether calling `func` gives an async generator."""
    return inspect.isasyncgenfunction(_called(func))


def is_wrapper(func: Any) -> bool:
    """Whether `func` is a plain function around another one (`functools.wraps`): only its result tells more."""
    func = _called(func)
    return (
        hasattr(func, "__wrapped__")
        and not inspect.isclass(func)
        and not any(test(func) for test in (inspect.iscoroutinefunction, is_generator, is_async_generator))
    )


def _called(func: Any) -> Any:
    while isinstance(func, functools.partial):
        func = func.func
    return func if inspect.isclass(func) or inspect.isroutine(func) else type(func).__call__


def location(obj: Any) -> str:
    """`file:line` where a function, class or callable object is written; its module if that is unknown."""
    code = getattr(unwrap(obj), "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    target = obj if inspect.isclass(obj) else type(obj)
    try:
        return f"{inspect.getsourcefile(target)}:{inspect.getsourcelines(target)[1]}"
    except (OSError, TypeError):
        return getattr(target, "__module__", "unknown place")


def describe(obj: Any) -> str:
    """A short name for messages: `module.qualname`, with the name of a wrapped function."""
    while isinstance(obj, functools.partial):
        obj = obj.func
    if get_origin(obj) is not None:
        return str(obj)
    name = getattr(obj, "__qualname__", None)
    if name is None:
        return describe(type(obj)) if not isinstance(obj, str) else repr(obj)
    module = getattr(obj, "__module__", "")
    return name if module in ("builtins", "", None) else f"{module}.{name}"


def unwrap(obj: Any) -> Any:
    """The function under partials, bound methods, `functools.wraps` and callable objects."""
    while True:
        if isinstance(obj, functools.partial):
            obj = obj.func
        elif inspect.ismethod(obj):
            obj = obj.__func__
        elif hasattr(obj, "__wrapped__"):
            obj = obj.__wrapped__
        elif not inspect.isroutine(obj) and not inspect.isclass(obj) and hasattr(type(obj), "__call__"):  # noqa: B004
            obj = type(obj).__call__
        else:
            return obj


def parameters(obj: Any, localns: Mapping[str, Any] | None = None) -> list[Parameter]:
    """The parameters that a caller of `obj` has to fill, annotations resolved.

    Args:
        obj: function, method, class (its constructor), partial or callable object.
        localns: names of the frame that declared it, for postponed annotations.

    Raises:
        TypeError: `obj` has no signature.
    """
    try:
        signature = _signature(obj)
    except ValueError as exc:
        if inspect.isclass(obj):
            return []  # a built-in type without a signature: called without arguments
        raise TypeError(f"{describe(obj)} has no signature that could be inspected") from exc
    names = _namespaces(obj, localns)
    bound = set(_bound_names(obj))
    return [_parameter(each, names) for each in signature.parameters.values() if each.name not in bound]


def positional(func: Any, found: Sequence[Parameter], given: Iterable[str]) -> tuple[Callable[..., Any], list[str]]:
    """`func` as a callable of positional arguments alone.

    Args:
        func: what `found` are the parameters of.
        found: all its parameters; plain ones that are not given come first, and are passed through.
        given: the names that get a value; those that are no plain parameter go by name.

    Returns:
        The callable, and the given names in the order in which it takes them. What else it is called with is passed on.
    """
    given = list(given)
    plain = [each.name for each in found if not each.variadic and not each.keyword_only]
    named = [name for name in given if name not in plain]
    order = [*(name for name in plain if name in given), *named]
    if not named:
        return func, order
    count, end = len(plain), len(plain) + len(named)

    def call(*values: Any, **others: Any) -> Any:
        return func(*values[:count], *values[end:], **dict(zip(named, values[count:end], strict=True)), **others)

    return call, order


def return_annotation(obj: Any, localns: Mapping[str, Any] | None = None) -> Any:
    """The resolved return annotation, or `Empty`."""
    try:
        annotation = _signature(obj).return_annotation
    except (TypeError, ValueError):
        return Empty
    return resolve(annotation, *_namespaces(obj, localns))


def _signature(obj: Any) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # annotations are lazy there; unresolvable names must not raise yet
        import annotationlib

        return inspect.signature(obj, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(obj)


def _bound_names(obj: Any) -> Iterator[str]:
    """Arguments that a partial gives by name: its caller could, but must not, give them again."""
    while isinstance(obj, functools.partial):
        yield from obj.keywords
        obj = obj.func


def _namespaces(obj: Any, localns: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    target = unwrap(obj.__init__ if inspect.isclass(obj) else obj)
    module = sys.modules.get(getattr(obj, "__module__", ""), types)
    declared = localns.of(obj if inspect.isclass(obj) else target) if isinstance(localns, Locals) else localns
    generic = {each.__name__: each for each in getattr(target, "__type_params__", ())}
    return getattr(target, "__globals__", None) or vars(module), {**generic, **(declared or {})}


def _parameter(parameter: inspect.Parameter, names: tuple[dict[str, Any], dict[str, Any]]) -> Parameter:
    annotation, metadata = _strip(resolve(parameter.annotation, *names))
    bare, optional = strip_optional(annotation)
    inner, more = _strip(bare)
    if isinstance(inner, ForwardRef):
        inner = inner.__forward_arg__
    declared = inner
    if inner is not Empty and not isinstance(inner, str):
        declared = _annotated(_annotated(inner, more) | None if optional else _annotated(inner, more), metadata)
    return Parameter(
        parameter.name,
        inner,
        metadata + more,
        MISSING if parameter.default is Empty else parameter.default,
        parameter.kind,
        optional,
        declared,
    )


def is_foreign(item: Any) -> bool:
    """Whether metadata is for somebody else than microkit: no `Depends`, `Query` and the like."""
    return (item if inspect.isclass(item) else type(item)).__module__.partition(".")[0] != "microkit"


def _annotated(tp: Any, metadata: tuple[Any, ...]) -> Any:
    foreign = tuple(filter(is_foreign, metadata))
    return Annotated[tp, *foreign] if foreign else tp


def resolve(annotation: Any, globalns: dict[str, Any], localns: Mapping[str, Any] | None = None) -> Any:
    """`annotation` with names looked up; one that cannot be is returned as it is."""

    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    try:
        annotation = typing.get_type_hints(holder, globalns, dict(localns or {}), include_extras=True)["it"]
    except Exception:  # whatever the text of an annotation raises when it is evaluated
        return annotation
    if isinstance(annotation, getattr(typing, "TypeAliasType", ())):
        return resolve(annotation.__value__, globalns, localns)
    return annotation


def _strip(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    metadata: tuple[Any, ...] = ()
    while get_origin(annotation) is Annotated:
        metadata += annotation.__metadata__
        annotation = annotation.__origin__
    return annotation, metadata


def strip_optional(annotation: Any) -> tuple[Any, bool]:
    """`annotation` without `None`, and whether None was in it."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        if len(rest) < len(get_args(annotation)):
            return functools.reduce(lambda a, b: a | b, rest), True
    return annotation, annotation is type(None)
