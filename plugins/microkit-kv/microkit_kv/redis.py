"""A store in Redis, by coredis, which is imported when a store is opened."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

from .errors import StoreClosed, StoreError, StoreUnavailable, Unsupported
from .limits import MAX_KEY_BYTES, MAX_VALUE_BYTES, checked_ttl, checked_value, key_bytes, prefix_bytes
from .store import Page, Store

if TYPE_CHECKING:
    from anyio.abc import TaskGroup, TaskStatus
    from coredis.connection import BaseConnection

# Keys of one page. Redis hands out keys in no order, so each page is one walk over the database.
_PAGE = 10_000
# Keys that one step of the walk looks at.
_STEP = 1000

# A key; the value that it must have, whether there is a new one and which, and its milliseconds or nothing.
_COMPARE_AND_SET = b"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
elseif ARGV[4] == '' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return 1
"""
_PERSIST = b"redis.call('PERSIST', KEYS[1]) return redis.call('EXISTS', KEYS[1])"


class RedisStore(Store):
    """Entries in one database of a Redis server (6.0 or newer), which many machines share.

    Keys and values are plain strings of Redis, expiry is its own, by the server's clock. All calls share one
    connection, on which they need not wait for each other. If it is lost, the calls under way raise
    `StoreUnavailable`, and the next one connects again.

    `list` walks over the whole database for every 10,000 keys that it finds: give the store a database of its own.

    Args:
        url: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS. User and password are
            percent-encoded.
        max_value: bytes that a value may have.
        timeout: seconds to connect, and to wait for an answer.

    Raises:
        ValueError: the URL is none of these.
    """

    def __init__(self, url: str, *, max_value: int = MAX_VALUE_BYTES, timeout: float = 5.0) -> None:
        self._url = url
        self._max_value = max_value
        self._timeout = timeout
        self._name = f"Redis at {_place(url)}"
        self._make: Callable[[], BaseConnection] | None = None
        self._tasks: TaskGroup | None = None
        self._connection: BaseConnection | None = None
        self._attempt: _Attempt | None = None

    async def _open(self) -> None:
        if self._tasks is not None:
            raise StoreClosed(f"{self._name} is being opened by another task.")
        self._make = self._factory()
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._tasks = tasks
        try:
            await self._run(b"PING")
        except BaseException:
            await self._close()
            raise

    async def _close(self) -> None:
        tasks, self._tasks, self._connection = self._tasks, None, None
        if tasks is not None:
            tasks.cancel_scope.cancel()
            await tasks.__aexit__(None, None, None)

    async def get(self, key: str) -> bytes | None:
        return await self._run(b"GET", key_bytes(key))

    async def has(self, key: str) -> bool:
        return await self._run(b"EXISTS", key_bytes(key)) == 1

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        await self._run(b"SET", key_bytes(key), checked_value(value, self._max_value), *_expiry(ttl))

    async def delete(self, key: str) -> bool:
        return await self._run(b"DEL", key_bytes(key)) == 1

    async def touch(self, key: str, ttl: float | None) -> bool:
        name, milliseconds = key_bytes(key), _milliseconds(ttl)
        if milliseconds is None:
            return await self._run(b"EVAL", _PERSIST, 1, name) == 1
        return await self._run(b"PEXPIRE", name, milliseconds) == 1

    async def list_page(self, prefix: str = "", cursor: str | None = None) -> Page:
        pattern = _escaped(prefix_bytes(prefix)) + b"*"
        after = cursor or ""
        found: set[str] = set()
        at = b"0"
        while True:
            at, keys = await self._run(b"SCAN", at, b"MATCH", pattern, b"COUNT", _STEP, b"TYPE", b"string")
            found.update(key for each in keys if (key := _text(each)) > after)
            if len(found) > 2 * _PAGE:
                found = set(heapq.nsmallest(_PAGE + 1, found))
            if at == b"0":
                break
        lowest = heapq.nsmallest(_PAGE + 1, found)
        if len(lowest) > _PAGE:
            return Page(lowest[:-1], lowest[-2])
        return Page(lowest, None)

    async def compare_and_set(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl: float | None = None
    ) -> bool:
        name, expiry = key_bytes(key), _expiry(ttl)
        if value is not None:
            checked_value(value, self._max_value)
        if expected is None:
            if value is None:
                return await self._run(b"EXISTS", name) == 0
            return await self._run(b"SET", name, value, b"NX", *expiry) is not None
        new = (b"0", b"") if value is None else (b"1", value)
        arguments = (expected, *new, expiry[1] if expiry else b"")
        return await self._run(b"EVAL", _COMPARE_AND_SET, 1, name, *arguments) == 1

    # -- the connection ------------------------------------------------------------------------------------------------

    def _factory(self) -> Callable[[], BaseConnection]:
        """What makes connections, from the URL.

        Raises:
            Unsupported: coredis is not installed.
        """
        try:
            pool_class = import_module("coredis.pool").ConnectionPool
        except ImportError as exc:
            raise Unsupported(
                "A Redis store needs the library coredis, which is not installed. Install `microkit-kv[redis]`."
            ) from exc
        # Only read, never entered: a pool of coredis 6.9 loses a place for each call that is cancelled while it
        # connects, and one that has lost them all waits for ever.
        pool = pool_class.from_url(
            self._url, decode_components=True, connect_timeout=self._timeout, stream_timeout=self._timeout
        )
        return lambda: pool.connection_class(pool.location, **pool.connection_kwargs)

    async def _connected(self) -> BaseConnection:
        if self._tasks is None or self._make is None:
            raise StoreClosed(f"{self._name} is not open: enter the store with `async with`.")
        attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = _Attempt(self._make())
            # In a task of its own, for all calls that wait for it, and since coredis 6.9 makes an error of its own of
            # a cancellation while it connects.
            self._tasks.start_soon(self._connect, self._tasks, attempt)
        await attempt.over.wait()
        if attempt.failure is not None:
            raise attempt.failure
        return attempt.connection

    async def _connect(self, tasks: TaskGroup, attempt: _Attempt) -> None:
        try:
            attempt.failure = await tasks.start(_keep, attempt.connection)
            self._connection = attempt.connection
        finally:
            self._attempt = None
            attempt.over.set()

    async def _run(self, command: bytes, *arguments: bytes | int) -> Any:
        connection = self._connection
        try:
            if connection is None or not connection.usable:
                connection = await self._connected()
            return await connection.create_request(command, *arguments)
        except StoreError:
            raise
        except Exception as exc:
            if isinstance(exc, TimeoutError) and connection is not None:
                connection.invalidate()  # nobody knows if it still works, and the system may not say so for minutes
            if (told := self._told(exc, command)) is None:
                raise
            raise told from exc

    def _told(self, exc: Exception, command: bytes) -> StoreError | None:
        """What a failure is to the caller; None if it is none of Redis."""
        from coredis.exceptions import ConnectionError as Disconnected
        from coredis.exceptions import ReadOnlyError, RedisError

        if isinstance(exc, TimeoutError):
            return StoreUnavailable(f"{self._name} did not answer within {self._timeout:g} seconds.")
        if isinstance(exc, (Disconnected, ReadOnlyError, anyio.ClosedResourceError, anyio.BrokenResourceError)):
            return StoreUnavailable(f"{self._name} cannot be reached: {exc}")
        if isinstance(exc, RedisError):
            return StoreError(f"{self._name} refused {command.decode()}: {exc}")
        return None


