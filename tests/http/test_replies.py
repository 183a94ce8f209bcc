"""Results and errors as a client sees them."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest

from microkit import (
    App,
    BadRequest,
    HTMLResponse,
    JsonResponse,
    RedirectResponse,
    Reply,
    Request,
    Response,
    StatusCode,
    Unauthorized,
)
from tests.asgi_driver import request

pytestmark = pytest.mark.anyio


def application(**options: Any) -> App:
    return App(plugins=[], discover=False, settings={"app": {"log_level": "CRITICAL"}}, **options)


def answering(make: Any) -> App:
    """An app whose every answer is what `make` returns or raises."""
    app = application()

    @app.get("/")
    async def handler() -> Any:
        return make()

    return app


# -- results -----------------------------------------------------------------------------------------------------------


@dataclass
class User:
    name: str


@pytest.mark.feature("F000-28")
@pytest.mark.feature("F000-29")
@pytest.mark.feature("F001-37")
@pytest.mark.feature("F001-40")
@pytest.mark.feature("F004-19")
@pytest.mark.parametrize(
    ("result", "status", "content_type", "body"),
    [
        ({"a": 1}, 200, "application/json", b'{"a":1}'),
        ([1, None], 200, "application/json", b"[1,null]"),
        (User("Al"), 200, "application/json", b'{"name":"Al"}'),
        (True, 200, "application/json", b"true"),
        ("caf\u00e9", 200, "text/plain; charset=utf-8", "caf\u00e9".encode()),
        (b"\x00", 200, "application/octet-stream", b"\x00"),
        (bytearray(b"\x01"), 200, "application/octet-stream", b"\x01"),
        ("", 200, "text/plain; charset=utf-8", b""),
        ((201, {"a": 1}), 201, "application/json", b'{"a":1}'),
        ((HTTPStatus.CREATED, User("Al")), 201, "application/json", b'{"name":"Al"}'),
        ((404, "gone", {"content-type": "text/x"}), 404, "text/x", b"gone"),
        ((200, "a", [("Content-Type", "text/y")]), 200, "text/y", b"a"),
        (Response("x", 202, {"Content-Type": "text/z"}, media_type="text/plain"), 202, "text/z", b"x"),
        (JsonResponse({"a": 1}, 201, {"Content-Type": "application/x+json"}), 201, "application/x+json", b'{"a":1}'),
        (HTMLResponse("<p>"), 200, "text/html; charset=utf-8", b"<p>"),
        (Reply({"a": 1}, status=StatusCode.OK), 200, "application/json", b'{"a":1}'),
        (Reply({"a": 1}, status=StatusCode.NOT_FOUND), 404, "application/json", b'{"a":1}'),
    ],
)
async def test_results_become_replies(result: Any, status: int, content_type: str, body: bytes) -> None:
    reply = await request(answering(lambda: result))
    assert (reply.status, reply.body) == (status, body)
    assert reply.headers["content-type"] == content_type
    assert reply.headers["content-length"] == str(len(body))


@pytest.mark.feature("F001-37")
async def test_a_sync_handler_does_not_block_the_loop() -> None:
    import threading

    app = application()
    loop_thread = threading.get_ident()

    @app.get("/")
    def handler() -> dict[str, bool]:
        return {"off": threading.get_ident() != loop_thread}

    assert (await request(app)).body == b'{"off":true}'


@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: Response(b"text", 204),
        lambda: (204, "text"),
        lambda: Response(b"text", 304, {"content-length": "4"}),
    ],
    ids=["none", "response", "tuple", "not-modified"],
)
async def test_replies_without_content_have_neither_body_nor_length(make: Any) -> None:
    reply = await request(answering(make))
    assert reply.status in (204, 304)
    assert "content-length" not in reply.headers
    assert (reply.body, reply.complete) == (b"", True)


async def test_a_wrong_content_length_is_put_right_and_sent_once() -> None:
    reply = await request(answering(lambda: Response(b"abc", headers={"Content-Length": "7"})))
    assert reply.headers["content-length"] == "3"
    reply = await request(answering(lambda: (200, "abc", {"Content-Length": "7", "x-a": "b"})))
    assert reply.headers["content-length"] == "3"


@pytest.mark.feature("F004-19")
@pytest.mark.guarantee("G9")
@pytest.mark.parametrize(
    "make",
    [
        lambda: (),
        lambda: (5,),
        lambda: (1, 2),
        lambda: ({"a": 1}, 400),
        lambda: (200, "a", {}, "b"),
        lambda: (True, "a"),
        lambda: (200, (1, 2)),
        lambda: (999, "a"),
        lambda: object(),
        lambda: {"a": object()},
        lambda: Response({"a": 1}),  # type: ignore[arg-type]
        lambda: Response("a", 700),
        lambda: Response("a", headers={"x": "a\r\nset-cookie: evil=1"}),
        lambda: Response("a", headers={"x": "a\n"}),
        lambda: Response("a", headers={"x": "a\x00"}),
        lambda: Response("a", headers={"x": "\u4e16"}),
        lambda: Response("a", headers={"x\r\ny": "a"}),
        lambda: Response("a", headers={"x y": "a"}),
        lambda: Response("a", headers={"x": b"a"}),  # type: ignore[dict-item]
        lambda: Response("a", headers={"x": None}),  # type: ignore[dict-item]
        lambda: (200, "a", {"x": "a\r\nb: c"}),
        lambda: BadRequest("a", {"x": "a\r\nb: c"}),
        lambda: BadRequest("a", details={"x": object()}),
    ],
    ids=range(23),
)
async def test_what_cannot_be_sent_is_a_logged_500(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = App(plugins=[], discover=False)

    @app.get("/")
    async def handler() -> Any:
        result = make()
        if isinstance(result, Exception):
            raise result
        return result

    reply = await request(app)
    assert (reply.status, reply.headers["content-type"], reply.error) == (500, "application/problem+json", None)
    assert "evil" not in str(reply.sent)
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


@pytest.mark.feature("F004-19")
async def test_a_shared_list_of_headers_is_left_alone() -> None:
    shared = [("x-a", "b")]
    app = application()

    @app.get("/")
    async def handler() -> Any:
        return 200, "a", shared

    @app.get("/response")
    async def response() -> Any:
        reply = Response("a", headers=shared)
        reply.set_cookie("session", "mine")
        return reply

    for path in ("/", "/response", "/"):
        await request(app, target=path)
    assert shared == [("x-a", "b")]
    assert (await request(app)).all_headers("set-cookie") == []


@pytest.mark.feature("F004-19")
async def test_what_middleware_adds_to_a_shared_reply_reaches_one_client_only() -> None:
    app = application()
    constant = Response("ok")
    visitors = iter(["first", "second"])

    async def sets_cookie(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        reply.set_cookie("session", next(visitors))
        reply.http_status = 201
        return reply

    app.add_middleware(sets_cookie)

    @app.get("/")
    async def handler() -> Response:
        return constant

    assert [len((await request(app)).all_headers("set-cookie")) for _ in range(2)] == [1, 1]
    assert constant.http_status == 200


@pytest.mark.feature("F000-28")
@pytest.mark.feature("F001-40")
async def test_several_cookies_survive() -> None:
    def make() -> Response:
        reply = Response("a")
        reply.set_cookie("a", "1", max_age=60, secure=True, http_only=True, same_site="strict")
        reply.set_cookie("b", "2", same_site=None)
        reply.delete_cookie("c")
        return reply

    assert (await request(answering(make))).all_headers("set-cookie") == [
        "a=1; Path=/; Max-Age=60; SameSite=Strict; HttpOnly; Secure",
        "b=2; Path=/",
        "c=; Path=/; Max-Age=0; SameSite=Lax",
    ]


@pytest.mark.parametrize(
    ("name", "value", "attributes"),
    [
        ("a b", "1", {}),
        ("a", "1;2", {}),
        ("a", "\u00e9", {}),
        ("a", "1\r\n", {}),
        ("a", "1", {"path": "/;x"}),
        ("a", "1", {"same_site": "none"}),
        ("__Host-a", "1", {"secure": True, "domain": "x"}),
        ("__Secure-a", "1", {}),
    ],
)
def test_a_cookie_that_cannot_be_is_refused(name: str, value: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cookie"):
        Response("a").set_cookie(name, value, **attributes)


# -- HEAD and odd methods ----------------------------------------------------------------------------------------------


@pytest.mark.feature("F001-08")
@pytest.mark.parametrize("target", ["/", "/fails", "/nowhere", "/secret", "/empty"])
async def test_head_has_the_headers_of_get_and_no_body(target: str) -> None:
    app = application()
    app.get("/")(lambda: {"a": 1})

    @app.get("/empty")
    async def empty() -> str:
        return ""

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError

    @app.get("/secret")
    async def secret() -> None:
        raise Unauthorized("who?", {"www-authenticate": "Bearer"})

    got, head = await request(app, "GET", target), await request(app, "HEAD", target)
    assert (head.status, head.headers) == (got.status, got.headers)
    assert (head.body, head.complete) == (b"", True)


async def test_an_own_head_handler_may_tell_the_length_of_what_it_does_not_make() -> None:
    app = application()

    @app.head("/")
    async def handler() -> Response:
        return Response(b"", headers={"content-length": "1000"})

    assert (await request(app, "HEAD")).headers["content-length"] == "1000"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PURGE", "GETATTR", "_SEND", "get"])
async def test_an_unknown_method_is_a_405(method: str) -> None:
    reply = await request(answering(lambda: "a"), method)
    assert reply.status == 405
    assert reply.headers["allow"] == "GET, HEAD, OPTIONS"


# -- redirects ---------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F000-28")
@pytest.mark.feature("F004-22")
@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/a/b?c=d#e", "/a/b?c=d#e"),
        ("/caf\u00e9/\u4e16", "/caf%C3%A9/%E4%B8%96"),
        ("next", "next"),
        ("../up", "../up"),
        ("?q=a b", "?q=a%20b"),
        ("/r?to=https://other.example/", "/r?to=https://other.example/"),
        ("/a%20b", "/a%20b"),
    ],
)
async def test_a_redirect_stays_on_its_origin(location: str, sent: str) -> None:
    reply = await request(answering(lambda: RedirectResponse(location)))
    assert (reply.status, reply.headers["location"], reply.body) == (302, sent, b"")


@pytest.mark.feature("F004-22")
@pytest.mark.parametrize(
    "location",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "\t//evil.example",
        " //evil.example",
        "\u00a0//evil.example",
        "/a\r\nset-cookie: a=b",
        "/a\x00",
        "//[evil",
    ],
)
async def test_a_redirect_elsewhere_is_refused(location: str) -> None:
    reply = await request(answering(lambda: RedirectResponse(location)))
    assert reply.status == 500
    assert "location" not in reply.headers


@pytest.mark.feature("F004-22")
async def test_a_redirect_elsewhere_is_possible_on_purpose() -> None:
    reply = await request(answering(lambda: RedirectResponse("https://idp.example/x?y=z", 303, external=True)))
    assert (reply.status, reply.headers["location"]) == (303, "https://idp.example/x?y=z")
    with pytest.raises(ValueError, match="refused"):
        RedirectResponse("javascript:alert(1)", external=True)
    with pytest.raises(ValueError, match="200"):
        RedirectResponse("/", 200)
