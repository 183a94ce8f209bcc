"""What is reachable, and what never is."""

from __future__ import annotations

import functools
import keyword
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import microkit
import microkit_auto
from microkit import ConfigurationError
from microkit_auto import App, Root, handler
from microkit_testkit import HandshakeRejected, TestClient

pytestmark = pytest.mark.anyio
ClientFor = Callable[..., Awaitable[TestClient]]


def a_function(self: Any) -> str:
    """A function of a module, which a class takes as an attribute."""
    return "leaked"


class Mixin:
    """Of a library: no site."""

    def mixed_in(self) -> str:
        return "leaked"


class Callable_:
    def __call__(self, *args: Any) -> str:
        return "leaked"


def bare(func: Any) -> Any:
    """A decorator that tells nothing of what it wraps."""

    def inner(self: Any) -> str:
        return func(self)

    return inner


def wrapping(func: Any) -> Any:
    @functools.wraps(func)
    async def inner(*args: Any) -> Any:
        return f"<{await func(*args)}>"

    return inner


class Site(Mixin, App):
    setting = "value"
    session_id_factory = staticmethod(uuid4)
    slug = a_function
    key = lambda self: "leaked"  # noqa: E731
    backend = Callable_()
    half = functools.partialmethod(a_function)

    class Inner:
        def __init__(self, *args: Any) -> None: ...

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.instance_callable = lambda: "leaked"
        self.validator = a_function

    async def page(self) -> str:
        return "page"

    async def _private(self) -> str:
        return "leaked"

    async def __mangled(self) -> str:
        return "leaked"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__(scope, receive, send)

    async def ws_chat(self, ws: Any) -> None:
        await ws.accept()

    async def _ws_secret(self, ws: Any) -> None:
        await ws.accept()

    @property
    def secret(self) -> Any:
        raise AssertionError("a property was read")

    @functools.cached_property
    def cached(self) -> Any:
        raise AssertionError("a property was read")

    @staticmethod
    def helper() -> str:
        return "leaked"

    @classmethod
    def make(cls) -> str:
        return "leaked"

    @functools.lru_cache  # noqa: B019
    def memory(self) -> str:
        return "leaked"

    @bare
    def hidden(self) -> str:
        return "leaked"

    @wrapping
    async def wrapped(self) -> str:
        return "wrapped"


REACHABLE = {"page", "wrapped"}


def _names() -> list[str]:
    app = Site(discover=False)
    known = {*dir(app), *dir(microkit.App), *dir(type), *dir(object), *vars(app)}
    return sorted(
        {*known, "session_id_factory", "_Site__mangled", "__mangled", "ws_chat", "__class__", "_x", "request"}
    )


@pytest.mark.feature("F004-04")
async def test_of_all_names_only_handlers_are_reachable(client_for: ClientFor) -> None:
    client = await client_for(Site(discover=False))
    names = _names()
    assert len(names) > 100
    found = set()
    for name in names:
        for path in (f"/{name}", f"/{name}/x"):
            for method in ("GET", "POST"):
                response = await client.request(method, path)
                assert "leaked" not in response.text
                if response.status_code != 404:
                    assert response.status_code == 200
                    found.add(name)
    assert found == REACHABLE


@pytest.mark.feature("F004-04")
async def test_of_all_names_only_socket_handlers_are_reachable_as_sockets(client_for: ClientFor) -> None:
    client = await client_for(Site(discover=False))
    async with client.websocket("/chat"):
        pass
    for name in [*_names(), "secret", "_secret", "_ws_secret", "ws_secret"]:
        with pytest.raises(HandshakeRejected) as caught:
            async with client.websocket(f"/{name}"):
                pass
        assert caught.value.response.status_code == 404


@pytest.mark.feature("F004-04")
@pytest.mark.parametrize(
    "path", ["/%5Fprivate", "/./page", "/../page", "/page/../_private", "/PAGE", "/page%00", "/page.", "/pa%67e."]
)
async def test_other_spellings_reach_nothing(client_for: ClientFor, path: str) -> None:
    client = await client_for(Site(discover=False))
    assert (await client.get(path)).status_code in (400, 404)