class _Attempt:
    """An attempt to connect, on which calls wait."""

    def __init__(self, connection: BaseConnection) -> None:
        self.connection = connection
        self.failure: Exception | None = None
        self.over = anyio.Event()


async def _keep(connection: BaseConnection, *, task_status: TaskStatus[Exception | None]) -> None:
    """Run a connection until it is lost. The task starts with None, or with the failure to connect."""
    try:
        await connection.run(task_status=task_status)
    except Exception as exc:
        with suppress(RuntimeError):  # it has started; then the calls under way were told
            task_status.started(exc)
    finally:
        from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

        # coredis 6.9 leaves them open where it cannot connect, which Python warns of.
        for each in vars(connection).values():
            if isinstance(each, (MemoryObjectReceiveStream, MemoryObjectSendStream)):
                each.close()


def _place(url: str) -> str:
    """Host and port of a URL, for messages: without user and password."""
    parts = urlsplit(url)
    try:
        right = parts.scheme in ("redis", "rediss") and parts.hostname and (parts.port or 6379)
    except ValueError:  # a port that is no number
        right = False
    # coredis would take a database that is no number for 0.
    if not right or not (parts.path in ("", "/") or parts.path[1:].isdecimal()):
        raise ValueError(
            "The URL of a Redis store is `redis://[user:password@]host[:port][/database]`, or `rediss://`."
        )
    return parts.netloc.rpartition("@")[2]


def _milliseconds(ttl: float | None) -> int | None:
    ttl = checked_ttl(ttl)
    return None if ttl is None else math.ceil(ttl * 1000)


def _expiry(ttl: float | None) -> tuple[bytes, int] | tuple[()]:
    milliseconds = _milliseconds(ttl)
    return () if milliseconds is None else (b"PX", milliseconds)


def _escaped(prefix: bytes) -> bytes:
    """A glob pattern of Redis that matches the prefix letter by letter."""
    return b"".join(b"\\" + bytes([byte]) if byte in b"*?[]^-\\" else bytes([byte]) for byte in prefix)


def _text(key: bytes) -> str:
    """A key as text; empty for one that no store has written."""
    try:
        return key.decode() if len(key) <= MAX_KEY_BYTES else ""
    except UnicodeDecodeError:
        return ""
