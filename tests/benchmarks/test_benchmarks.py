"""The benchmarks' own machinery: tables, charts, and that raw ASGI and microkit answer alike. Nothing is timed here.

The figures are made up.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks import messaging, report
from tests.benchmarks.cases import CASES, chosen
from tests.benchmarks.driving import check, started
from tests.benchmarks.peers import with_microkit_trie, with_raw
from tests.benchmarks.tables import Table, duration, ratio
from tests.rabbitmq.node import private_rabbit

_MADE_UP: dict[str, Any] = {
    "in_process": {
        "taken": "2000-01-01",
        "machine": "a machine that does not exist",
        "versions": {"starlette": "0.0"},
        "figures": {
            "uvloop": {
                "hello": {"raw": 1_000.0, "microkit_trie": 2_500.0, "starlette": 99_000.0},
                "one_route": {"raw": 1_000.0, "microkit_trie": 2_000.0},
                "routes": {"raw": 1_000.0, "microkit_trie": 4_000.0},
            }
        },
        "tables": [
            {
                "title": "Made up",
                "columns": ["a", "b"],
                "rows": [["x", "1"]],
                "notes": ["† starlette, hello, JSON: why"],
            }
        ],
    },
    "messaging": {
        "taken": "2000-01-01",
        "machine": "a machine that does not exist",
        "versions": {"aio-pika": "0.0"},
        "figures": {
            "consume": {
                "aio_pika": {"cpu": 80_000.0, "rate": 1.0},
                "aio_pika_together": {"cpu": 50_000.0, "rate": 1.0},
                "microkit": {"cpu": 60_000.0, "rate": 1.0},
            },
            "publish": {"aio_pika": {"cpu": 50_000.0, "rate": 1.0}, "microkit": {"cpu": 55_000.0, "rate": 1.0}},
            "rpc": {"aio_pika": {"cpu": 1.0, "rate": 3_000.4}, "microkit": {"cpu": 1.0, "rate": 2_000.4}},
        },
        "tables": [],
    },
    "scaling": {
        "taken": "2000-01-01",
        "machine": "a machine that does not exist",
        "versions": {},
        "figures": {"routes": {"sizes": [1, 10], "costs": [1_000.0, 1_100.0]}},
        "tables": [],
    },
}


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with private_rabbit(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture
def anyio_backend() -> str:
    """What drives the applications stands on asyncio, as most of the compared frameworks do."""
    return "asyncio"


@pytest.mark.parametrize("name", CASES)
async def test_raw_asgi_and_microkit_answer_alike(name: str) -> None:
    for module in (with_raw, with_microkit_trie):
        app = module.CASES[name]()
        async with started(app):
            assert await check(app, CASES[name], 7) == ""


@pytest.mark.parametrize("name", ["aio_pika", "aio_pika_together", "microkit", "microkit_each"])
def test_messages_are_handled_once_and_calls_answered_alike(name: str, rabbit: Any) -> None:
    contender = messaging.Contender(messaging.PEERS[name], Path(sys.executable))
    cases = ["consume"] if name.endswith(("_together", "_each")) else ["consume", "rpc"]
    for case in cases:
        messaging.take_turn(contender, rabbit, case, 100)
    assert contender.missing == {}
    assert set(cases) <= contender.figures.keys()


def test_a_program_that_fails_is_named_with_its_reason(rabbit: Any) -> None:
    unknown = messaging.Peer("unknown", "unknown", program="nothing")
    contender = messaging.Contender(unknown, Path(sys.executable))
    messaging.take_turn(contender, rabbit, "consume", 100)
    assert "No such file" in contender.missing["consume"]
    assert contender.figures == {}


async def test_a_wrong_answer_is_refused() -> None:
    app = with_raw.CASES["parameter"]()
    assert "not 200" in await check(app, CASES["hello"], 7, "/users/1")


def test_the_report_shows_tables_budgets_and_charts(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- performance:start -->\nold\n<!-- performance:end -->\nafter\n")
    written = report.write(_MADE_UP, tmp_path, readme)
    assert {path.name for path in written} == {"results.json", "results.md", "chart.svg", "growth.svg", "README.md"}
    results = (tmp_path / "results.md").read_text()
    assert "| hello, JSON, in process, to raw | 3.00x | 2.50x | kept |" in results
    assert "| 1,000 routes, to one route | 1.30x | 2.00x | over |" in results
    assert "| AMQP consume, to hand-written aio-pika, acks together | 1.15x | 1.20x | over |" in results
    assert (
        "| AMQP consume, to hand-written aio-pika, acks together against ack each | 1.00x | 0.75x | kept |" in results
    )
    assert "starlette 0.0" in results
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| **microkit** | 2.50x |" in text
    assert "| aio-pika | 80.0 µs | 50.0 µs | 3,000 |" in text
    assert "| **microkit** | 0.75x | 1.10x | 2,000 |" in text
    assert "| aio-pika, acks together | 0.62x | - | - |" in text
    report.write(report.load(tmp_path / "results.json"), tmp_path, readme)
    assert readme.read_text() == text


def test_the_charts_are_well_formed_and_carry_every_label() -> None:
    for chart, labels in (
        (report.comparison(_MADE_UP), {"raw ASGI", "microkit", "starlette", "99.0 µs · 99.0x †"}),
        (report.growth(_MADE_UP), {"CPU of a request, by routes", "1.10 µs"}),
    ):
        root = ET.fromstring(chart)
        assert labels <= {element.text for element in root.iter() if element.tag.endswith("text")}


def test_a_readme_without_markers_stays_as_it_is(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing of it\n")
    assert readme not in report.write(copy.deepcopy(_MADE_UP), tmp_path, readme)
    assert readme.read_text() == "nothing of it\n"


def test_nothing_measured_is_nothing_claimed() -> None:
    assert report.headline({}) == report.comparison({}) == report.growth({}) == ""
    assert report.budget_table({}) is None


def test_a_table_is_markdown() -> None:
    table = Table("T", ["a", "b"], [["x", "1|2"]], ["why"])
    assert table.markdown() == "### T\n\n| a | b |\n| --- | ---: |\n| x | 1/2 |\n\n- why\n"


@pytest.mark.parametrize(("value", "text"), [(417, "417 ns"), (1_594, "1.59 µs"), (2.5e7, "25.0 ms"), (2e9, "2.00 s")])
def test_durations_carry_their_unit(value: float, text: str) -> None:
    assert duration(value) == text


def test_ratios_lose_digits_as_they_grow() -> None:
    assert [ratio(value) for value in (1.087, 31.42, 871.3)] == ["1.09x", "31.4x", "871x"]


def test_unknown_names_are_refused_and_the_order_is_kept() -> None:
    assert chosen(["b", "a"], ["a", "b", "c"], "thing") == ["a", "b"]
    with pytest.raises(SystemExit, match="no thing d"):
        chosen(["d"], ["a"], "thing")
