"""Forms of the kernel's own media type, and the places that plugins fill: sessions."""

from __future__ import annotations

from typing import Any

import pytest

from microkit import App, BadRequest, ConfigurationError, PayloadTooLarge, Request, UnsupportedMediaType
from microkit.codecs import decode
from microkit.http import QueryParams
from microkit.http.forms import FORM_CODEC, MAX_FIELDS
from microkit_testkit import TestClient

pytestmark = pytest.mark.anyio
TYPE = "application/x-www-form-urlencoded"
CODECS = {TYPE: FORM_CODEC}


@pytest.mark.feature("F004-07")
@pytest.mark.parametrize(
    ("body", "pairs"),
    [
        (b"", []),
        (b"a=1&a=2&b=", [("a", "1"), ("a", "2"), ("b", "")]),
        (b"a", [("a", "")]),
        (b"a=x;b=y", [("a", "x;b=y")]),
        (b"a=1+2%2B3&b=%26%3D", [("a", "1 2+3"), ("b", "&=")]),
        (b"a=%zz&b=%", [("a", "%zz"), ("b", "%")]),
        (b"a=%ff&b=%C3%BC", [("a", "\ufffd"), ("b", "\xfc")]),
        ("a=\xfc".encode(), [("a", "\xfc")]),
        (b"&&a=1&", [("a", "1")]),
    ],
)
def test_fields(body: bytes, pairs: list[tuple[str, str]]) -> None:
    assert decode(body, f"{TYPE}; charset=utf-8", CODECS).pairs == pairs


@pytest.mark.guarantee("G10")
def test_fields_are_bounded() -> None:
    assert len(decode(b"&".join([b"a=1"] * MAX_FIELDS), TYPE, CODECS).pairs) == 1000
    with pytest.raises(PayloadTooLarge, match="1000 fields"):
        decode(b"a&" * MAX_FIELDS, TYPE, CODECS)
    with pytest.raises(BadRequest):
        decode(b"a=\xff", TYPE, CODECS)


def test_what_is_written_can_be_read() -> None:
    pairs = [("a b", "1&2"), ("a b", ""), ("\xfc", "=+")]
    for value in (pairs, QueryParams(pairs)):
        assert decode(FORM_CODEC.encode(value), TYPE, CODECS).pairs == pairs
    assert FORM_CODEC.encode({"a": ["1", "2"], "b": 3}) == b"a=1&a=2&b=3"


async def test_a_request_reads_its_form() -> None:
    app, seen = App(discover=False), list[Any]()

    @app.post("/")
    async def post(request: Request) -> None:
        form = await request.form()
        seen.extend([form.fields.to_lists(), form.files, await request.form() is form, await request.body()])

    async with TestClient(app) as client:
        assert (await client.post("/", data={"a": ["1", "2"]})).status_code == 204
        assert seen == [{"a": ["1", "2"]}, {}, True, b"a=1&a=2"]
        for content_type in ("application/json", "text/plain", "multipart/form-data; boundary=x", ""):
            response = await client.post("/", content=b"a=1", headers={"content-type": content_type})
            assert response.status_code == UnsupportedMediaType.code
            assert ("microkit-web" in response.json()["detail"]) is content_type.startswith("multipart")


async def test_a_session_is_what_its_middleware_set() -> None:
    app = App(discover=False)

    async def sessions(request: Request, call_next: Any) -> Any:
        if "on" in request.query:
            request.session = {"user": "Al"}
        return await call_next(request)

    app.add_middleware(sessions)

    @app.get("/")
    async def home(request: Request) -> Any:
        return request.session["user"]

    async with TestClient(app, raise_server_exceptions=False) as client:
        assert (await client.get("/?on")).text == "Al"
        response = await client.get("/")
        assert response.status_code == 500
        assert isinstance(response.error, ConfigurationError)
        assert "microkit-sessions" in str(response.error)
