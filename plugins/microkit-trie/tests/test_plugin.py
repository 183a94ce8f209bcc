"""The plugin as an application sees it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import microkit_trie.plugin
from microkit import App, ConfigurationError, Converter, Request

pytestmark = pytest.mark.anyio


def test_it_says_that_its_router_is_automatic() -> None:
    info = microkit_trie.plugin.microkit_plugin_info
    assert (info.name, info.automatic) == ("trie", ("trie",))


def test_an_application_with_the_plugin_uses_the_trie_unless_it_selects_another_router() -> None:
    used: dict[Any, Any] = {}
    for router in (None, "trie", "linear"):
        app = App(plugins=[microkit_trie.plugin], discover=False, router=router)
        app.build()
        used[router] = app.router_spec.name
    assert used == {None: "trie", "trie": "trie", "linear": "linear"}


def test_installing_it_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROKIT_PLUGINS", "trie")
    app = App()
    app.build()
    assert app.router_spec.name == "trie"


def test_without_the_plugin_there_is_no_trie() -> None:
    app = App(plugins=[], discover=False, router="trie")
    with pytest.raises(ConfigurationError, match=r"router 'trie', which no active plugin brings.*linear"):
        app.build()


@pytest.mark.feature("F001-42")
async def test_converters_of_the_application_work() -> None:
    app = App(plugins=[microkit_trie.plugin], discover=False)
    app.converters.register(Converter("hex", int, lambda text: int(text, 16), "{:x}".format, rank=15))

    @app.get("/colours/{value:hex}")
    async def colour(value: int) -> Any:
        return {"value": value}

    @app.get("/colours/{name}")
    async def named(name: str) -> Any:
        return {"name": name}

    assert await _body(app, "/colours/ff") == b'{"value":255}'
    assert await _body(app, "/colours/red") == b'{"name":"red"}'
    assert app.url_for("colour", value=255) == "/colours/ff"


async def test_the_example_of_the_readme_works() -> None:
    readme = Path(microkit_trie.plugin.__file__).parents[1] / "README.md"
    if not readme.is_file():
        pytest.skip("the README is part of the checkout, not of the wheel")
    (example,) = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, str(readme), "exec"), names)
    for path, expected in re.findall(r"^# (/\S*) -> (.*)$", example, re.MULTILINE):
        assert (await _body(names["app"], path)).decode() == expected, path
    assert names["address"] == "/files/a%20b/c.txt"


async def _body(app: App, path: str) -> bytes:
    async with app.started():
        reply = await app.handle(Request("GET", path))
    assert isinstance(reply.body, bytes)
    return reply.body
