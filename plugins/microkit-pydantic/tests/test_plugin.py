"""The plugin as a package: lazy, documented, and safe against messages of later pydantic versions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from pydantic_core._pydantic_core import list_all_errors

from microkit import Request
from microkit_pydantic.problems import MESSAGES


def test_pydantic_is_imported_when_a_type_is_claimed() -> None:
    program = """
import sys
import microkit_pydantic.plugin
from dataclasses import dataclass
from microkit import App
app = App(plugins=[microkit_pydantic.plugin], discover=False)
@app.get("/{id}")
async def read(id: int, page: int = 1, tags: list[str] = []) -> dict[str, int]: ...
app.build()
assert "pydantic" not in sys.modules, "too early"
@dataclass
class Item:
    n: int
app = App(plugins=[microkit_pydantic.plugin], discover=False)
@app.post("/")
async def create(item: Item) -> None: ...
app.build()
assert "pydantic" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


# What stands in messages is the developer's own, or a number.
SAFE = {
    *("ge", "gt", "le", "lt", "multiple_of", "pattern", "expected", "expected_plural", "expected_schemes"),
    *("max_length", "min_length", "actual_length", "max_digits", "decimal_places", "whole_digits", "field_type"),
    *("encoding", "encoding_error", "expected_version", "tz_actual", "tz_expected", "expected_tags"),
}


@pytest.mark.guarantee("G9")
@pytest.mark.parametrize("error", list_all_errors(), ids=lambda error: error["type"])
def test_no_message_quotes_more_than_the_schema(error: dict[str, Any]) -> None:
    quoted = set(re.findall(r"{(\w+)}", error["message_template_python"]))
    assert error["type"] in MESSAGES or quoted <= SAFE


def example_of_the_readme() -> dict[str, Any]:
    here = Path(__file__).resolve().parents[1] / "README.md"
    readme = here.read_text() if here.exists() else metadata.metadata("microkit-pydantic").get_payload()
    found = re.search(r"```python\n(.*?)```", str(readme), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(found.group(1), "README.md", "exec", dont_inherit=True), names)
    return names


@pytest.mark.feature("F001-47")
async def test_the_example_of_the_readme_works() -> None:
    app = example_of_the_readme()["app"]

    async def post(body: Any, url: str = "/orders?copies=2") -> tuple[int, Any]:
        reply = await app.handle(Request("POST", url, {"content-type": "application/json"}, json.dumps(body).encode()))
        return reply.http_status, json.loads(reply.body)

    assert await post({"item": "tea", "count": 2}) == (200, {"item": "tea", "total": 4})
    status, problem = await post({"count": "2"}, "/orders?copies=0")
    assert status == 422
    assert [each["loc"] for each in problem["errors"]] == [["body", "item"], ["body", "count"], ["query", "copies"]]