async def test_a_function_of_another_origin_is_told(client_for: ClientFor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "microkit.auto"):
        Site(discover=False).build()
    told = {record.args[1] for record in caplog.records if isinstance(record.args, tuple)}
    assert told == {"slug", "key", "hidden"}


async def test_handler_makes_a_handler_of_it(client_for: ClientFor) -> None:
    class Marked(App):
        greet = handler("GET")(lambda self, name="you": f"hello {name}")

        @handler()
        @bare
        def hidden(self) -> str:
            return "not hidden"

        def plain(self) -> str:
            return "plain"

        alias = plain

    client = await client_for(Marked(discover=False))
    for path, text in {"/greet/me": "hello me", "/hidden": "not hidden", "/plain": "plain", "/alias": "plain"}.items():
        assert (await client.get(path)).text == text
    assert (await client.post("/greet")).status_code == 405


def test_handler_refuses_what_it_is_not_for() -> None:
    with pytest.raises(ConfigurationError, match="before it decorates"):
        handler(a_function)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no HTTP method"):
        handler("GET POST")

    with pytest.raises(ConfigurationError, match="above a method"):
        handler()(staticmethod(a_function))
    for wrong in (staticmethod, classmethod, property, functools.lru_cache, functools.cached_property):
        site = type("Wrong", (App,), {"page": wrong(handler()(lambda self: None))})
        with pytest.raises(ConfigurationError, match=r"Wrong.page has @handler"):
            site(discover=False).build()

    class Sockets(App):
        @handler("GET")
        async def ws_chat(self, ws: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="no HTTP methods"):
        Sockets(discover=False).build()


async def test_a_later_class_decides_what_a_name_is(client_for: ClientFor) -> None:
    class Base(App):
        async def one(self) -> str:
            return "base"

        async def two(self) -> str:
            return "leaked"

        async def three(self) -> str:
            return "leaked"

    class Hiding:
        def three(self) -> str:
            return "leaked"

    class Final(Hiding, Base):
        two = None  # type: ignore[assignment]

        async def one(self) -> str:
            return f"final {await super().one()}"

    client = await client_for(Final(discover=False))
    assert (await client.get("/one")).text == "final base"
    for name in ("two", "three"):
        assert (await client.get(f"/{name}")).status_code == 404


# -- names that the framework has --------------------------------------------------------------------------------------


async def test_the_plainest_names_are_free_and_the_decorators_stay(client_for: ClientFor) -> None:
    class Blog(App):
        async def post(self, slug: Any) -> str:
            return f"post {slug}"

        async def delete(self, slug: Any) -> str:
            return f"delete {slug}"

        async def options(self) -> str:
            return "options"

        async def name(self) -> str:
            return "name"

        async def settings(self) -> str:
            return "settings"

        @handler()
        async def run(self) -> str:
            return "run"

    app = Blog(discover=False)
    app.post("/explicit")(lambda: "explicit")
    client = await client_for(app)
    for path in ("post x", "delete x", "options", "name", "settings", "run"):
        assert (await client.get("/" + path.replace(" ", "/"))).text == path
    assert (await client.post("/explicit")).text == "explicit"
    assert callable(app.run)


@pytest.mark.parametrize("name", ["build", "handle", "table", "request", "url_for", "run"])
def test_what_would_break_the_framework_is_refused_at_once(name: str) -> None:
    source = f"class Broken(App):\n    async def {name}(self): ...\n"
    with pytest.raises(ConfigurationError, match=f"Broken.{name} .*@handler"):
        exec(source, {"App": App, "__name__": __name__})
    if name != "request":
        exec(source.replace("App", "Root"), {"Root": Root, "__name__": __name__})


async def test_in_a_root_every_name_is_free(client_for: ClientFor) -> None:
    class Tools(Root):
        async def build(self) -> str:
            return "build"

        async def include(self) -> str:
            return "include"

    app = App(discover=False)
    app.include(Tools())
    client = await client_for(app)
    assert (await client.get("/build")).text == "build"
    assert (await client.get("/include")).text == "include"


