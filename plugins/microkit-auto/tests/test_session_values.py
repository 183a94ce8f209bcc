"""Values of the session as parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest

import microkit
from microkit import Kind
from microkit_auto import App, FromSession
from microkit_testkit import TestClient

pytestmark = pytest.mark.anyio
ClientFor = Callable[..., Awaitable[TestClient]]


async def _json(client: TestClient, method: str, path: str, **options: Any) -> Any:
    response = await client.request(method, path, **options)
    return response.json() if response.status_code == 200 else (response.status_code, response.json()["detail"])


def _with_session(app: microkit.App, session: dict[str, Any]) -> None:
    async def sessions(connection: Any, call_next: Any) -> Any:
        connection.session = session
        return await call_next(connection)

    app.add_middleware(sessions, kinds=Kind.HTTP | Kind.SOCKET)


class Account(App):
    async def show(self, user: Any = "nobody", page: int = 1) -> Any:
        return [user, page]

    async def mine(self, user: Annotated[str, FromSession()], title: Any = None) -> Any:
        return [user, title]

    async def maybe(self, user: Annotated[str, FromSession("nobody", alias="user_id")]) -> Any:
        return user


@pytest.mark.feature("F004-09")
async def test_session_values_bind_only_where_switched_on(client_for: ClientFor) -> None:
    for on, expected in ((False, ["nobody", 1]), (True, ["Al", 1])):
        app = Account(discover=False, settings={"auto": {"session_values": on}})
        _with_session(app, {"user": "Al"})
        client = await client_for(app)
        assert await _json(client, "GET", "/show") == expected
        assert await _json(client, "POST", "/show") == expected


@pytest.mark.feature("F004-09")
async def test_nothing_sent_stands_in_for_a_value_of_the_session(client_for: ClientFor) -> None:
    app = Account(discover=False, settings={"auto": {"session_values": True}})
    _with_session(app, {"user": "Al"})
    client = await client_for(app)
    refused = (400, "The parameter 'user' is a value of the session.")
    assert await _json(client, "GET", "/show?user=admin") == refused
    assert await _json(client, "POST", "/show", data={"user": "admin"}) == refused
    assert await _json(client, "POST", "/show", json={"user": "admin"}) == refused
    assert await _json(client, "GET", "/show?page=2") == ["Al", 2]
    assert await _json(client, "POST", "/mine?user=admin", json={"user": "admin", "title": "T"}) == ["Al", "T"]


@pytest.mark.feature("F004-09")
async def test_a_parameter_of_the_session_takes_nothing_else(client_for: ClientFor) -> None:
    app = Account(discover=False)
    _with_session(app, {})
    client = await client_for(app)
    assert await _json(client, "GET", "/mine?user=admin") == (400, "Missing required parameter 'user'.")
    assert await _json(client, "GET", "/mine/admin") == (400, "Missing required parameter 'user'.")
    assert (await client.get("/maybe?user=admin&user_id=admin")).text == "nobody"


async def test_without_a_session_the_error_names_the_plugin(client_for: ClientFor) -> None:
    client = await client_for(Account(discover=False), raise_server_exceptions=False)
    response = await client.get("/mine")
    assert response.status_code == 500
    assert "microkit-sessions" in str(response.error)
