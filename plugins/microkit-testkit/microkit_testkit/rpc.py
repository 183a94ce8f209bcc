"""Calling procedures by name or by attribute."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from microkit import PublicError, RpcRequest, StatusCode
from microkit.connection import Connection
from microkit.dispatch import call_procedure


class Rpc:
    """`rpc("users.rename", ...)`, or `rpc.users.rename(...)`. The result is awaited; a streaming method gives an async
    iterator.

    Args:
        call: makes the call.
        name: name so far.
    """

    def __init__(self, call: Callable[..., Awaitable[Any]], name: str = "") -> None:
        self._call = call
        self._name = name

    def __getattr__(self, name: str) -> Rpc:
        if name.startswith("_"):
            raise AttributeError(name)
        return Rpc(self._call, f"{self._name}.{name}" if self._name else name)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._name:
            return await self._call(self._name, args, kwargs)
        if not args or not isinstance(args[0], str):
            raise TypeError('rpc("service.method", ...) takes the name first')
        return await self._call(args[0], args[1:], kwargs)


def caller(app: Any, metadata: Mapping[str, str], connection: Connection | None, *, original: bool) -> Rpc:
    """An `Rpc` whose calls carry metadata.

    Args:
        metadata: sent with each call.
        connection: the connection that the calls share, if any.
        original: raise the exception behind an INTERNAL error.
    """

    async def call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        await app.runtime.ensure_started()
        request = RpcRequest(name, args, kwargs, headers=dict(metadata))
        request.connection = connection
        try:
            result = await call_procedure(app, request)
        except PublicError as exc:
            raise _revealed(exc, original=original) from None
        return _stream(result, original) if hasattr(result, "__aiter__") else result

    return Rpc(call)


async def _stream(items: Any, original: bool) -> AsyncIterator[Any]:
    try:
        async for item in items:
            yield item
    except PublicError as exc:
        raise _revealed(exc, original=original) from None
    finally:
        await items.aclose()


def _revealed(exc: PublicError, *, original: bool) -> BaseException:
    hidden = original and exc.status is StatusCode.INTERNAL and exc.__cause__ is not None
    return exc.__cause__ if hidden and exc.__cause__ is not None else exc