async def test_sites_of_several_bases_keep_the_framework_whole(client_for: ClientFor) -> None:
    class Blog(Root):
        async def post(self, slug: Any) -> str:
            return f"post {slug}"

        async def page(self) -> str:
            return "page"

    class Site(Blog, App):
        pass

    class Later(Site):
        async def index(self) -> str:
            return "index"

    class Own(Blog, App):
        async def post(self) -> str:
            return f"own {await Blog.post(self, 'x')}"

    for site, expected in ((Site, "post x"), (Later, "post x"), (Own, "own post x")):
        app = site(discover=False)
        app.post("/explicit")(lambda: "explicit")
        client = await client_for(app)
        assert (await client.get("/post/x" if site is not Own else "/post")).text == expected
        assert (await client.post("/explicit")).text == "explicit"
        assert (await client.get("/page")).text == "page"

    class Tools(Root):
        async def build(self) -> None: ...

    with pytest.raises(ConfigurationError, match=r"Tools.build .*would replace"):
        type("Broken", (Tools, App), {})

    class Patched:
        def build(self) -> Any:
            return super().build()  # type: ignore[misc]

    class Custom(Patched, App):
        pass

    assert (await (await client_for(Custom(discover=False))).get("/build")).status_code == 404


# -- any class ---------------------------------------------------------------------------------------------------------

_FORMS: dict[str, tuple[str, bool]] = {
    "async": ("    async def {name}(self): return 'reached'", True),
    "sync": ("    def {name}(self): return 'reached'", True),
    "generator": ("    def {name}(self): yield 'reached'", True),
    "stream": ("    async def {name}(self): yield 'reached'", True),
    "static": ("    @staticmethod\n    def {name}(): return 'reached'", False),
    "class": ("    @classmethod\n    def {name}(cls): return 'reached'", False),
    "property": ("    @property\n    def {name}(self): raise SystemExit", False),
    "function": ("    {name} = outside", False),
    "lambda": ("    {name} = lambda self: 'reached'", False),
    "builtin": ("    {name} = len", False),
    "value": ("    {name} = 1", False),
    "inner": ("    class {name}: ...", False),
}
_names_of_members = st.text("abcdeﬁ_ws", min_size=1, max_size=8).filter(
    lambda name: name.isidentifier() and not keyword.iskeyword(name) and name.isascii()
)
_bodies = st.dictionaries(_names_of_members, st.sampled_from(sorted(_FORMS)), max_size=8)


@pytest.mark.feature("F004-04")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(_bodies, st.booleans()), min_size=1, max_size=3), st.booleans())
def test_exactly_the_handlers_that_were_written_are_reachable(
    layers: list[tuple[dict[str, str], bool]], root: bool
) -> None:
    """Classes one below the other, some of them no sites; asked for every name that any of them has."""
    names: dict[str, Any] = {"App": App, "Root": Root, "outside": a_function, "__name__": "generated"}
    expected: dict[str, bool] = {}
    bases = ["Root" if root else "App"]
    for number, (body, is_site) in enumerate(layers):
        base = bases[-1] if is_site else "object"
        lines = [_FORMS[form][0].format(name=name) for name, form in body.items()] or ["    ..."]
        exec("\n".join([f"class C{number}({base}):", *lines]), names)
        for name, form in body.items():
            expected[name] = is_site and _FORMS[form][1] and not name.startswith(("_", "ws_"))
        if is_site:
            bases.append(f"C{number}")
        else:
            exec(f"class D{number}(C{number}, {bases[-1]}): ...", names)
            bases.append(f"D{number}")

    site = names[bases[-1]]
    app = App(discover=False) if root else site(discover=False)
    if root:
        app.include(site())
    anyio.run(_ask, app, expected)


async def _ask(app: microkit.App, expected: dict[str, bool]) -> None:
    async with TestClient(app) as client:
        for name, is_handler in expected.items():
            response = await client.get(f"/{name}")
            assert response.status_code == (200 if is_handler else 404), name
            assert (response.text == "reached") is is_handler


def test_what_the_package_exports_is_there() -> None:
    assert all(hasattr(microkit_auto, name) for name in microkit_auto.__all__)
