"""Errors as replies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from microkit import (
    App,
    BadRequest,
    Depends,
    Forbidden,
    HTTPException,
    NotFound,
    PublicError,
    Request,
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
