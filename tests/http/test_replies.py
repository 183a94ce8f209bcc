"""Results and errors as a client sees them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from microkit import (
    App,
    BadRequest,
    Depends,
    FileResponse,
    Forbidden,
    HTMLResponse,
    HTTPException,
    JsonResponse,
    NotFound,
    PublicError,
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


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F001-38")
@pytest.mark.feature("F004-46")
@pytest.mark.feature("FX-25")
@pytest.mark.parametrize("where", ["handler", "dependency", "middleware"])
@pytest.mark.parametrize(
    ("error", "status", "title"),
    [
        (HTTPException(418, "short and stout"), 418, "I'm a Teapot"),
        (NotFound("none"), 404, "Not Found"),
        (BadRequest("none"), 400, "Bad Request"),
        (Unauthorized("none"), 401, "Unauthorized"),
        (Forbidden("none"), 403, "Forbidden"),
        (PublicError("none", status=StatusCode.UNAVAILABLE), 503, "Service Unavailable"),
    ],
)
async def test_public_errors_are_problem_details(where: str, error: PublicError, status: int, title: str) -> None:
    app = application()

    def fail(place: str) -> None:
        if place == where:
            raise error

    async def middleware(request: Request, call_next: Any) -> Any:
        fail("middleware")
        return await call_next(request)

    app.add_middleware(middleware)

    @app.get("/")
    async def handler(value: None = Depends(lambda: fail("dependency"))) -> None:
        fail("handler")

    reply = await request(app)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    problem = json.loads(reply.body)
    assert len(problem.pop("call_id")) == 16
    assert problem == {"type": "about:blank", "title": title, "status": status, "detail": error.detail}


@pytest.mark.feature("FX-25")
@pytest.mark.guarantee("G9")
async def test_an_unhandled_exception_is_one_log_record_with_the_call_id_and_a_silent_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = App(plugins=[], discover=False)

    @app.get("/")
    async def handler() -> None:
        raise RuntimeError("password=hunter2 in /etc/secret")

    reply = await request(app)
    assert (reply.status, reply.error) == (500, None)
    problem = json.loads(reply.body)
    assert not any(word in str(reply.sent) for word in ("hunter2", "secret", "Traceback", "RuntimeError", __file__))
    records = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(records) == 1
    assert problem["call_id"] in records[0].getMessage()
    assert records[0].exc_info is not None


@pytest.mark.feature("FX-25")
@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", True),
        ("text/html;q=0.5, application/json", False),
        ("application/json, text/html", False),
        ("text/html, application/json", True),
        ("application/problem+json;q=0.1, text/html", True),
        ("text/html;q=0", False),
        ("text/html;q=zebra, application/json;q=0.1", False),
        ("*/*", False),
        ("", False),
    ],
)
async def test_errors_are_html_where_that_is_preferred(accept: str, html: bool) -> None:
    def fail() -> None:
        raise BadRequest("<script>alert(1)</script>")

    reply = await request(answering(fail), headers={"accept": accept})
    assert (reply.headers["content-type"] == "text/html; charset=utf-8") is html
    if html:
        assert b"<script>" not in reply.body
        assert b"&lt;script&gt;" in reply.body


@pytest.mark.feature("FX-25")
async def test_a_problem_may_have_members_of_its_own_but_not_change_the_standard_ones() -> None:
    def fail() -> None:
        raise HTTPException(409, "taken", details={"taken_by": 7, "status": 200, "call_id": "x"})

    problem = json.loads((await request(answering(fail))).body)
    assert (problem["taken_by"], problem["status"]) == (7, 409)
    assert problem["call_id"] != "x"


@pytest.mark.parametrize("status", [200, 302, 600])
def test_an_http_exception_has_an_error_status(status: int) -> None:
    with pytest.raises(ValueError, match="400-599"):
        HTTPException(status)


# -- files -------------------------------------------------------------------------------------------------------------


CONTENT = b"0123456789" * 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "report.txt"
    path.write_bytes(CONTENT)
    return path


async def test_a_file_is_sent_in_pieces_with_length_type_and_tag(file: Path) -> None:
    app = answering(lambda: FileResponse(file, chunk_size=64))
    reply = await request(app)
    assert (reply.body, reply.complete) == (CONTENT, True)
    assert (reply.headers["content-length"], reply.headers["content-type"]) == ("200", "text/plain")
    assert reply.headers["etag"].startswith('"')
    assert [len(piece) for piece in reply.pieces] == [64, 64, 64, 8]
    head = await request(app, "HEAD")
    assert (head.headers, head.body) == (reply.headers, b"")


async def test_a_file_that_grows_while_it_is_sent_ends_at_its_length(file: Path) -> None:
    app = application()

    @app.get("/")
    def handler() -> FileResponse:
        response = FileResponse(file)
        file.write_bytes(CONTENT + b"more")
        return response

    reply = await request(app)
    assert (len(reply.body), reply.complete, reply.error) == (200, True, None)


@pytest.mark.guarantee("G9")
async def test_a_missing_file_is_an_error_that_tells_no_path(tmp_path: Path) -> None:
    reply = await request(answering(lambda: FileResponse(tmp_path / "nothing.txt")))
    assert reply.status == 500
    assert b"nothing.txt" not in reply.body
    with pytest.raises(FileNotFoundError):
        FileResponse(tmp_path)


async def test_a_server_that_can_sends_the_file_itself(file: Path) -> None:
    log: list[str] = []
    app = application()

    async def dependency() -> Any:
        yield 1
        log.append("left")

    @app.get("/")
    async def handler(value: int = Depends(dependency)) -> FileResponse:
        return FileResponse(file)

    reply = await request(app, extensions={"http.response.pathsend": {}})
    assert reply.sent[-1] == {"type": "http.response.pathsend", "path": str(file)}
    assert (len(reply.sent), log, reply.headers["content-length"]) == (2, ["left"], "200")


async def test_a_file_that_a_middleware_changes_is_not_left_to_the_server(file: Path) -> None:
    app = answering(lambda: FileResponse(file))

    async def shouts(request: Request, call_next: Any) -> Any:
        reply = await call_next(request)
        pieces = reply.body

        async def changed() -> Any:
            async for piece in pieces:
                yield piece.replace(b"0", b"X")

        reply.body = changed()
        return reply

    app.add_middleware(shouts)
    reply = await request(app, extensions={"http.response.pathsend": {}})
    assert reply.body == CONTENT.replace(b"0", b"X")


@pytest.mark.parametrize(
    ("filename", "header"),
    [
        ("a.txt", 'attachment; filename="a.txt"'),
        ('a"b\\.txt', "attachment; filename=\"a_b_.txt\"; filename*=UTF-8''a%22b%5C.txt"),
        ("\u4e16.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%E4%B8%96.txt"),
        ("a\r\nb", "attachment; filename=\"a__b\"; filename*=UTF-8''a%0D%0Ab"),
        ("a\ud800", "attachment; filename=\"a_\"; filename*=UTF-8''a%3F"),
    ],
)
async def test_a_file_is_offered_under_any_name(file: Path, filename: str, header: str) -> None:
    reply = await request(answering(lambda: FileResponse(file, filename=filename)))
    assert reply.headers["content-disposition"] == header
