"""The switches that select plugins."""

from __future__ import annotations

from typing import Any

import pytest

from microkit.errors import SettingsError
from microkit.plugins import Selection


@pytest.mark.feature("FC-06")
@pytest.mark.parametrize(
    ("environ", "table", "flags", "expected"),
    [
        ({}, {}, [], Selection()),
        ({}, {"disable": ["a"], "required": ["b"]}, [], Selection(blocked=frozenset("a"), required=frozenset("b"))),
        ({"MICROKIT_PLUGINS": ""}, {}, [], Selection(only=frozenset())),
        ({"MICROKIT_PLUGINS": "a, b"}, {"plugins": ["c"]}, [], Selection(only=frozenset("ab"))),
        ({}, {"plugins": ["a", "my.plugin:it"]}, [], Selection(explicit=("my.plugin:it",), only=frozenset("a"))),
        ({"MICROKIT_PLUGINS": "a"}, {"disable": ["a"]}, [], Selection(only=frozenset("a"))),
        ({}, {}, ["no:a", "no:b"], Selection(blocked=frozenset("ab"))),
        ({}, {"disable": ["a"]}, ["a"], Selection(required=frozenset("a"))),
        ({}, {}, ["a", "no:a"], Selection(blocked=frozenset("a"))),
        ({"MICROKIT_PLUGINS": "a"}, {}, ["b"], Selection(only=frozenset("ab"), required=frozenset("b"))),
        ({"MICROKIT_PLUGINS": "a"}, {}, ["no:a"], Selection(only=frozenset("a"), blocked=frozenset("a"))),
        ({}, {}, ["my.plugin"], Selection(explicit=("my.plugin",))),
    ],
)
def test_switches_are_merged(
    environ: dict[str, str], table: dict[str, Any], flags: list[str], expected: Selection
) -> None:
    assert Selection.from_environment(environ, table, flags) == expected


def test_without_discovery_the_lists_of_environment_and_file_add_nothing() -> None:
    mine = object()
    selection = Selection.from_environment(
        {"MICROKIT_PLUGINS": "a,x.y"}, {"plugins": ["c.d"], "disable": ["z"]}, explicit=[mine], discover=False
    )
    assert selection.explicit == (mine,)
    assert selection.blocked == {"z"}


@pytest.mark.parametrize("value", ["a", [1], {"a": True}])
def test_a_switch_of_the_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(SettingsError, match=r'disable = \["name", \.\.\.\]'):
        Selection.from_environment({}, {"disable": value})
