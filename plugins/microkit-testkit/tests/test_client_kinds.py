"""The test client over sockets, RPC, messages and ticks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from microkit import (
    App,
    ConnectionClosed,
    Event,
    Every,
    Forbidden,
    Message,
    NotFound,
    Procedure,
    PublicError,
    RpcRequest,
    StatusCode,
    Tick,
    WebSocket,
)
from microkit.settlement import State
from microkit_testkit import HandshakeRejected, RecordingDelivery, TestClient

pytestmark = [pytest.mark.anyio, pytest.mark.feature("FX-28")]


@pytest.fixture
def app() -> App:
    app = App(discover=False)

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        await ws.accept(subprotocol=ws.subprotocols[0] if ws.subprotocols else None, headers={"x-from": "app"})
        async for message in ws:
            if isinstance(message, bytes):
                await ws.send_bytes(message[::-1])
            elif message == "bye":
                await ws.close(4000, "so long")
            elif message == "fail":
                raise LookupError("the secret text")
            else:
                await ws.send_json({"got": message})

    @app.websocket("/closed")
    async def closed(ws: WebSocket) -> None:
        raise Forbidden("members only")

    @app.on(Procedure("users.rename"))
    async def rename(name: str, to: str, request: RpcRequest) -> dict[str, object]:
        if name == "nobody":
            raise NotFound("no such user")
        if name == "bug":
            raise LookupError("the secret text")
        return {"name": to, "trace": request.metadata.get("trace")}

    @app.on(Procedure("users.all"))
    async def everybody() -> AsyncIterator[str]:
        yield "ann"
        yield "bob"

    return app


async def test_a_websocket_talks_both_ways(app: App) -> None:
    async with TestClient(app) as client:
        async with client.websocket("/echo", subprotocols=["v1", "v2"]) as ws:
            assert ws.subprotocol == "v1"
            assert ws.headers["x-from"] == "app"
            await ws.send_text("hi")
            assert await ws.receive_json() == {"got": "hi"}
            await ws.send_bytes(b"abc")
            assert await ws.receive_bytes() == b"cba"
            await ws.send_json([1])
            assert await ws.receive_text() == '{"got":"[1]"}'
            await ws.send_text("bye")
            with pytest.raises(ConnectionClosed) as caught:
                await ws.receive()
        assert (caught.value.code, caught.value.reason, ws.close_code) == (4000, "so long", 4000)


async def test_a_failing_socket_handler_gives_its_exception_or_the_close_code(app: App) -> None:
    async with TestClient(app) as client:
        with pytest.raises(LookupError):  # noqa: PT012
            async with client.websocket("/echo") as ws:
                await ws.send_text("fail")
                await ws.wait_closed()
        client.raise_server_exceptions = False
        async with client.websocket("/echo") as ws:
            await ws.send_text("fail")
            assert await ws.wait_closed() == 1011
        assert "secret" not in ws.close_reason


async def test_a_rejected_handshake_is_an_error_with_its_response(app: App) -> None:
    async with TestClient(app) as client:
        with pytest.raises(HandshakeRejected) as caught:
            async with client.websocket("/closed"):
                pass
        assert caught.value.response.status_code == 403
        assert caught.value.response.json()["detail"] == "members only"
        with pytest.raises(HandshakeRejected) as caught:
            async with client.websocket("/nowhere"):
                pass
        assert caught.value.response.status_code == 404


async def test_an_exception_in_the_block_is_not_wrapped(app: App) -> None:
    async with TestClient(app) as client:
        with pytest.raises(ZeroDivisionError):
            async with client.websocket("/echo"):
                raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError):
            async with client.stream("GET", "/nowhere"):
                raise ZeroDivisionError


async def test_procedures_are_called_by_attribute_or_name(app: App) -> None:
    async with TestClient(app) as client:
        assert await client.rpc.users.rename("ann", to="eve") == {"name": "eve", "trace": None}
        assert await client.rpc("users.rename", "ann", "eve") == {"name": "eve", "trace": None}
        assert (await client.rpc_with({"trace": "t1"}).users.rename("ann", "eve"))["trace"] == "t1"
        assert [name async for name in await client.rpc.users.all()] == ["ann", "bob"]
        with pytest.raises(NotFound, match="no such user"):
            await client.rpc.users.rename("nobody", to="eve")
        with pytest.raises(PublicError) as caught:
            await client.rpc.users.nothing()
        assert caught.value.status is StatusCode.NOT_FOUND
        with pytest.raises(LookupError, match="secret"):
            await client.rpc.users.rename("bug", to="eve")
        client.raise_server_exceptions = False
        with pytest.raises(PublicError) as caught:
            await client.rpc.users.rename("bug", to="eve")
        assert (caught.value.status, "secret" in str(caught.value)) == (StatusCode.INTERNAL, False)


async def test_published_messages_tell_how_they_were_settled(app: App) -> None:
    seen: list[tuple[str, int]] = []

    @app.on(Event("shop", "sold"))
    async def ship(payload: dict[str, int], message: Message) -> None:
        seen.append(("ship", message.attempt))
        if payload["n"] == 0 and message.attempt < 2:
            raise ConnectionError("not now")

    @app.on(Event("shop", "sold"))
    async def bill(payload: dict[str, int], message: Message) -> None:
        if payload["n"] == 1:
            await message.reject("no price")

    async with TestClient(app) as client:
        done = await client.publish("shop", "sold", {"n": 0})
        assert done.states == [State.RETRIED, State.ACKED]
        first = done["ship"].settled()
        assert (first.state, first.delay, first.attempt) == (State.RETRIED, 1.0, 1)
        assert first.actions == ["store_retry", "ack"]
        assert isinstance(done["ship"].one.error, ConnectionError)
        again = await done["ship"].redeliver()
        assert again.settled().state is State.ACKED
        assert seen == [("ship", 1), ("ship", 2)]
        with pytest.raises(AssertionError, match="never comes again"):
            await again.redeliver()
        dead = (await client.publish("shop", "sold", {"n": 1}))["bill"].settled()
        assert (dead.state, dead.reason) == (State.DEAD, "no price")
        with pytest.raises(AssertionError, match="2 deliveries"):
            done.settled()
        with pytest.raises(LookupError, match="shop/sold"):
            await client.publish("shop", "sould", {})


async def test_a_broker_that_fails_or_lost_its_connection(app: App) -> None:
    @app.on(Event("shop", "sold"))
    async def ship(message: Message) -> None:
        if message.headers.get("stale"):
            message.settlement.delivery.go_stale()  # type: ignore[union-attr]
        raise ConnectionError

    async with TestClient(app) as client:
        refused = await client.publish("shop", "sold", delivery=RecordingDelivery(fails=["store_retry"]))
        assert refused.settled().state is State.RETURNED
        assert refused.settled().actions == ["store_retry", "give_back"]
        lost = await client.publish("shop", "sold", headers={"stale": True})
        assert (lost.settled().state, lost.settled().actions) == (State.LOST, [])


async def test_ticks_fire_by_name_and_by_the_clock(app: App) -> None:
    fired: list[datetime] = []

    @app.on(Every(60), name="poll")
    async def poll(tick: Tick) -> None:
        fired.append(tick.scheduled_at)

    at = datetime(2030, 5, 1, tzinfo=UTC)
    async with TestClient(app, call_log=True) as client:
        assert (await client.tick("poll", at=at)).ok
        assert fired == [at]
        await client.clock.advance(59.9)
        assert len(fired) == 1
        await client.clock.advance(121)
        assert [moment.second for moment in fired[1:]] == [0, 0, 0]
        assert client.call_log.lines == [("TICK", "every 60s", StatusCode.OK)] * 4
        with pytest.raises(LookupError, match="poll"):
            await client.tick("pull")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_sync_code_reaches_every_kind(app: App, backend: str) -> None:
    fired: list[str] = []

    @app.on(Event("shop", "sold"))
    async def ship(payload: int) -> None:
        if payload:
            raise ConnectionError

    @app.on(Every(10))
    def poll() -> None:
        fired.append("poll")

    with TestClient(app, backend=backend) as client:
        with client.websocket("/echo") as ws:
            ws.send_text("hi")
            assert ws.receive_json() == {"got": "hi"}
        assert client.rpc.users.rename("ann", to="eve")["name"] == "eve"
        assert list(client.rpc("users.all")) == ["ann", "bob"]
        assert client.publish("shop", "sold", 0).settled().state is State.ACKED
        published = client.publish("shop", "sold", 1)
        assert published.redeliver().settled().attempt == 2
        assert published[0].settled().state is State.RETRIED
        client.clock.advance(25)
        assert fired == ["poll", "poll"]
        assert client.tick("poll").ok
