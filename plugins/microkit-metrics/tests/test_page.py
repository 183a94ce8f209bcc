"""The page at a path of the application."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from microkit import App, Request
from microkit_testkit import TestClient

pytestmark = [pytest.mark.anyio, pytest.mark.feature("F002-22")]


async def test_it_parses_in_both_formats_with_the_same_families(app: App) -> None:
    async with TestClient(app) as client:
        await client.get("/nowhere")
        plain = await client.get("/metrics")
        open_ = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert open_.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert open_.text.endswith("# EOF\n")
    names = {family.name for family in parse_openmetrics(open_.text)}
    assert {"tasks_number", "tasks", "failed_tasks", "task_duration_seconds", "ws_active_connections"} <= names
    assert {"available_workers", "service", "settled_messages", "task_lag_seconds", "task_retries"} <= names
    assert {family.name for family in parse_text(plain.text)} >= names - {"service"}
    assert len(names) == open_.text.count("# TYPE ")


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=abc",
        "application/openmetrics-text; version=",
        "text/plain; version=1.x",
        "text/plain; version=1.0.0; escaping=nothing",
        ";;,,=\x00",
        "*/*",
        "a" * 5000,
    ],
)
async def test_a_strange_wish_gets_a_page_all_the_same(app: App, accept: str) -> None:
    async with TestClient(app) as client:
        response = await client.get("/metrics", headers={"accept": accept})
    assert response.status_code == 200
    assert "tasks_number" in response.text


async def test_head_has_no_body_and_options_says_what_is_allowed(app: App) -> None:
    async with TestClient(app) as client:
        head = await client.head("/metrics")
        assert (head.status_code, head.text) == (200, "")
        assert head.headers["cache-control"] == "no-store"
        options = await client.options("/metrics")
        assert options.status_code == 204
        assert set(options.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
        assert (await client.post("/metrics")).status_code == 405


async def test_without_a_path_there_is_no_page(make_app: Any) -> None:
    app = make_app(path=None, enabled=True)
    async with app.started():
        assert (await app.handle(Request("GET", "/metrics"))).http_status == 404


async def test_another_path(make_app: Any) -> None:
    app = make_app(path="/internal/figures")
    async with TestClient(app) as client:
        assert "tasks_number" in (await client.get("/internal/figures")).text


async def test_figures_of_the_process_are_there_unless_unwanted(make_app: Any, page: Any) -> None:
    assert page(make_app()).value("python_info") == 1
    assert page(make_app(process_figures=False)).value("python_info") is None


async def test_figures_go_on_after_a_restart(app: App, page: Any) -> None:
    for _ in range(2):
        async with app.started():
            await app.handle(Request("GET", "/nowhere"))
    assert page(app).value("tasks_total", route="unmatched") == 2
