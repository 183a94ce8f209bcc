"""The rules that every router keeps; subclass `RouterSuite` to hold yours to them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from types import ModuleType
from typing import Any, ClassVar
from uuid import UUID

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microkit import App, Converter, Reply, Request, RouterSpec, RoutingError, hookimpl
from microkit.routing import ANY, Converters, Matcher, RouteEntry, parse_pattern

from .route_oracle import Row, allowed_methods, best_route, paths, tables
from .suite import ConformanceSuite


class RouterSuite(ConformanceSuite):
    """What a router must do with the patterns of the kernel.

    Attributes:
        spec: the router under test.
        max_examples: how many random route tables the property tests try.
    """

    spec: ClassVar[RouterSpec]
    max_examples: ClassVar[int] = 300
    # A machine may be slow, or stand still for a moment.
    _steady = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

    def table(self, *rows: tuple[str, str], converters: Iterable[Converter] = ()) -> Matcher:
        """A matcher whose targets are `METHOD pattern`."""
        known = Converters()
        for converter in converters:
            known.register(converter)
        return self.spec.build(
            [RouteEntry(method, parse_pattern(text, known), f"{method} {text}") for method, text in rows]
        )

    # -- precedence ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/users/me", "GET /users/me"),
            ("/users/7", "GET /users/{id}"),
            ("/users/me/posts", "GET /users/{id}/posts"),
            ("/users/7/posts", "GET /users/{id}/posts"),
            ("/users/me/posts/new", "GET /users/me/posts/{post}"),
            ("/users/7/posts/new", "GET /users/{uid}/posts/new"),
            ("/teams/me/posts/new", "GET /{kind}/me/posts/new"),
        ],
    )
    def test_static_comes_before_dynamic_at_every_segment(self, path: str, expected: str, reverse: bool) -> None:
        rows = [
            ("GET", "/{kind}/me/posts/new"),
            ("GET", "/users/{uid}/posts/new"),
            ("GET", "/users/me/posts/{post}"),
            ("GET", "/users/{id}/posts"),
            ("GET", "/users/{id}"),
            ("GET", "/users/me"),
        ]
        table = self.table(*(reversed(rows) if reverse else rows))
        assert _target(table, "GET", path) == expected

    @pytest.mark.parametrize("reverse", [False, True])
    def test_converters_have_an_order(self, reverse: bool) -> None:
        rows = [("GET", f"/{{value:{name}}}") for name in ("path", "str", "float", "date", "uuid", "int")]
        table = self.table(*(reversed(rows) if reverse else rows))
        uuid = UUID("12345678-1234-1234-1234-123456789abc")
        expected: dict[str, tuple[str, Any]] = {
            "/7": ("int", 7),
            f"/{uuid}": ("uuid", uuid),
            "/2024-02-29": ("date", date(2024, 2, 29)),
            "/2023-02-29": ("str", "2023-02-29"),
            "/7.5": ("float", 7.5),
            "/seven": ("str", "seven"),
            "/7/8": ("path", "7/8"),
            "/": ("path", ""),
        }
        found = {path: table.match("GET", _split(path)) for path in expected}
        assert found == {path: (f"GET /{{value:{name}}}", (value,)) for path, (name, value) in expected.items()}

    def test_custom_converters_go_by_rank_then_by_name(self) -> None:
        kinds = [Converter(name, str, str, rank=rank) for name, rank in (("b", 5), ("a", 5), ("z", 4), ("c", 95))]
        texts = [f"/{{x:{name}}}" for name in ("b", "a", "z", "c", "int")]
        order: list[str] = []
        while texts:
            table = self.table(*(("GET", text) for text in texts), converters=kinds)
            found = _target(table, "GET", "/7")
            assert found is not None
            order.append(found.removeprefix("GET "))
            texts.remove(order[-1])
        assert order == ["/{x:z}", "/{x:a}", "/{x:b}", "/{x:int}", "/{x:c}"]

    def test_a_rank_never_comes_before_static_text(self) -> None:
        eager = Converter("eager", str, str, rank=-1)
        table = self.table(("GET", "/{x:eager}"), ("GET", "/me"), converters=[eager])
        assert _target(table, "GET", "/me") == "GET /me"

    # -- finding what is there -----------------------------------------------------------------------------------------

    def test_a_route_behind_any_choice_of_dynamic_segments_is_found(self) -> None:
        table = self.table(
            ("GET", "/a/b/c/x"),
            ("GET", "/a/b/{q}/y"),
            ("GET", "/a/{p}/c/z"),
            ("GET", "/{o}/b/c/w"),
            ("GET", "/{o}/{p}/{q}/v"),
        )
        found = {last: table.match("GET", ["a", "b", "c", last]) for last in "xyzwvu"}
        assert found == {
            "x": ("GET /a/b/c/x", ()),
            "y": ("GET /a/b/{q}/y", ("c",)),
            "z": ("GET /a/{p}/c/z", ("b",)),
            "w": ("GET /{o}/b/c/w", ("a",)),
            "v": ("GET /{o}/{p}/{q}/v", ("a", "b", "c")),
            "u": None,
        }

    def test_a_value_that_does_not_convert_is_no_match(self) -> None:
        table = self.table(("GET", "/n/{id:int}"), ("GET", "/n/{id:int}/x"), ("GET", "/n/{name}/y"))
        assert table.match("GET", ["n", "seven"]) is None
        assert table.match("GET", ["n", "7", "y"]) == ("GET /n/{name}/y", ("7",))
        assert table.allowed(["n", "seven"]) == set()

    def test_values_belong_to_the_route_by_position(self) -> None:
        table = self.table(("GET", "/users/{id}"), ("GET", "/users/{uid}/posts/{n:int}"), ("PUT", "/users/{name}"))
        assert table.match("GET", ["users", "7"]) == ("GET /users/{id}", ("7",))
        assert table.match("GET", ["users", "7", "posts", "8"]) == ("GET /users/{uid}/posts/{n:int}", ("7", 8))
        assert table.match("PUT", ["users", "7"]) == ("PUT /users/{name}", ("7",))

    def test_an_empty_segment_is_static_text_only(self) -> None:
        table = self.table(("GET", "/users/{id}"), ("GET", "/files/"), ("GET", "/{a}/{b}/c"))
        assert _target(table, "GET", "/files/") == "GET /files/"
        for path in ("/files", "/users/", "//users/9", "/users/9/", "//users///9/", "/x//c", "/"):
            assert table.match("GET", _split(path)) is None, path

    def test_the_rest_takes_at_least_one_segment_which_may_be_empty(self) -> None:
        table = self.table(("GET", "/files/{rest:path}"))
        found = {path: table.match("GET", _split(path)) for path in ("/files", "/files/", "/files/a", "/files//a//b/")}
        target = "GET /files/{rest:path}"
        assert found == {
            "/files": None,
            "/files/": (target, ("",)),
            "/files/a": (target, ("a",)),
            "/files//a//b/": (target, ("/a//b/",)),
        }

    def test_the_rest_comes_last_and_never_hides_a_longer_pattern(self) -> None:
        table = self.table(("GET", "/{rest:path}"), ("GET", "/files/{rest:path}"), ("GET", "/files/{name}/raw"))
        assert _target(table, "GET", "/files/a/raw") == "GET /files/{name}/raw"
        assert _target(table, "GET", "/files/a/b") == "GET /files/{rest:path}"
        assert _target(table, "GET", "/other/a/raw") == "GET /{rest:path}"

    def test_a_custom_rest_converter_may_refuse(self) -> None:
        def parse(text: str) -> list[str]:
            if not text.endswith(".md"):
                raise ValueError(text)
            return text.split("/")

        pages = Converter("pages", list, parse, "/".join, rank=5, rest=True)
        table = self.table(("GET", "/{page:pages}"), ("GET", "/{a}/{b}"), converters=[pages])
        assert table.match("GET", ["a", "b.md"]) == ("GET /{page:pages}", (["a", "b.md"],))
        assert table.match("GET", ["a", "b"]) == ("GET /{a}/{b}", ("a", "b"))
        assert table.match("GET", ["a"]) is None

    def test_a_slash_inside_a_segment_does_not_split_it(self) -> None:
        table = self.table(("GET", "/files/{name}"), ("GET", "/files/{name}/{part}"))
        assert table.match("GET", ["files", "a/b"]) == ("GET /files/{name}", ("a/b",))

    # -- methods -------------------------------------------------------------------------------------------------------

    def test_a_method_mismatch_falls_through_to_the_next_candidate(self) -> None:
        table = self.table(
            ("GET", "/users/me"), ("POST", "/users/{id}"), ("DELETE", "/{kind}/me"), ("PUT", "/{rest:path}")
        )
        found = {method: table.match(method, ["users", "me"]) for method in ("GET", "POST", "DELETE", "PUT", "PATCH")}
        assert found == {
            "GET": ("GET /users/me", ()),
            "POST": ("POST /users/{id}", ("me",)),
            "DELETE": ("DELETE /{kind}/me", ("users",)),
            "PUT": ("PUT /{rest:path}", ("users/me",)),
            "PATCH": None,
        }

    def test_allowed_is_the_union_over_all_routes_that_match(self) -> None:
        table = self.table(
            ("GET", "/users/me"), ("POST", "/users/{id:int}"), ("PUT", "/users/{id}"), ("DELETE", "/{rest:path}")
        )
        assert table.allowed(["users", "me"]) == {"GET", "PUT", "DELETE"}
        assert table.allowed(["users", "7"]) == {"POST", "PUT", "DELETE"}
        assert table.allowed(["users"]) == {"DELETE"}

    def test_a_route_of_any_method_answers_every_method(self) -> None:
        table = self.table((ANY, "/hook"), (ANY, "/{name}/x"), ("GET", "/{name}"))
        assert _target(table, "PROPFIND", "/hook") == "* /hook"
        assert table.match("GET", ["hook", "x"]) == ("* /{name}/x", ("hook",))
        assert table.allowed(["hook"]) == {ANY, "GET"}

    def test_an_empty_table_matches_nothing(self) -> None:
        table = self.table()
        assert table.match("GET", [""]) is None
        assert table.allowed(["a", "b"]) == set()

    def test_targets_are_returned_as_they_are(self) -> None:
        pattern = parse_pattern("/{x}", Converters())
        for target in (None, 0, "", object()):
            found = self.spec.build([RouteEntry("GET", pattern, target)]).match("GET", ["a"])
            assert found is not None
            assert found[0] is target

    def test_a_large_table_keeps_its_routes_apart(self) -> None:
        rows = [("GET", f"/api/v{n % 7}/res{n}/{{id:int}}/act{n}") for n in range(2000)]
        table = self.table(*rows)
        for n in (0, 999, 1999):
            assert table.match("GET", ["api", f"v{n % 7}", f"res{n}", "5", f"act{n}"]) == (f"GET {rows[n][1]}", (5,))
        assert table.match("GET", ["api", "v1", "res1", "5", "act2"]) is None

    # -- properties ----------------------------------------------------------------------------------------------------

    def test_random_tables_match_as_the_rules_say(self) -> None:
        # Made anew for each subclass: hypothesis takes one test function for one test.
        @settings(self._steady, max_examples=self.max_examples)
        @given(tables(), st.lists(paths(), min_size=1, max_size=8))
        def check(rows: list[Row], tried: list[list[str]]) -> None:
            table = self.spec.build([row.entry for row in rows])
            for path in tried:
                assert table.allowed(path) == allowed_methods(rows, path)
                for method in ("GET", "POST", "PUT"):
                    assert table.match(method, path) == best_route(rows, method, path)

        check()

    def test_the_order_of_registration_never_matters(self) -> None:
        @settings(self._steady, max_examples=self.max_examples)
        @given(tables(), st.lists(paths(), min_size=1, max_size=8), st.randoms(use_true_random=False))
        def check(rows: list[Row], tried: list[list[str]], random: Any) -> None:
            one = self.spec.build([row.entry for row in rows])
            other = self.spec.build([row.entry for row in random.sample(rows, len(rows))])
            for path in tried:
                assert one.allowed(path) == other.allowed(path)
                for method in ("GET", "POST", "PUT"):
                    assert one.match(method, path) == other.match(method, path)

        check()

    # -- through an application ----------------------------------------------------------------------------------------

    def app(self) -> App:
        """An application on this router, without any other plugin."""
        plugin = ModuleType("router_under_test")

        @hookimpl
        def microkit_routers() -> list[RouterSpec]:
            return [self.spec]

        plugin.__dict__["microkit_routers"] = microkit_routers
        return App(plugins=[plugin], discover=False, router=self.spec.name)

    @pytest.mark.parametrize(
        ("method", "path", "status", "body"),
        [
            ("GET", "/users/me", 200, {"name": "me"}),
            ("GET", "/users/7", 200, {"id": "7"}),
            ("GET", "/users/a%2Fb", 200, {"id": "a/b"}),
            ("GET", "/users/me/posts", 200, {"uid": "me"}),
            ("POST", "/users/me", 200, {"posted": "me"}),
            ("GET", "/nowhere", 404, None),
            ("GET", "/users/7/", 404, None),
            ("GET", "/users/%zz", 400, None),
        ],
    )
    def test_an_application_answers_by_the_rules(self, method: str, path: str, status: int, body: Any) -> None:
        reply = self._request(method, path)
        assert reply.http_status == status
        if body is not None:
            assert isinstance(reply.body, bytes)
            assert json.loads(reply.body) == body

    @pytest.mark.parametrize(
        ("method", "path", "status", "allow"),
        [
            ("DELETE", "/users/me", 405, {"GET", "HEAD", "POST", "OPTIONS"}),
            ("OPTIONS", "/users/me", 204, {"GET", "HEAD", "POST", "OPTIONS"}),
            ("POST", "/users/me/posts", 405, {"GET", "HEAD", "OPTIONS"}),
        ],
    )
    def test_an_application_tells_what_is_allowed(self, method: str, path: str, status: int, allow: set[str]) -> None:
        reply = self._request(method, path)
        assert reply.http_status == status
        assert set(reply.headers["allow"].split(", ")) == allow

    def test_an_application_answers_head_as_get(self) -> None:
        assert self._request("HEAD", "/users/7").http_status == 200

    def test_an_application_refuses_routes_that_cannot_be_told_apart(self) -> None:
        app = self.app()
        app.get("/users/{id}")(_nothing)
        app.get("/users/{name}")(_nothing)
        with pytest.raises(RoutingError, match="told apart"):
            app.build()

    def _request(self, method: str, path: str) -> Reply:
        app = self.app()

        @app.get("/users/me")
        async def me() -> Any:
            return {"name": "me"}

        @app.get("/users/{id}")
        async def one(id: str) -> Any:
            return {"id": id}

        @app.post("/users/{id}")
        async def post(id: str) -> Any:
            return {"posted": id}

        @app.get("/users/{uid}/posts")
        async def posts(uid: str) -> Any:
            return {"uid": uid}

        async def run() -> Reply:
            async with app.started():
                return await app.handle(Request(method, path))

        return anyio.run(run)


def _split(path: str) -> list[str]:
    return path[1:].split("/")


def _target(table: Matcher, method: str, path: str) -> Any:
    found = table.match(method, _split(path))
    return None if found is None else found[0]


async def _nothing() -> None:
    """A handler of a route that no test reaches."""
