"""Settings: sources and their precedence, conversion by annotation, and errors that keep secrets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microkit.errors import SettingsError
from microkit.settings import KernelSettings, SettingsSpec, find_project_table, load_settings
from tests.properties import STEADY


class Level(Enum):
    LOW = "low"
    HIGH = 2


@dataclass(frozen=True)
class Kinds:
    text: str = ""
    count: int = 0
    ratio: float = 0.0
    flag: bool = False
    level: Level = Level.LOW
    mode: Literal["fast", "safe", 3] = "fast"
    folder: Path = Path()
    names: list[str] = field(default_factory=list)
    numbers: tuple[int, ...] = ()
    pair: tuple[str, int] = ("", 0)
    tags: frozenset[str] = frozenset()
    hosts: Sequence[str] = ()
    limit: int | None = 1
    label: str | None = "x"
    either: int | str = 0
    wait: timedelta = timedelta()
    noted: Annotated[int, "a note"] = 0
    options: dict[str, int] = field(default_factory=dict)
    anything: Any = None


@dataclass(frozen=True)
class Broker:
    url: str
    prefetch: int = 10
    api_key: str = ""
    token_ttl: int = 60

    def __post_init__(self) -> None:
        if self.prefetch < 1:
            raise ValueError("prefetch must be at least 1")
        if self.api_key == "worthless":
            raise ValueError(f"bad key {self.api_key}")


def _load(type_: type[Any], name: str = "it", **sources: Any) -> Any:
    return load_settings([SettingsSpec(name, type_)], **sources)[name]


def _from_environment(key: str, text: str) -> Any:
    return getattr(_load(Kinds, environ={f"MICROKIT_IT__{key.upper()}": text}), key)


def _from_table(key: str, value: object) -> Any:
    return getattr(_load(Kinds, table={"it": {key: value}}), key)


def test_code_beats_environment_beats_file_beats_default() -> None:
    table = {"it": {"text": "file", "count": 1, "ratio": 1.5}}
    environ = {"MICROKIT_IT__TEXT": "environment", "MICROKIT_IT__COUNT": "2"}
    loaded = _load(Kinds, code={"it": {"text": "code"}}, environ=environ, table=table)
    assert (loaded.text, loaded.count, loaded.ratio, loaded.flag) == ("code", 2, 1.5, False)


def test_an_instance_from_code_is_used_as_it_is() -> None:
    mine = Kinds(text="mine")
    assert _load(Kinds, code={"it": mine}, environ={"MICROKIT_IT__TEXT": "other"}) is mine


def test_names_with_dashes_have_underscores_in_variables_and_may_have_them_in_files() -> None:
    assert _load(Kinds, "my-plugin", environ={"MICROKIT_MY_PLUGIN__COUNT": "3"}).count == 3
    assert _load(Kinds, "my-plugin", table={"my_plugin": {"count": 4}}).count == 4
    assert _load(Broker, table={"it": {"url": "x", "token-ttl": 5}}).token_ttl == 5


def test_what_is_loaded_cannot_be_changed() -> None:
    loaded = load_settings([SettingsSpec("app", KernelSettings)])
    with pytest.raises(TypeError):
        loaded["app"] = None  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        loaded["app"].log_level = "DEBUG"


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("text", " as is ", " as is "),
        ("count", "12", 12),
        ("ratio", "0.5", 0.5),
        ("flag", "Yes", True),
        ("flag", "0", False),
        ("level", "low", Level.LOW),
        ("level", "2", Level.HIGH),
        ("mode", "safe", "safe"),
        ("mode", "3", 3),
        ("folder", "/srv/data", Path("/srv/data")),
        ("names", "a, b,c", ["a", "b", "c"]),
        ("names", "", []),
        ("numbers", "1,2", (1, 2)),
        ("pair", "a,2", ("a", 2)),
        ("tags", "x,y,x", frozenset({"x", "y"})),
        ("hosts", "a,b", ("a", "b")),
        ("limit", "5", 5),
        ("limit", "", None),
        ("limit", "none", None),
        ("label", "none", "none"),
        ("label", "", None),
        ("either", "7", 7),
        ("either", "seven", "seven"),
        ("wait", "1.5", timedelta(seconds=1.5)),
        ("noted", "4", 4),
        ("anything", "text", "text"),
    ],
)
def test_variables_are_converted_by_annotation(key: str, text: str, expected: object) -> None:
    value = _from_environment(key, text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("count", "many", "must be an integer. Its type is int"),
        ("count", "1.5", "must be an integer"),
        ("flag", "maybe", "must be true or false"),
        ("level", "middle", "must be one of low, 2"),
        ("mode", "slow", "must be one of fast, safe, 3"),
        ("numbers", "1,x", r"must be an integer. Its type is tuple\[int, \.\.\.\]"),
        ("pair", "a", "must have 2 items"),
        ("limit", "much", r"must be an integer. Its type is int \| None"),
        ("wait", "soon", "must be a number of seconds"),
        ("options", "a=1", "must be an object"),
    ],
)
def test_a_wrong_variable_names_key_source_and_type(key: str, text: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=expected) as caught:
        _from_environment(key, text)
    assert f"environment variable MICROKIT_IT__{key.upper()}" in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("ratio", 2, 2.0),
        ("numbers", [1, 2], (1, 2)),
        ("tags", ["a"], frozenset({"a"})),
        ("folder", "data", Path("data")),
        ("level", 2, Level.HIGH),
        ("level", Level.HIGH, Level.HIGH),
        ("wait", 3, timedelta(seconds=3)),
        ("limit", None, None),
        ("options", {"a": 1}, {"a": 1}),
        ("anything", [1], [1]),
    ],
)
def test_native_values_are_converted_where_toml_has_no_such_type(key: str, value: object, expected: object) -> None:
    converted = _from_table(key, value)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", "12"),
        ("count", True),
        ("count", 1.0),
        ("ratio", True),
        ("flag", 1),
        ("text", 1),
        ("names", "a,b"),
        ("numbers", ["1"]),
        ("mode", True),
        ("pair", ["a", 1, 2]),
        ("limit", "5"),
    ],
)
def test_a_native_value_of_the_wrong_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(SettingsError, match=rf"'{key}' from \[tool.microkit.it\] is "):
        _from_table(key, value)
    with pytest.raises(SettingsError, match=rf"'{key}' from code is "):
        _load(Kinds, code={"it": {key: value}})


@STEADY
@given(st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
def test_any_text_is_a_value_or_a_settings_error(text: str) -> None:
    for key in Kinds.__dataclass_fields__:
        try:
            _from_environment(key, text)
        except SettingsError:
            pass


def test_unknown_keys_fail_with_the_nearest_name() -> None:
    with pytest.raises(
        SettingsError, match=r"Unknown setting 'cuont' in \[tool.microkit.it\]\. Did you mean 'count'\?"
    ):
        _from_table("cuont", 1)
    with pytest.raises(SettingsError, match=r"'MICROKIT_IT__CUONT'.* Did you mean 'MICROKIT_IT__COUNT'\?"):
        _load(Kinds, environ={"MICROKIT_IT__CUONT": "1"})
    with pytest.raises(SettingsError, match=r"'cuont' in the settings of 'it' in code\. Did you mean 'count'\?"):
        _load(Kinds, code={"it": {"cuont": 1}})
    with pytest.raises(SettingsError, match=r"no active plugin has settings of that name\. Did you mean 'trie'\?"):
        _load(Kinds, "trie", code={"tire": {}})
    with pytest.raises(SettingsError, match=r"no key 'disabled'\. Did you mean 'disable'\?"):
        _load(Kinds, table={"disabled": ["x"]})


def test_what_belongs_to_plugins_that_are_not_active_is_left_alone() -> None:
    environ = {"MICROKIT_OTHER__X": "1", "MICROKIT_PLUGINS": "it", "MICROKIT_ITEM__Y": "1"}
    assert _load(Kinds, environ=environ, table={"other": {"x": 1}, "disable": ["other"]}) == Kinds()


def test_a_missing_value_says_where_to_set_it() -> None:
    with pytest.raises(
        SettingsError, match=r"needs the setting 'url' \(str\)\. Set MICROKIT_IT__URL, or url in \[tool"
    ):
        _load(Broker)


def test_values_that_may_be_secrets_are_never_shown() -> None:
    for sources in (
        {"environ": {"MICROKIT_IT__URL": "x", "MICROKIT_IT__TOKEN_TTL": "hunter2"}},
        {"table": {"it": {"url": "x", "api_key": ["hunter2"]}}},
        {"table": {"it": {"url": ["amqp://me:hunter2@host"]}}},
    ):
        with pytest.raises(SettingsError, match="hidden") as caught:
            _load(Broker, **sources)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None
    with pytest.raises(SettingsError, match="refused: ValueError") as caught:
        _load(Broker, table={"it": {"url": "x", "api_key": "worthless"}})
    assert "worthless" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_dataclass_that_refuses_its_values_is_reported_with_its_sources() -> None:
    with pytest.raises(SettingsError, match=r"'it' are refused: ValueError: prefetch must be at least 1") as caught:
        _load(Broker, environ={"MICROKIT_IT__PREFETCH": "0"}, table={"it": {"url": "x"}})
    assert "environment variable MICROKIT_IT__PREFETCH" in str(caught.value)


def test_settings_are_frozen_dataclasses_and_declared_once() -> None:
    @dataclass
    class Thawed:
        x: int = 0

    for type_ in (Thawed, int):
        with pytest.raises(SettingsError, match=r"Put `@dataclass\(frozen=True\)` above"):
            SettingsSpec("it", type_)
    with pytest.raises(SettingsError, match="Two plugins declare settings named 'my_it'"):
        load_settings([SettingsSpec("my-it", Kinds), SettingsSpec("my_it", Kinds)])


def test_code_gives_a_mapping_or_an_instance() -> None:
    with pytest.raises(SettingsError, match="neither a mapping nor an instance of Kinds, but Broker"):
        _load(Kinds, code={"it": Broker("x")})


# -- the kernel's own --------------------------------------------------------------------------------------------------


def test_the_kernel_is_bounded_by_default_and_set_like_a_plugin() -> None:
    loaded = _load(KernelSettings, "app", environ={"MICROKIT_APP__ALLOWED_ORIGINS": "https://a.example"})
    assert loaded.allowed_origins == ("https://a.example",)
    assert loaded.max_body_size == 16 * 1024 * 1024
    unlimited = _load(KernelSettings, "app", environ={"MICROKIT_APP__MAX_BODY_SIZE": "none"})
    assert unlimited.max_body_size is None


@pytest.mark.guarantee("G10")
@pytest.mark.parametrize(
    ("key", "value"), [("max_headers", "0"), ("body_timeout", "-1"), ("body_timeout", "nan"), ("max_body_size", "-5")]
)
def test_a_limit_that_is_none_of_any_use_is_refused(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{key}.* must be"):
        _load(KernelSettings, "app", environ={f"MICROKIT_APP__{key.upper()}": value})


# -- the configuration file --------------------------------------------------------------------------------------------


def test_the_nearest_configuration_upwards_is_read(tmp_path: Path) -> None:
    below = tmp_path / "project" / "src"
    below.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.microkit.it]\ntext = "outer"\n')
    # A project file that says nothing about microkit does not hide one that does.
    (below / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert find_project_table(below) == {"it": {"text": "outer"}}
    (tmp_path / "project" / "pyproject.toml").write_text('[tool.microkit.it]\ntext = "inner"\n')
    assert find_project_table(below) == {"it": {"text": "inner"}}
    (tmp_path / "project" / "microkit.toml").write_text('disable = ["x"]\n')
    assert find_project_table(below) == {"disable": ["x"]}


def test_a_relative_start_is_searched_upwards_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "microkit.toml").write_text("[it]\ncount = 1\n")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert find_project_table(Path()) == {"it": {"count": 1}}


@pytest.mark.parametrize("content", [b"[tool.microkit", b"x = \xff"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=f"{os.sep}pyproject.toml cannot be read"):
        find_project_table(tmp_path)


def test_a_table_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\nmicrokit = 3\n")
    with pytest.raises(SettingsError, match="is no table"):
        find_project_table(tmp_path)
