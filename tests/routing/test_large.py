"""Ten thousand routes: they are built, told apart and answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from microkit import App, Request

COUNT = 10_000


@pytest.fixture(scope="module")
def large() -> App:
    """An application on the trie, with two routes of each shape."""
    import microkit_trie.plugin

    app = App(plugins=[microkit_trie.plugin], discover=False)
    for number in range(COUNT // 2):
        app.get(f"/api/v1/res{number}/{{id:int}}/act{number}", name=f"act{number}")(_handler(number))
        app.post(f"/{{kind}}/v2/res{number}")(_handler(-number))
    return app


@pytest.mark.guarantee("G3")
@pytest.mark.feature("F001-02")
def test_ten_thousand_routes_are_told_apart(large: App, anyio_backend: Any) -> None:
    import anyio

    async def run() -> None:
        async with large.started():
            for number in (0, 1, COUNT // 4, COUNT // 2 - 1):
                for method, path, status, body in (
                    ("GET", f"/api/v1/res{number}/7/act{number}", 200, number),
                    ("HEAD", f"/api/v1/res{number}/7/act{number}", 200, number),
                    ("POST", f"/api/v2/res{number}", 200, -number),
                    ("GET", f"/api/v2/res{number}", 405, None),
                    ("GET", f"/api/v1/res{number}/x/act{number}", 404, None),
                    ("GET", f"/api/v1/res{number}/7/act{number + 1}", 404, None),
                ):
                    reply = await large.handle(Request(method, path))
                    assert reply.http_status == status, path
                    if body is not None:
                        assert reply.body == str(body).encode()

    anyio.run(run, backend=anyio_backend[0])


@pytest.mark.feature("F001-44")
def test_addresses_are_found_in_a_large_table(large: App) -> None:
    paths = [large.url_for(f"act{number}", id=number) for number in range(COUNT // 2)]
    assert paths == [f"/api/v1/res{number}/{number}/act{number}" for number in range(COUNT // 2)]


def _handler(number: int) -> Callable[..., Any]:
    async def handler() -> Any:
        return number

    return handler
