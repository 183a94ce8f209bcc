"""The configuration file counts whoever hosts the application."""

from pathlib import Path

import pytest

from microkit import App, Router, SettingsError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.microkit]\ndisable = ["trie"]\n[tool.microkit.app]\nbody_timeout = 3.5\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_app_reads_the_projects_settings_and_switches(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App()
    app.build()
    assert app.settings.body_timeout == 3.5
    assert all(record.state != "active" for record in app.plugins.records if record.name == "trie")
    monkeypatch.setenv("MICROKIT_APP__BODY_TIMEOUT", "4")
    second = App()
    second.build()
    assert second.settings.body_timeout == 4.0
    third = App(settings={"app": {"body_timeout": 5.0}})
    third.build()
    assert third.settings.body_timeout == 5.0


@pytest.mark.feature("F000-48")
def test_an_app_that_discovers_nothing_reads_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROKIT_APP__BODY_TIMEOUT", "4")
    app = App(plugins=[], discover=False)
    app.build()
    assert app.settings.body_timeout == 30.0
    assert not app.configuration


def test_a_wrong_key_is_told_with_the_nearest_name(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.microkit.app]\nbody_timeuot = 1\n")
    with pytest.raises(SettingsError, match=r"body_timeuot.*body_timeout"):
        App().build()


@pytest.mark.feature("F001-36")
def test_two_apps_share_nothing() -> None:
    one, two = App(plugins=[], discover=False), App(plugins=[], discover=False, settings={"app": {"max_headers": 7}})
    one.registry.register("name", lambda: "one")

    @one.get("/only-one")
    async def only(name) -> str:
        return name

    one.dependency_overrides["name"] = lambda: "fake"
    one.build()
    two.build()
    assert one.table.paths
    assert not two.table.paths
    assert "name" not in two.registry
    assert not two.dependency_overrides
    assert (one.settings.max_headers, two.settings.max_headers) == (200, 7)


def test_what_is_declared_after_a_look_at_the_table_counts_too() -> None:
    app = App(plugins=[], discover=False)

    @app.get("/first")
    async def first() -> str:
        return "first"

    assert app.url_for("first") == "/first"
    group = Router("/group")
    app.include(group)
    assert app.url_for("first") == "/first"

    @group.get("/second")
    async def second() -> str:
        return "second"

    assert app.url_for("second") == "/group/second"
