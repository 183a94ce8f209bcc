"""The test client over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from microkit import App, BackgroundTasks, Request, Response, StreamingResponse
from microkit_testkit import ConnectionCut, TestClient

pytestmark = [pytest.mark.anyio, pytest.mark.feature("FX-28")]


@pytest.fixture
def app() -> App:
    app = App(discover=False)

    @app.get("/hello/{name}")
    async def hello(name: str, greeting: str = "hello") -> dict[str, str]:
        return {greeting: name}

    @app.route("/echo", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def echo(request: Request) -> dict[str, object]:
        return {
            "method": request.method,
            "body": (await request.body()).decode(),
            "type": request.headers.get("content-type"),
            "query": request.query.to_lists(),
            "cookies": request.cookies,
            "header": request.headers.get("x-test"),
        }

    @app.get("/login")
    async def login() -> Response:
        response = Response(b"in")
        response.set_cookie("session", "abc")
        response.set_cookie("short", "x", max_age=60)
        response.set_cookie("deep", "x", path="/echo")
        return response

    @app.get("/logout")
    async def logout() -> Response:
        response = Response(b"out")
        response.delete_cookie("session")
        return response

    @app.get("/fails")
    async def fails() -> None:
        raise LookupError("the secret text")

    return app


async def test_a_request_reaches_the_handler_and_its_response_comes_back(app: App) -> None:
    async with TestClient(app) as client:
        response = await client.get("/hello/ann", params={"greeting": "bye"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"bye": "ann"}
    assert response.text == '{"bye":"ann"}'
    assert response.body == response.content == b'{"bye":"ann"}'
    assert response.url == "http://testserver/hello/ann?greeting=bye"


async def test_every_method_and_every_form_of_body(app: App) -> None:
    async with TestClient(app, headers={"X-Test": "client"}) as client:
        for method in ("get", "post", "put", "patch", "delete", "options"):
            assert (await getattr(client, method)("/echo")).json()["method"] == method.upper()
        assert (await client.head("/hello/ann")).content == b""
        sent = (await client.post("/echo", json={"a": None})).json()
        assert (sent["body"], sent["type"], sent["header"]) == ('{"a":null}', "application/json", "client")
        sent = (await client.post("/echo?b=0", json=None, params={"a": [1, True]}, headers={"x-test": "own"})).json()
        assert (sent["body"], sent["query"], sent["header"]) == ("null", {"b": ["0"], "a": ["1", "true"]}, "own")
        sent = (await client.post("/echo", data={"name": "a b"})).json()
        assert (sent["body"], sent["type"]) == ("name=a+b", "application/x-www-form-urlencoded")
        sent = (await client.post("/echo", data={"a": "1"}, files={"f": ("n.txt", b"text", "text/plain")})).json()
        assert 'name="f"; filename="n.txt"\r\nContent-Type: text/plain\r\n\r\ntext\r\n--' in sent["body"]
        assert sent["type"].startswith("multipart/form-data; boundary=")
        assert (await client.post("/echo", content="text")).json()["body"] == "text"

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two"

        assert (await client.post("/echo", content=pieces())).json()["body"] == "one two"
        with pytest.raises(TypeError, match="one of"):
            await client.post("/echo", content="a", json={})


async def test_cookies_are_kept_sent_and_deleted(app: App) -> None:
    async with TestClient(app, cookies={"first": "1"}) as client:
        response = await client.get("/login")
        assert dict(response.cookies) == {"session": "abc", "short": "x", "deep": "x"}
        assert (await client.get("/echo", cookies={"own": "2"})).json()["cookies"] == {
            "deep": "x",
            "first": "1",
            "session": "abc",
            "short": "x",
            "own": "2",
        }
        await client.clock.advance(60)
        await client.get("/logout")
        assert dict(client.cookies) == {"first": "1", "deep": "x"}


async def test_an_unhandled_exception_is_raised_as_it_is_or_given_as_the_reply(app: App) -> None:
    async with TestClient(app) as client:
        with pytest.raises(LookupError, match="the secret text"):
            await client.get("/fails")
        client.raise_server_exceptions = False
        response = await client.get("/fails")
    assert response.status_code == 500
    assert "secret" not in response.text
    assert isinstance(response.error, LookupError)


async def test_redirects_are_followed_when_asked(app: App) -> None:
    @app.post("/form")
    async def form() -> Response:
        return Response(b"", 303, {"location": "/echo?done=1"})

    @app.post("/moved")
    async def moved() -> Response:
        return Response(b"", 307, {"location": "/echo"})

    @app.get("/loop")
    async def loop() -> Response:
        return Response(b"", 302, {"location": "loop"})

    @app.get("/away")
    async def away() -> Response:
        return Response(b"", 302, {"location": "https://elsewhere.example/"})

    async with TestClient(app) as client:
        response = await client.post("/form", content=b"x")
        assert (response.status_code, response.is_redirect) == (303, True)
        response = await client.post("/form", content=b"x", follow_redirects=True)
        assert (response.json()["method"], response.json()["body"], response.json()["query"]) == (
            "GET",
            "",
            {"done": ["1"]},
        )
        assert [each.status_code for each in response.history] == [303]
        response = await client.post("/moved", content=b"x", follow_redirects=True)
        assert (response.json()["method"], response.json()["body"]) == ("POST", "x")
        assert (await client.get("/away", follow_redirects=True)).status_code == 302
        with pytest.raises(RuntimeError, match="20 redirects"):
            await client.get("/loop", follow_redirects=True)


async def test_a_stream_is_read_piece_by_piece_and_can_be_left(app: App) -> None:
    made: list[int] = []
    closed: list[bool] = []

    @app.get("/numbers")
    async def numbers() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            try:
                for i in range(1000):
                    made.append(i)
                    yield b"%d\n" % i
            finally:
                closed.append(True)

        return StreamingResponse(body())

    async with TestClient(app) as client:
        async with client.stream("GET", "/numbers") as response:
            assert response.status_code == 200
            assert await response.receive() == b"0\n"
            assert await response.receive() == b"1\n"
        assert closed == [True]
        assert len(made) < 10
        async with client.stream("GET", "/numbers") as response:
            lines = [line async for line in response.lines()]
        assert lines == [str(i) for i in range(1000)]


async def test_a_response_that_is_cut_off_is_an_error(app: App) -> None:
    @app.get("/cut")
    async def cut() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise LookupError("broken")

        return StreamingResponse(body())

    async with TestClient(app) as client:
        with pytest.raises(LookupError, match="broken"):
            await client.get("/cut")
        client.raise_server_exceptions = False
        with pytest.raises(ConnectionCut) as caught:
            await client.get("/cut")
        assert caught.value.response.content == b"half"
        with pytest.raises(ConnectionCut):  # noqa: PT012
            async with client.stream("GET", "/cut") as response:
                assert await response.receive() == b"half"
                await response.read()


async def test_background_tasks_are_done_when_the_request_returns(app: App) -> None:
    done: list[str] = []

    @app.post("/later")
    async def later(tasks: BackgroundTasks) -> str:
        async def work() -> None:
            done.append("work")

        tasks.add(work)
        return "ok"

    async with TestClient(app) as client:
        await client.post("/later")
        assert done == ["work"]


async def test_the_lifespan_runs_around_the_block_and_its_state_reaches_requests() -> None:
    log: list[str] = []

    async def lifespan(app: App) -> AsyncIterator[dict[str, str]]:
        log.append("up")
        yield {"answer": "42"}
        log.append("down")

    app = App(discover=False, lifespan=lifespan)

    @app.get("/")
    async def root(request: Request) -> str:
        return request.scope_state["answer"]

    async with TestClient(app) as client:
        assert log == ["up"]
        assert (await client.get("/")).text == "42"
    assert log == ["up", "down"]


@pytest.mark.guarantee("G2")
async def test_a_failed_start_is_raised_and_leaves_the_app_as_it_was() -> None:
    app = App(discover=False)
    clock = app.clock

    @app.on_startup
    async def fails() -> None:
        raise OSError("no disk")

    with pytest.raises(Exception, match="no disk"):
        async with TestClient(app):
            pass
    assert app.clock is clock


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_sync_code_has_the_same_client(app: App, backend: str) -> None:
    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(["a", "b"])

    with TestClient(app, backend=backend) as client:
        assert client.get("/hello/ann").json() == {"hello": "ann"}
        assert client.post("/echo", json=1).json()["body"] == "1"
        with pytest.raises(LookupError):
            client.get("/fails")
        with client.stream("GET", "/stream") as response:
            assert list(response.chunks()) == [b"a", b"b"]
