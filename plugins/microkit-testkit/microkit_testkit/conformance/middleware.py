"""The rules that every middleware keeps; subclass `MiddlewareSuite` to hold yours to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from microkit import App, Request, StatusCode, StreamingResponse
from microkit.middleware import as_spec
from microkit_testkit.client import TestClient

from .suite import ConformanceSuite


class MiddlewareSuite(ConformanceSuite):
    """What a middleware must do with the calls of others, when it lets them pass.

    Override `make`, and `headers` if a request needs some to be let through.
    """

    headers: Mapping[str, str] = {}

    def make(self) -> Any:
        """A new middleware, as `app.add_middleware` takes it."""
        raise NotImplementedError

    def app(self) -> tuple[App, list[str]]:
        """An application with the middleware, and the list of what its handlers did."""
        app, log = App(discover=False), list[str]()
        app.add_middleware(self.make())

        @app.get("/ok/{name}")
        async def ok(name: str, request: Request) -> dict[str, str]:
            log.append(name)
            await anyio.lowlevel.checkpoint()
            return {"name": name}

        @app.post("/echo")
        async def echo(request: Request) -> bytes:
            return await request.body()

        @app.get("/fails")
        async def fails() -> None:
            raise LookupError("a secret")

        @app.get("/stream")
        async def stream() -> StreamingResponse:
            async def body() -> AsyncIterator[bytes]:
                try:
                    for piece in (b"one", b"two", b"three"):
                        yield piece
                finally:
                    log.append("closed")

            return StreamingResponse(body())

        @app.get("/slow")
        async def slow() -> None:
            log.append("slow")
            await anyio.sleep_forever()

        return app, log

    def client(self, app: App) -> TestClient:
        """The client that the cases use."""
        return TestClient(app, headers=self.headers, raise_server_exceptions=False)

    def test_it_wraps_some_kind_of_call(self) -> None:
        from microkit import Kind

        spec = as_spec(self.make())
        assert any(spec.wraps(kind) for kind in Kind)

    @pytest.mark.anyio
    async def test_the_handler_runs_once_and_its_reply_comes_through(self) -> None:
        app, log = self.app()
        async with self.client(app) as client:
            response = await client.get("/ok/ann")
        assert (response.status_code, response.json(), log) == (200, {"name": "ann"}, ["ann"])

    @pytest.mark.anyio
    async def test_a_body_reaches_the_handler_whole(self) -> None:
        app, _ = self.app()
        body = b"x" * 100_000
        async with self.client(app) as client:
            assert (await client.post("/echo", content=body)).content == body

    @pytest.mark.anyio
    async def test_calls_at_the_same_time_are_not_mixed_up(self) -> None:
        app, log = self.app()
        got: dict[str, str] = {}
        async with self.client(app) as client, anyio.create_task_group() as tasks:

            async def ask(name: str) -> None:
                got[name] = (await client.get(f"/ok/{name}")).json()["name"]

            for name in "abcdefgh":
                tasks.start_soon(ask, name)
        assert got == {name: name for name in "abcdefgh"}
        assert sorted(log) == list("abcdefgh")

    @pytest.mark.anyio
    @pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/ok/x", 405)])
    async def test_a_miss_stays_a_miss(self, method: str, path: str, status: int) -> None:
        app, _ = self.app()
        async with self.client(app) as client:
            assert (await client.request(method, path)).status_code == status

    @pytest.mark.anyio
    async def test_an_error_of_the_handler_stays_an_error_without_its_text(self) -> None:
        app, _ = self.app()
        async with self.client(app) as client:
            response = await client.get("/fails")
        assert response.status_code == 500
        assert b"secret" not in response.content

    @pytest.mark.anyio
    async def test_a_stream_is_delivered_whole_and_closed(self) -> None:
        app, log = self.app()
        async with self.client(app) as client:
            assert (await client.get("/stream")).content == b"onetwothree"
        assert log == ["closed"]

    @pytest.mark.anyio
    async def test_a_stream_that_the_client_leaves_is_closed(self) -> None:
        app, log = self.app()
        async with self.client(app) as client:
            async with client.stream("GET", "/stream") as response:
                await response.receive()
        assert log == ["closed"]

    @pytest.mark.anyio
    async def test_a_cancelled_call_ends(self) -> None:
        app, log = self.app()
        async with self.client(app) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(client.get, "/slow")
            await client.settle()
            tasks.cancel_scope.cancel()
        assert log == ["slow"]

    @pytest.mark.anyio
    async def test_every_kind_that_it_wraps_works(self) -> None:
        from microkit import Event, Every, Procedure

        app, _ = self.app()
        ran: list[str] = []

        @app.on(Procedure("suite.add"))
        async def add(a: int, b: int) -> int:
            return a + b

        @app.on(Event("suite", "event"))
        async def event(payload: int) -> None:
            ran.append("event")

        @app.on(Every(60), name="suite_tick")
        async def suite_tick() -> None:
            ran.append("tick")

        async with self.client(app) as client:
            assert await client.rpc_with(self.headers).suite.add(1, 2) == 3
            published = await client.publish("suite", "event", 1, headers=dict(self.headers))
            assert published.one.reply.status is StatusCode.OK
            assert (await client.tick("suite_tick")).ok
        assert ran == ["event", "tick"]
