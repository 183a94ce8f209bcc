"""Signatures as the compiler wants them: every annotation resolved, unwrapped and classified, once."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
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


def is_async(func: Any) -> bool:
    """Whether calling `func` gives a coroutine; sees through partials, wrappers and callable objects."""
    return _check(inspect.iscoroutinefunction, func)


def is_generator(func: Any) -> bool:
    """Whether calling `func` gives a sync generator."""
    return _check(inspect.isgeneratorfunction, func)


def is_async_generator(func: Any) -> bool:
    """Whether calling `func` gives an async generator."""
    return _check(inspect.isasyncgenfunction, func)


def _check(test: Callable[[Any], bool], func: Any) -> bool:
    while isinstance(func, functools.partial):
        func = func.func
    if test(func):
        return True
    return not inspect.isclass(func) and not inspect.isroutine(func) and test(type(func).__call__)


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
    target = unwrap(obj.__init__ if inspect.isclass(obj) else obj)
    scope = _namespace(target, obj)
    return [_parameter(parameter, scope, localns) for parameter in signature.parameters.values()]


def return_annotation(obj: Any, localns: Mapping[str, Any] | None = None) -> Any:
    """The resolved return annotation, or `Empty`."""
    try:
        annotation = _signature(obj).return_annotation
    except (TypeError, ValueError):
        return Empty
    return resolve(annotation, _namespace(unwrap(obj), obj), localns)


def _signature(obj: Any) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # annotations are lazy there; unresolvable names must not raise yet
        import annotationlib

        return inspect.signature(obj, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(obj)


def _namespace(target: Any, obj: Any) -> dict[str, Any]:
    namespace = dict(
        getattr(target, "__globals__", None) or vars(sys.modules.get(getattr(obj, "__module__", ""), types))
    )
    for parameter in getattr(target, "__type_params__", ()):
        namespace.setdefault(parameter.__name__, parameter)
    return namespace


def _parameter(parameter: inspect.Parameter, scope: dict[str, Any], localns: Mapping[str, Any] | None) -> Parameter:
    annotation, metadata = _strip(resolve(parameter.annotation, scope, localns))
    bare, optional = strip_optional(resolve(annotation, scope, localns))  # Annotated["Name", ...] has its name inside
    inner, more = _strip(bare)
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
    """`annotation` with names looked up; one that cannot be is returned as its text."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, globalns, dict(localns or {}))  # noqa: S307  # the program's own source text
        except Exception:
            return annotation
        return resolve(annotation, globalns, localns)
    if isinstance(annotation, getattr(typing, "TypeAliasType", ())):
        return resolve(annotation.__value__, globalns, localns)
    arguments = get_args(annotation)
    if (
        arguments
        and any(isinstance(part, str | ForwardRef) for part in arguments)
        and get_origin(annotation)
        not in (
            typing.Literal,
            Annotated,
        )
    ):
        resolved = tuple(resolve(part, globalns, localns) for part in arguments)
        if not any(isinstance(part, str) for part in resolved):
            try:
                return (
                    annotation.copy_with(resolved)
                    if hasattr(annotation, "copy_with")
                    else (get_origin(annotation)[resolved])
                )
            except Exception:
                return annotation
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
