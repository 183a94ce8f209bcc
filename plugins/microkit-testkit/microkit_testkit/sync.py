"""The test client for sync code: the same calls, run on an event loop in a thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from microkit import App, Reply

from .messages import Published
from .responses import Response

if TYPE_CHECKING:
    from .calllog import CallLog
    from .client import TestClient
    from .cookies import CookieJar

_PLAIN = (str, bytes, int, float, bool, type(None), list, tuple, dict, set)


class Synced:
    """An object whose methods are called on the event loop. What they return is waited for.

    Async context managers work with `with`, async iterators with `for`.
    """

    def __init__(self, target: Any, portal: BlockingPortal) -> None:
        self._target = target
        self._portal = portal

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return _synced(value, self._portal) if callable(value) else value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _synced(self._portal.call(partial(self._target, *args, **kwargs)), self._portal)

    def __getitem__(self, key: Any) -> Any:
        return _synced(self._target[key], self._portal)

    def __len__(self) -> int:
        return len(self._target)

    def __iter__(self) -> Iterator[Any]:
        return iterate(self._target, self._portal) if hasattr(self._target, "__anext__") else iter(self._target)

    def __enter__(self) -> Any:
        self._block = self._portal.wrap_async_context_manager(self._target)
        return _synced(self._block.__enter__(), self._portal)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._block.__exit__(kind, exc, trace)

    def __repr__(self) -> str:
        return repr(self._target)


def _synced(value: Any, portal: BlockingPortal) -> Any:
    if isinstance(value, (*_PLAIN, Response, Reply)):
        return value
    works = (
        callable(value) or hasattr(value, "__aenter__") or hasattr(value, "__anext__") or isinstance(value, Published)
    )
    return Synced(value, portal) if works else value


def iterate(items: AsyncIterator[Any], portal: BlockingPortal) -> Iterator[Any]:
    """The items of an async iterator, which is advanced and closed in one task."""
    send, receive = anyio.create_memory_object_stream[Any](0)

    async def feed() -> None:
        with send:
            try:
                async for item in items:
                    await send.send(item)
            except anyio.BrokenResourceError:
                pass  # the loop ended early
            finally:
                close = getattr(items, "aclose", None)
                if close is not None:
                    await close()

    fed = portal.start_task_soon(feed)
    try:
        while True:
            try:
                yield portal.call(receive.receive)
            except anyio.EndOfStream:
                break
    finally:
        portal.call(receive.close)
        fed.result()


@contextmanager
def open_client(client: TestClient, backend: str, options: Mapping[str, Any]) -> Generator[SyncClient]:
    """Run an event loop in a thread, and the client in it."""
    with start_blocking_portal(backend, dict(options)) as portal:
        with portal.wrap_async_context_manager(client):
            yield SyncClient(client, portal)


class SyncClient:
    """A `TestClient` for sync code; what `with TestClient(app) as client` gives. Arguments and results are the same.

    Args:
        client: the client that does the work.
        portal: the way to its event loop.
    """

    def __init__(self, client: TestClient, portal: BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    @property
    def app(self) -> App:
        """The application."""
        return self._client.app

    @property
    def cookies(self) -> CookieJar:
        """The cookies of the client."""
        return self._client.cookies

    @property
    def call_log(self) -> CallLog:
        """The calls that the application ran; see `TestClient.call_log`."""
        return self._client.call_log

    @property
    def clock(self) -> Any:
        """The clock; `client.clock.advance(seconds)` returns when all that woke waits again."""
        return Synced(self._client.clock, self._portal)

    @property
    def rpc(self) -> Any:
        """Calls procedures; see `TestClient.rpc`."""
        return _SyncRpc(self._client.rpc, self._portal)

    def _run(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._portal.call(partial(func, *args, **kwargs))

    def request(self, method: str, path: str, **options: Any) -> Response:
        """See `TestClient.request`."""
        return self._run(self._client.request, method, path, **options)

    def get(self, path: str, **options: Any) -> Response:
        """`request("GET", ...)`."""
        return self.request("GET", path, **options)

    def head(self, path: str, **options: Any) -> Response:
        """`request("HEAD", ...)`."""
        return self.request("HEAD", path, **options)

    def options(self, path: str, **options: Any) -> Response:
        """`request("OPTIONS", ...)`."""
        return self.request("OPTIONS", path, **options)

    def post(self, path: str, **options: Any) -> Response:
        """`request("POST", ...)`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Response:
        """`request("PUT", ...)`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Response:
        """`request("PATCH", ...)`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Response:
        """`request("DELETE", ...)`."""
        return self.request("DELETE", path, **options)

    def stream(self, method: str, path: str, **options: Any) -> AbstractContextManager[Any]:
        """See `TestClient.stream`: `with client.stream("GET", "/events") as response`."""
        return Synced(self._run(self._client.stream, method, path, **options), self._portal)

    def websocket(self, path: str, **options: Any) -> AbstractContextManager[Any]:
        """See `TestClient.websocket`: `with client.websocket("/chat") as ws`."""
        return Synced(self._run(self._client.websocket, path, **options), self._portal)

    def publish(self, source: str, name: str, payload: Any = None, **options: Any) -> Any:
        """See `TestClient.publish`."""
        return Synced(self._run(self._client.publish, source, name, payload, **options), self._portal)

    def batch(self, source: str, name: str, payloads: Iterable[Any], **options: Any) -> Any:
        """See `TestClient.batch`."""
        return Synced(self._run(self._client.batch, source, name, payloads, **options), self._portal)

    def tick(self, name: str, *, at: datetime | float | None = None, missed: int = 0) -> Reply:
        """See `TestClient.tick`."""
        return self._run(self._client.tick, name, at=at, missed=missed)

    @contextmanager
    def override(self, dependency: Any, fake: Any) -> Generator[None]:
        """See `TestClient.override`."""
        block = self._client.override(dependency, fake)
        self._run(block.__enter__)
        try:
            yield
        finally:
            self._run(block.__exit__, None, None, None)

    def settle(self) -> None:
        """See `TestClient.settle`."""
        self._run(self._client.settle)

    def __getattr__(self, name: str) -> Any:
        return Synced(getattr(self._client, name), self._portal)


class _SyncRpc:
    def __init__(self, rpc: Any, portal: BlockingPortal) -> None:
        self._rpc = rpc
        self._portal = portal

    def __getattr__(self, name: str) -> _SyncRpc:
        return _SyncRpc(getattr(self._rpc, name), self._portal)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._portal.call(partial(self._rpc, *args, **kwargs))
        return iterate(result, self._portal) if hasattr(result, "__anext__") else result
