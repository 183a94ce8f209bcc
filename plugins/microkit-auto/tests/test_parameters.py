"""Where parameters get their values from."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest

from microkit import Body, Depends, Provider, Query, ResolutionError
from microkit.http import FormFile
from microkit_auto import App, InvalidInput
from microkit_testkit import TestClient

pytestmark = pytest.mark.anyio
ClientFor = Callable[..., Awaitable[TestClient]]
FORM = "application/x-www-form-urlencoded"


class Site(App):
    async def show(self, name: Any, more: Any = "default") -> Any:
        return {"name": name, "more": more}

    async def typed(self, number: int, flag: bool = False, tags: list[str] = [], since: UUID | None = None) -> Any:  # noqa: B006
        return {"number": number, "flag": flag, "tags": tags, "since": since}

    async def named(self, *, key: Any, other: int = 1) -> Any:
        return {"key": key, "other": other}

    async def rest(self, first: Any, *args: Any, key: Any = None, **more: Any) -> Any:
        return {"first": first, "args": list(args), "key": key, "more": more}

    async def message(self, message: Any, call: Any = None) -> Any:
        return message


async def _json(client: TestClient, method: str, path: str, **options: Any) -> Any:
    response = await client.request(method, path, **options)
    return response.json() if response.status_code == 200 else (response.status_code, response.json()["detail"])


@pytest.mark.feature("F004-06")
@pytest.mark.parametrize(
    ("query", "name"), [("name=a&name=b", "a"), ("name=", ""), ("name=a%20b+c", "a b c"), ("name=%ff", "\ufffd")]
)
async def test_query_values_bind_by_name(client_for: ClientFor, query: str, name: str) -> None:
    client = await client_for(Site(discover=False))
    for method in ("GET", "POST", "DELETE"):
        assert await _json(client, method, f"/show?{query}") == {"name": name, "more": "default"}


@pytest.mark.feature("F004-07")
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_form_fields_bind_by_name(client_for: ClientFor, method: str) -> None:
    client = await client_for(Site(discover=False))
    for content, expected in [
        (b"name=Al&more=x", {"name": "Al", "more": "x"}),
        (b"name=&name=b", {"name": "", "more": "default"}),
        (b"name=a;b&x=1", {"name": "a;b", "more": "default"}),
        (b"name=%F0%9F%A5%A7", {"name": "\U0001f967", "more": "default"}),
    ]:
        headers = {"content-type": f"{FORM}; charset=utf-8"}
        assert await _json(client, method, "/show", content=content, headers=headers) == expected


@pytest.mark.feature("F004-07")
@pytest.mark.parametrize("value", ["text", 5, 1.5, True, None, [1, "a"], {"a": [1]}])
async def test_json_members_keep_their_types(client_for: ClientFor, value: Any) -> None:
    client = await client_for(Site(discover=False))
    expected = {"name": value, "more": "default"}
    assert await _json(client, "POST", "/show", json={"name": value, "unused": 1}) == expected
    headers = {"content-type": "application/vnd.api+json"}
    assert await _json(client, "PUT", "/show", content=json.dumps({"name": value}), headers=headers) == expected


@pytest.mark.feature("F004-07")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_other_methods_have_no_body(client_for: ClientFor, method: str) -> None:
    client = await client_for(Site(discover=False))
    missing = (400, "Missing required parameter 'name'.")
    assert await _json(client, method, "/show", data={"name": "form"}) == missing
    assert await _json(client, method, "/show", json={"name": "json"}) == missing


@pytest.mark.feature("F004-17")
@pytest.mark.parametrize(
    "content_type",
    ["text/plain; x=application/json", "text/plain", "", "application/jsonp", f"text/plain; {FORM}", "text/json-seq"],
)
async def test_a_media_type_is_exact(client_for: ClientFor, content_type: str) -> None:
    client = await client_for(Site(discover=False))
    headers = {"content-type": content_type} if content_type else {}
    for content in (b'{"name": "json"}', b"name=form"):
        got = await _json(client, "POST", "/show", content=content, headers=headers)
        assert got == (400, "Missing required parameter 'name'.")


@pytest.mark.feature("F004-17")
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[NaN]", b'{"name": 1} x', b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"name": "\\ud800"}', b"9" * 5000],
)
async def test_malformed_json_is_refused_before_the_handler(client_for: ClientFor, content: bytes) -> None:
    ran: list[str] = []

    class Quiet(App):
        async def page(self) -> None:
            ran.append("page")

    client = await client_for(Quiet(discover=False))
    response = await client.post("/page", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, ran) == (400, [])


@pytest.mark.guarantee("G10")
async def test_half_a_body_and_too_much_of_it_reach_no_handler(client_for: ClientFor) -> None:
    ran: list[Any] = []

    class Pay(App):
        async def pay(self, amount: Any) -> None:
            ran.append(amount)

        async def nothing(self) -> None:
            ran.append("nothing")

    app = Pay(discover=False)
    client = await client_for(app)
    for path in ("/pay", "/nothing"):
        assert (await client.post(path, data=[("amount", "1")] * 1001)).status_code == 413
        events = [
            {"type": "http.request", "body": b"amount=10", "more_body": True},  # of amount=1000
            {"type": "http.disconnect"},
        ]

        async def receive(events: Any = events) -> Any:
            return events.pop(0)

        async def send(event: Any) -> None:
            raise AssertionError("nobody is there to read a reply")

        headers = [(b"content-type", FORM.encode()), (b"content-length", b"11")]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        await app(scope, receive, send)
    assert ran == []


@pytest.mark.parametrize("document", [[1], "text", None, 5])
async def test_json_that_is_no_object_has_no_members(client_for: ClientFor, document: Any) -> None:
    client = await client_for(Site(discover=False))
    assert await _json(client, "POST", "/show", json=document) == (400, "Missing required parameter 'name'.")


@pytest.mark.feature("F004-10")
async def test_the_order_of_sources(client_for: ClientFor) -> None:
    client = await client_for(Site(discover=False))
    assert await _json(client, "POST", "/show/path?name=query", data={"name": "form"}) == {
        "name": "path",
        "more": "default",
    }
    assert (await _json(client, "POST", "/show?name=query", data={"name": "form"}))["name"] == "query"
    assert (await _json(client, "POST", "/show?name=query", json={"name": "json"}))["name"] == "query"
    assert (await _json(client, "POST", "/show", data={"name": "form"}))["name"] == "form"


@pytest.mark.feature("F004-10")
async def test_what_is_missing_is_named_with_all_the_rest(client_for: ClientFor) -> None:
    class Many(App):
        async def page(self, one: Any, two: int, three: int, four: int = 4) -> Any: ...

    client = await client_for(Many(discover=False))
    response = await client.post("/page?two=x", data={"four": "x"})
    assert response.status_code == 400
    assert response.json()["detail"] == "Missing required parameter 'one'."
    assert response.json()["errors"] == [
        {"loc": ["one"], "msg": "is missing", "type": "missing"},
        {"loc": ["two"], "msg": "must be an integer", "type": "int"},
        {"loc": ["three"], "msg": "is missing", "type": "missing"},
        {"loc": ["four"], "msg": "must be an integer", "type": "int"},
    ]


@pytest.mark.feature("F004-10")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/named?key=k", {"key": "k", "other": 1}),
        ("/named?key=k&other=2", {"key": "k", "other": 2}),
        ("/named", (400, "Missing required parameter 'key'.")),
        ("/rest/a", {"first": "a", "args": [], "key": None, "more": {}}),
        ("/rest/a/b/c?key=k&x=1&x=2&y=", {"first": "a", "args": ["b", "c"], "key": "k", "more": {"x": "1", "y": ""}}),
        ("/rest?first=q&z=1", {"first": "q", "args": [], "key": None, "more": {"z": "1"}}),
        ("/rest/a?self=1&first=2", {"first": "a", "args": [], "key": None, "more": {}}),
    ],
)
async def test_keyword_only_and_variadic_parameters(client_for: ClientFor, path: str, expected: Any) -> None:
    client = await client_for(Site(discover=False))
    assert await _json(client, "GET", path) == expected
    assert await _json(client, "POST", path) == expected


async def test_a_keyword_only_parameter_takes_no_segment(client_for: ClientFor) -> None:
    client = await client_for(Site(discover=False))
    assert (await client.get("/named/k")).status_code == 404


async def test_variadic_keywords_take_query_form_and_json(client_for: ClientFor) -> None:
    client = await client_for(Site(discover=False))
    got = await _json(client, "POST", "/rest/a?x=query", data={"x": "form", "y": ["1", "2"], "self": "s"})
    assert got["more"] == {"x": "query", "y": "1"}
    assert (await _json(client, "POST", "/rest/a", json={"n": 5, "o": {"a": 1}}))["more"] == {"n": 5, "o": {"a": 1}}


async def test_what_is_injected_is_taken_from_no_client(client_for: ClientFor) -> None:
    def database() -> str:
        return "ours"

    class Shop(App):
        async def page(self, db: Annotated[str, Depends(database)], *args: Any, **more: Any) -> Any:
            return {"db": db, "args": list(args), "more": more}

    client = await client_for(Shop(discover=False))
    assert await _json(client, "GET", "/page/a?db=theirs&x=1") == {"db": "ours", "args": ["a"], "more": {"x": "1"}}
    assert await _json(client, "POST", "/page", json={"db": "theirs"}) == {"db": "ours", "args": [], "more": {}}


@pytest.mark.feature("F004-10")
async def test_names_of_other_kinds_of_call_are_plain(client_for: ClientFor) -> None:
    class Chat(App):
        async def say(self, message: Any, batch: Any = "one", tick: Any = None, *, ws: Any = None) -> Any:
            return [message, batch, tick, ws]

        async def bare(self, message, batch="one", ws=None):  # type: ignore[no-untyped-def]
            return [message, batch, ws]

    client = await client_for(Chat(discover=False))
    assert await _json(client, "POST", "/say", data={"message": "hi", "tick": "t"}) == ["hi", "one", "t", None]
    assert await _json(client, "POST", "/bare", data={"message": "hi", "batch": "two"}) == ["hi", "two", None]
    assert await _json(client, "GET", "/bare/hi?ws=x") == ["hi", "one", "x"]


class Colour(Enum):
    RED = "red"


@pytest.mark.feature("F004-11")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/typed/7", {"number": 7, "flag": False, "tags": [], "since": None}),
        ("/typed?number=7&flag=on&tags=a&tags=b", {"number": 7, "flag": True, "tags": ["a", "b"], "since": None}),
        ("/typed/x", (400, "The parameter 'number' is not valid.")),
        ("/typed/7?since=x", (400, "The parameter 'since' is not valid.")),
        ("/typed/7/maybe", (400, "The parameter 'flag' is not valid.")),
    ],
)
async def test_annotated_scalars_are_converted(client_for: ClientFor, path: str, expected: Any) -> None:
    client = await client_for(Site(discover=False))
    for method in ("GET", "POST"):
        assert await _json(client, method, path) == expected


@pytest.mark.feature("F004-11")
async def test_json_members_are_judged_by_their_type(client_for: ClientFor) -> None:
    client = await client_for(Site(discover=False))
    good = {"number": 7, "flag": True, "tags": ["a"]}
    assert await _json(client, "POST", "/typed", json=good) == {**good, "since": None}
    for bad in ({"number": "7"}, {"number": True}, {"number": 7, "tags": "a"}, {"number": None}):
        assert (await _json(client, "POST", "/typed", json=bad))[0] == 400
    assert await _json(client, "POST", "/typed", data={"number": "7", "tags": ["a", "b"]}) == {
        "number": 7,
        "flag": False,
        "tags": ["a", "b"],
        "since": None,
    }


@dataclass
class Todo:
    title: str
    done: bool = False


@pytest.mark.feature("F004-11")
async def test_models_are_members_of_the_object_or_by_a_marker_all_of_it(client_for: ClientFor) -> None:
    class Todos(App):
        async def member(self, todo: Todo, by: str = "me", options: dict[str, int] = {}) -> Any:  # noqa: B006
            return [todo, by, options]

        async def whole(self, todo: Annotated[Todo, Body()], page: Annotated[int, Query()] = 1) -> Any:
            return [todo, page]

    client = await client_for(Todos(discover=False))
    sent = {"todo": {"title": "a"}, "by": "you", "options": {"x": 1}}
    assert await _json(client, "POST", "/member/x", json=sent) == [{"title": "a", "done": False}, "x", {"x": 1}]
    assert await _json(client, "POST", "/whole?page=2", json={"title": "a"}) == [{"title": "a", "done": False}, 2]
    assert (await client.post("/member", json={"todo": {"done": 1}})).json()["errors"] == [
        {"loc": ["todo", "title"], "msg": "is missing", "type": "missing"},
        {"loc": ["todo", "done"], "msg": "must be true or false", "type": "bool"},
    ]


@pytest.mark.feature("F004-11")
async def test_services_and_dependencies_are_injected(client_for: ClientFor) -> None:
    class Clock:
        now = "noon"

    closed: list[str] = []

    async def session(user: Any = "nobody"):
        yield f"session of {user}"
        closed.append("session")

    class Shop(App):
        async def page(self, clock: Clock, name: str, kept: Annotated[str, Depends(session)]) -> Any:
            return [clock.now, name, kept]

        def sync(self, clock: Clock, colour: Colour) -> Any:
            return [clock.now, colour]

    app = Shop(discover=False, service_providers=[[Provider(Clock)]])
    client = await client_for(app)
    assert await _json(client, "GET", "/page/Al?user=me") == ["noon", "Al", "session of me"]
    assert await _json(client, "POST", "/page/Al", data={"user": "form"}) == ["noon", "Al", "session of form"]
    assert await _json(client, "GET", "/sync/red") == ["noon", "red"]
    assert closed == ["session", "session"]


def test_what_nothing_can_fill_stops_the_start() -> None:
    class Unknown: ...

    class Broken(App):
        async def page(self, thing: Unknown) -> None: ...

    with pytest.raises(ResolutionError, match="thing"):
        Broken(discover=False).build()


def test_the_error_is_a_public_one() -> None:
    assert InvalidInput([]).status_code == 400


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("F004-08")
async def test_files_bind_by_the_name_of_their_field(client_for: ClientFor) -> None:
    class Uploads(App):
        async def upload(self, report: FormFile, title: str, kind: Any = None) -> Any:
            content = b"".join([piece async for piece in report.content])
            return [report.filename, report.content_type, content.decode(), title, kind]

        async def several(self, report: list[FormFile]) -> Any:
            return [file.filename for file in report if [piece async for piece in file.content]]

        async def any(self, **given: Any) -> Any:
            return sorted(given) if [piece async for piece in given["report"].content] else None

    client = await client_for(Uploads(plugins=["microkit_testkit.reference"], discover=False))
    headers, content = {"content-type": "text/x-form"}, b"title=T\nreport@a.txt\nall of it"
    options: Any = {"headers": headers, "content": content}
    assert await _json(client, "POST", "/upload", **options) == [
        "a.txt",
        "application/octet-stream",
        "all of it",
        "T",
        None,
    ]
    assert await _json(client, "POST", "/several", **options) == ["a.txt"]
    assert await _json(client, "POST", "/any", **options) == ["report", "title"]
    assert await _json(client, "POST", "/upload", json={"report": "x", "title": "T"}) == (
        400,
        "Missing required parameter 'report'.",
    )
    assert (await client.post("/upload", files={"report": b"x"})).status_code == 415


@pytest.mark.feature("F004-08")
async def test_without_a_reader_multipart_is_refused_where_it_is_needed(client_for: ClientFor) -> None:
    class Uploads(App):
        async def upload(self, title: Any) -> Any:
            return title

        async def raw(self) -> Any:
            return len(await self.request.body())

        async def fields(self) -> Any:
            return self.request.body_params

    client = await client_for(Uploads(discover=False))
    for path in ("/upload", "/fields"):
        response = await client.post(path, files={"report": b"x"})
        assert response.status_code == 415
        assert "microkit-web" in response.json()["detail"]
    assert (await client.post("/upload/here", files={"report": b"x"})).text == "here"
    assert (await client.post("/raw", files={"report": b"x"})).json() > 1
