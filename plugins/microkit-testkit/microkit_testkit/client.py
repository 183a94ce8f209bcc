"""The test client: every kind of call of an application, in process, on either backend."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

from microkit import App, Reply
from microkit.connection import Connection
from microkit.dispatch import handle_tick
from microkit.inprocess import Outcome, Publisher, RecordingDelivery
from microkit.schedule import Clock, SystemClock, utc
from microkit.transport import Process

from .bodies import Content, Pairs, encode_body, query_string
from .calllog import CallLog
from .clock import FakeClock, settle
from .cookies import CookieJar
from .exchange import Exchange, StreamedResponse
from .messages import Delivered, Published
from .responses import Response
from .rpc import Rpc, caller
from .scopes import Fields, make_scope, merge_fields, path_of
from .sockets import WebSocketSession

if TYPE_CHECKING:
    from .sync import SyncClient

_REDIRECTS = 20


class TestClient:
    """Drives an application in process. `async with` starts it and stops it; `with` does the same from sync code.

    A request returns when the application is done with it, background tasks included; `stream` returns at its start.

    Args:
        app: the application.
        backend: for `with` only: `asyncio` or `trio`; `async with` runs on the backend that is there.
        backend_options: for `with` only: what anyio takes for the backend.
        base_url: scheme and host of relative paths.
        headers: sent with every request and handshake.
        cookies: to begin with.
        follow_redirects: follow them by default, on this origin.
        raise_server_exceptions: raise the exception behind a generic error (500, 1011, INTERNAL); else give the reply.
        clock: what the application takes the time from meanwhile; by default the app's own, or a fake one if that is
            the machine's.
        call_log: keep a `CallLog`. Observed calls take another way through the kernel than unobserved ones, so it is
            off by default.

    Attributes:
        app, clock, cookies: as above.
        publisher: the kernel's in-process publisher.
    """

    __test__ = False  # not a class of tests

    def __init__(
        self,
        app: App,
        *,
        backend: str = "asyncio",
        backend_options: Mapping[str, Any] | None = None,
        base_url: str = "http://testserver",
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        follow_redirects: bool = False,
        raise_server_exceptions: bool = True,
        clock: Clock | None = None,
        call_log: bool = False,
    ) -> None:
        self.app = app
        self.base_url = base_url.rstrip("/")
        self.headers = dict(headers or {})
        self.follow_redirects = follow_redirects
        self.raise_server_exceptions = raise_server_exceptions
        self.clock: Any = clock or (FakeClock() if isinstance(app.clock, SystemClock) else app.clock)
        self.cookies = CookieJar(cookies, self.clock.now)
        self.publisher = Publisher(app)
        self._backend = (backend, dict(backend_options or {}))
        self._log = CallLog() if call_log else None
        self._drivers: dict[str, Any] = {}
        self._timers: Any = None
        self._undo: list[Callable[[], None]] = []
        self._owns_app = False
        self._portal: Any = None

    # -- life ----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        app, before = self.app, self.app.clock
        self._undo = [lambda: setattr(app, "clock", before)]
        app.clock = self.clock
        try:
            self._drivers = {each.value.name: each.value.factory(self) for each in app.hooks.test_drivers()}
            if self._log is not None:
                log, observers = self._log, app.observers
                app.observers = (*observers, log)
                self._undo.append(lambda: setattr(app, "observers", observers))
            self._owns_app = not app.runtime.running
            await app.runtime.ensure_started()
        except BaseException:
            self._restore()
            raise
        try:
            if app.table.ticks and self._owns_app:
                make: Any = app.transports["timers"].server
                self._timers = make()
                await self._timers.start(app, Process(app.runtime.tasks))
                if isinstance(self.clock, FakeClock):
                    await settle()  # every schedule sleeps before the first advance
        except BaseException as exc:
            await self.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._timers is not None:
                await self._timers.stop(0)  # a tick may wait for a clock that nobody moves any more
            if self._owns_app:
                await self.app.runtime.stop()
        finally:
            self._restore()

    def _restore(self) -> None:
        self._timers = None
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> SyncClient:
        from .sync import open_client

        self._portal = open_client(self, *self._backend)
        return self._portal.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.__exit__(kind, exc, trace)

    # -- HTTP ----------------------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Pairs | None = None,
        json: Any = ...,
        data: Pairs | None = None,
        files: Mapping[str, Any] | None = None,
        content: Content | None = None,
        headers: Fields = None,
        cookies: Mapping[str, str] | None = None,
        follow_redirects: bool | None = None,
    ) -> Response:
        """Send a request and wait for all of the response.

        Args:
            method: such as `GET`.
            path: path, with or without a query, or a URL of this origin; already percent-encoded.
            params: added to the query; a list gives its name several times.
            json: a value for a JSON body.
            data: fields of a form.
            files: files of a multipart form: bytes, or `(file name, bytes[, content type])`, by field.
            content: the body; an async iterable is sent in pieces.
            headers: beside those of the client, replacing them by name.
            cookies: for this request, beside those in the jar.
            follow_redirects: by default as the client does.

        Raises:
            Exception: the application failed, and the client raises server exceptions.
            ConnectionCut: the response was cut off.
        """
        body, described = encode_body(json, data, files, content)
        url, history = self._url(path, params), list[Response]()
        follow = self.follow_redirects if follow_redirects is None else follow_redirects
        while True:
            exchange = Exchange(self.app, self._scope("http", method, url, described, headers, cookies), body)
            await exchange.run()
            response = exchange.response(url)
            response.history = list(history)
            self._remember(response)
            exchange.raise_failure(response, original=self.raise_server_exceptions)
            target = urljoin(url, response.headers.get("location", ""))
            if not (follow and response.is_redirect) or urlsplit(target)[:2] != urlsplit(url)[:2]:
                return response
            if len(history) == _REDIRECTS:
                raise RuntimeError(f"more than {_REDIRECTS} redirects, the last one from {url} to {target}")
            history.append(response)
            url = target
            if response.status_code == 303 or (response.status_code in (301, 302) and method == "POST"):
                method, body, described = ("HEAD" if method == "HEAD" else "GET"), b"", []

    async def get(self, path: str, **options: Any) -> Response:
        """`request("GET", ...)`."""
        return await self.request("GET", path, **options)

    async def head(self, path: str, **options: Any) -> Response:
        """`request("HEAD", ...)`."""
        return await self.request("HEAD", path, **options)

    async def options(self, path: str, **options: Any) -> Response:
        """`request("OPTIONS", ...)`."""
        return await self.request("OPTIONS", path, **options)

    async def post(self, path: str, **options: Any) -> Response:
        """`request("POST", ...)`."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Any) -> Response:
        """`request("PUT", ...)`."""
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Any) -> Response:
        """`request("PATCH", ...)`."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> Response:
        """`request("DELETE", ...)`."""
        return await self.request("DELETE", path, **options)

    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Pairs | None = None,
        content: bytes | AsyncIterable[bytes] = b"",
        headers: Fields = None,
        cookies: Mapping[str, str] | None = None,
    ) -> StreamedResponse:
        """Read a response while it is made: `async with client.stream("GET", "/events") as response`.

        The application waits until each piece is taken; leaving the block before the end disconnects. Arguments as
        `request`.
        """
        url = self._url(path, params)
        _, described = encode_body(..., None, None, content) if content else (b"", [])
        scope = self._scope("http", method, url, described, headers, cookies)
        original = self.raise_server_exceptions
        return StreamedResponse(self.app, scope, content, url, original=original, done=self._remember)

    def websocket(
        self,
        path: str,
        *,
        params: Pairs | None = None,
        subprotocols: Iterable[str] = (),
        headers: Fields = None,
        cookies: Mapping[str, str] | None = None,
    ) -> WebSocketSession:
        """Open a WebSocket: `async with client.websocket("/chat") as ws`.

        Args:
            path, params, headers, cookies: as `request`.
            subprotocols: what the client offers.

        Raises:
            HandshakeRejected: on entering the block, the application does not accept.
        """
        url = self._url(path, params)
        scope = self._scope("websocket", "GET", url, [("upgrade", "websocket")], headers, cookies)
        scope["subprotocols"] = list(subprotocols)
        scope["extensions"] = {"websocket.http.response": {}}
        original = self.raise_server_exceptions
        return WebSocketSession(self.app, scope, url, original=original, done=self._remember)

    def _url(self, path: str, params: Pairs | None) -> str:
        url = urljoin(f"{self.base_url}/", path) if "://" in path else self.base_url + "/" + path.removeprefix("/")
        query = query_string(params) if params else ""
        return f"{url}{'&' if '?' in url else '?'}{query}" if query else url

    def _scope(
        self,
        kind: str,
        method: str,
        url: str,
        described: list[tuple[str, str]],
        headers: Fields,
        cookies: Mapping[str, str] | None,
    ) -> dict[str, Any]:
        cookie = self.cookies.for_url(url, cookies or {})
        scope = make_scope(kind, method, url, merge_fields(url, described, cookie, self.headers, headers))
        scope["state"] = dict(self.app.runtime.state)
        return scope

    def _remember(self, response: Response) -> None:
        for value in response.headers.getlist("set-cookie"):
            self.cookies.store(value, path_of(response.url))

    # -- the other kinds -----------------------------------------------------------------------------------------------

    @property
    def rpc(self) -> Rpc:
        """Calls procedures: `await client.rpc.users.rename(...)` or `await client.rpc("users.rename", ...)`."""
        return self.rpc_with()

    def rpc_with(self, metadata: Mapping[str, str] | None = None, connection: Connection | None = None) -> Rpc:
        """`rpc` with metadata, or over a connection (`async with client.app.connection() as connection`)."""
        return caller(self.app, metadata or {}, connection, original=self.raise_server_exceptions)

    async def publish(
        self,
        source: str,
        name: str,
        payload: Any = None,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, Any] | None = None,
        attempt: int = 1,
        message_id: str | None = None,
        delivery: RecordingDelivery | None = None,
    ) -> Published:
        """Publish an event to every binding of it, and wait until they have settled it.

        Args:
            source: the service that publishes.
            name: what happened.
            payload: any value with a JSON form; handlers see a decoded copy.
            body: the encoded payload instead, of the given content type.
            headers, attempt, message_id: of the message.
            delivery: how it is answered; a `RecordingDelivery` that fails, hangs or goes stale.

        Raises:
            LookupError: no binding listens to this event.
        """
        self._check_event(source, name)
        outcomes = await self.publisher.publish(
            source,
            name,
            payload,
            body=body,
            content_type=content_type,
            headers=headers,
            attempt=attempt,
            message_id=message_id,
            delivery=delivery,
        )
        return self.published(outcomes)

    async def batch(
        self, source: str, name: str, payloads: Iterable[Any], *, headers: Mapping[str, Any] | None = None
    ) -> Published:
        """Publish several events, which a binding with `batch=True` gets in one call. Arguments as `publish`.

        Raises:
            LookupError: no binding listens to this event.
        """
        self._check_event(source, name)
        return self.published(await self.publisher.publish_batch(source, name, payloads, headers=headers))

    def published(self, outcomes: Iterable[Outcome]) -> Published:
        """Outcomes of `publisher` in the form that `publish` gives, for drivers."""
        return Published([Delivered(each, self.publisher) for each in outcomes])

    def _check_event(self, source: str, name: str) -> None:
        events = self.app.table.events
        if (source, name) not in events:
            known = ", ".join("/".join(each) for each in sorted(events)) or "none"
            raise LookupError(f"No binding listens to the event {source}/{name}. Events with bindings: {known}.")

    async def tick(self, name: str, *, at: datetime | float | None = None, missed: int = 0) -> Reply:
        """Fire a schedule now, beside its regular times.

        Args:
            name: the schedule: option `name` of the binding, else the name of its handler.
            at: the time that it is due at (aware, or seconds since the epoch); by default the time of the clock.
            missed: firings that were left out before.

        Returns:
            The handler's reply; `reply.error` is what it raised.

        Raises:
            LookupError: there is no such schedule.
        """
        ticks = self.app.table.ticks
        if name not in ticks:
            raise LookupError(f"There is no schedule {name!r}. There are: {', '.join(sorted(ticks)) or 'none'}.")
        due = self.clock.now() if at is None else at.timestamp() if isinstance(at, datetime) else at
        return await handle_tick(self.app, name, utc(due), utc(self.clock.now()), missed)

    @property
    def call_log(self) -> CallLog:
        """The calls that the application ran.

        Raises:
            RuntimeError: the client was made without `call_log=True`.
        """
        if self._log is None:
            raise RuntimeError("make the client with TestClient(app, call_log=True) to keep a log of calls")
        return self._log

    @contextmanager
    def override(self, dependency: Any, fake: Any) -> Generator[None]:
        """Replace a dependency while the block runs, for every kind of call; see `App.override`."""
        with self.app.override(dependency, fake):
            yield

    async def settle(self) -> None:
        """Wait until everything that runs waits for something; see `microkit_testkit.settle`."""
        await settle()

    def __getattr__(self, name: str) -> Any:
        drivers: dict[str, Any] = self.__dict__.get("_drivers", {})
        if name in drivers:
            return drivers[name]
        raise AttributeError(
            f"The test client has no {name!r}. Drivers of active plugins: {', '.join(sorted(drivers)) or 'none'}."
        )
