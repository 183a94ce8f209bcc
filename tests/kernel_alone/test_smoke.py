"""The kernel is useful without any plugin; these tests also run outside the checkout (``make alone``)."""

from __future__ import annotations

import json

import pytest

from microkit import App, Request


@pytest.fixture
def app() -> App:
    app = App(plugins=[], discover=False)

    @app.get("/hello/{name}")
    async def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError("a secret")

    return app


@pytest.mark.feature("FC-01")
@pytest.mark.feature("FC-10")
async def test_answers_a_request_in_process(app: App) -> None:
    reply = await app.handle(Request("GET", "/hello/kernel"))
    assert reply.http_status == 200
    assert json.loads(reply.body) == {"hello": "kernel"}


@pytest.mark.feature("FC-01")
@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("POST", "/hello/kernel", 405)])
async def test_answers_what_no_route_matches(app: App, method: str, path: str, status: int) -> None:
    reply = await app.handle(Request(method, path))
    assert reply.http_status == status


@pytest.mark.feature("FC-01")
@pytest.mark.guarantee("G9")
async def test_an_unhandled_exception_is_a_generic_reply(app: App) -> None:
    reply = await app.handle(Request("GET", "/fails"))
    assert reply.http_status == 500
    assert b"secret" not in reply.body
