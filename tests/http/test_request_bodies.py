"""How much of a body is read, and for how long."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from microkit import App, Body, PayloadTooLarge, Request
from tests.asgi_driver import HANG, Exchange, body, http_scope, request

pytestmark = pytest.mark.anyio


def application(**settings: Any) -> App:
    return App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL", **settings}})


@pytest.fixture
def app() -> App:
    app = application()

    @app.post("/body")
    async def whole(request: Request) -> dict[str, Any]:
        first, second = await request.body(), await request.body()
        return {"size": len(first), "same": first == second}

    return app


# -- the length of a body ----------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G10")
@pytest.mark.feature("FX-24")
@pytest.mark.parametrize(
    ("length", "data", "status"),
    [
        ("+5", b"12345", 400),
        ("5, 5", b"12345", 400),
        ("-1", b"", 400),
        ("0x5", b"12345", 400),
        ("\u00b2", b"12", 400),
        ("9" * 30, b"1", 400),
        ("4", b"12345", 400),
        ("6", b"12345", 400),
        ("5", b"12345", 200),
        (str(10**12), b"1", 413),
    ],
)
async def test_a_lying_content_length(app: App, length: str, data: bytes, status: int) -> None:
    acted = []

    @app.post("/act")
    async def act(data: bytes = Body()) -> str:
        acted.append(data)
        return "acted"

    reply = await request(app, "POST", "/act", {"content-length": length}, data)
    assert reply.status == status
    assert acted == ([data] if status == 200 else [])


async def test_two_different_content_lengths(app: App) -> None:
    headers = [(b"content-length", b"5"), (b"content-length", b"6")]
    assert (await request(app, "POST", "/body", headers, b"12345")).status == 400


@pytest.mark.guarantee("G10")
async def test_a_declared_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    app = application(max_body_size=10)

    @app.post("/")
    async def handler(data: bytes = Body()) -> None: ...

    reply = await request(app, "POST", headers={"content-length": "11"}, data=b"x" * 11)
    assert (reply.status, reply.received) == (413, 0)
    assert reply.headers["connection"] == "close"
    http2 = await request(app, "POST", headers={"content-length": "11"}, data=b"x" * 11, http_version="2")
    assert "connection" not in http2.headers


@pytest.mark.guarantee("G10")
async def test_a_chunked_body_over_the_limit_stops_the_reading_at_once() -> None:
    app = application(max_body_size=10)

    @app.post("/")
    async def handler(data: bytes = Body()) -> None: ...

    reply = await request(app, "POST", events=[body(b"x" * 6, more=True) for _ in range(100)])
    assert (reply.status, reply.received) == (413, 2)


@pytest.mark.guarantee("G10")
async def test_a_binding_has_its_own_limits() -> None:
    app = application(max_body_size=10)

    @app.post("/more", max_body_size=20)
    @app.post("/any", max_body_size=None)
    @app.post("/less", max_body_size=2)
    async def handler(data: bytes = Body()) -> int:
        return len(data)

    statuses = [(await request(app, "POST", path, data=b"x" * 15)).status for path in ("/more", "/any", "/less")]
    assert statuses == [200, 200, 413]


@pytest.mark.guarantee("G10")
async def test_a_body_that_was_refused_stays_refused(app: App) -> None:
    """A middleware that swallows the refusal must not leave the handler with half a body."""
    seen: list[str] = []

    async def careless(request: Request, call_next: Any) -> Any:
        try:
            await request.body()
        except PayloadTooLarge:
            seen.append("swallowed")
        return await call_next(request)

    app.add_middleware(careless)

    @app.post("/small", max_body_size=3)
    async def handler(data: bytes = Body()) -> None:
        seen.append("acted")

    reply = await request(app, "POST", "/small", data=b"1234")
    assert (reply.status, seen) == (413, ["swallowed"])


@pytest.mark.guarantee("G10")
@pytest.mark.parametrize("path", ["/binds", "/reads", "/streams"])
async def test_a_client_that_leaves_in_the_middle_of_its_body_is_not_acted_for(app: App, path: str) -> None:
    acted = []

    @app.post("/binds")
    async def binds(data: bytes = Body()) -> None:
        acted.append(data)

    @app.post("/reads")
    async def reads(request: Request) -> None:
        acted.append(await request.body())

    @app.post("/streams")
    async def streams(request: Request) -> None:
        acted.append(b"".join([piece async for piece in request.stream()]))

    left = {"type": "http.disconnect"}
    reply = await request(app, "POST", path, events=[body(b"amount=10", more=True), left])
    assert (acted, reply.sent, reply.error) == ([], [], None)


@pytest.mark.guarantee("G9")
async def test_a_client_that_leaves_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = App(plugins=[], discover=False)

    @app.post("/")
    async def handler(data: bytes = Body()) -> None: ...

    with caplog.at_level("INFO"):
        await request(app, "POST", events=[body(b"a", more=True), {"type": "http.disconnect"}])
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@pytest.mark.guarantee("G10")
@pytest.mark.parametrize("path", ["/binds", "/streams"])
async def test_a_slow_body_is_a_408(path: str) -> None:
    app = application(body_timeout=0.02)
    acted = []

    @app.post("/binds")
    async def binds(data: bytes = Body()) -> None:
        acted.append(data)

    @app.post("/streams")
    async def streams(request: Request) -> None:
        acted.append([piece async for piece in request.stream()])

    reply = await request(app, "POST", path, events=[body(b"a", more=True), HANG])
    assert (reply.status, acted) == (408, [])
    assert reply.headers["connection"] == "close"


@pytest.mark.guarantee("G10")
async def test_a_slow_drip_cannot_outlast_the_deadline() -> None:
    app = application(body_timeout=0.05)

    @app.post("/")
    async def handler(data: bytes = Body()) -> None: ...

    exchange = Exchange(app, http_scope("POST"), [])

    async def drip() -> dict[str, Any]:
        await anyio.sleep(0.01)
        exchange.received += 1
        return body(b"x", more=True)

    with anyio.fail_after(60):
        await app(exchange.scope, drip, exchange._send)
    assert exchange.status == 408
    assert exchange.received < 10


@pytest.mark.guarantee("G10")
async def test_a_binding_has_its_own_patience() -> None:
    app = application(body_timeout=0.01)

    @app.post("/", body_timeout=None)
    async def handler(data: bytes = Body()) -> int:
        return len(data)

    exchange = Exchange(app, http_scope("POST"), [])
    answers = [body(b"a", more=True), body(b"b")]

    async def slow() -> dict[str, Any]:
        await anyio.sleep(0.03)
        return answers.pop(0)

    await app(exchange.scope, slow, exchange._send)
    assert exchange.body == b"2"
