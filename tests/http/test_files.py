"""Files as replies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microkit import (
    App,
    Depends,
    FileResponse,
    Request,
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
